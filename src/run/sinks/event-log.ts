/** @file events.jsonl: what a run said beside its numbers, with the time, warnings and the error that ended it among it. */
import { messageOf, ValueheadError } from "../../base/errors.ts";
import { AppendFile, joinPath, makeDirectory, writeAtomic } from "../../platform/files.ts";
import type { RunEvent } from "../events.ts";
import { keepLines } from "./jsonl.ts";
import type { Sink } from "./sink.ts";

const FILE = "events.jsonl";

/** Writes what is no number and no sample of a step to events.jsonl, a line for each event, with its time. */
export class EventLogSink implements Sink {
  readonly #file: AppendFile;

  private constructor(file: AppendFile) {
    this.#file = file;
  }

  /**
   * Open the file in `directory`, which is created if needed. Lines are added to what is there.
   * @param options.stepsTaken of a run that goes on after so many steps: lines about later ones are dropped first
   * @throws checkpoint - a directory that cannot be written
   */
  static async open(directory: string, options: { stepsTaken?: number } = {}): Promise<EventLogSink> {
    await makeDirectory(directory);
    const path = joinPath(directory, FILE);
    const { stepsTaken } = options;
    if (stepsTaken !== undefined) await keepLines(path, ({ step = 0 }) => step <= stepsTaken);
    return new EventLogSink(await AppendFile.open(path));
  }

  /**
   * Write the line of an event; steps, samples and progress have none.
   * @throws checkpoint - a full disk and its like
   */
  async event(event: RunEvent): Promise<void> {
    if (event.type === "step" || event.type === "progress" || event.type === "reading") return;
    if (event.type === "evaluation") {
      const { type, when, mean, standardError } = event; // the answers are in evaluation.json
      return this.#line({ type, when, mean, standardError });
    }
    return this.#line(event);
  }

  /** The error that ends a run. */
  failed(error: unknown): Promise<void> {
    if (!(error instanceof ValueheadError)) return this.#line({ type: "error", message: messageOf(error) });
    const { kind, problem } = error;
    return this.#line({ type: "error", kind, ...problem });
  }

  #line(what: object): Promise<void> {
    return this.#file.appendLine(JSON.stringify({ time: new Date().toISOString(), ...what }));
  }

  /** What was logged, into another directory. @internal */
  copyTo(directory: string): Promise<void> {
    return writeAtomic(joinPath(directory, FILE), async (sink) => sink.write(await this.#file.contents()));
  }

  /** Close the file. */
  close(): Promise<void> {
    return this.#file.close();
  }
}
