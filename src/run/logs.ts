/** @file What a run writes down beside its checkpoints: config.json, and what the sinks of a run directory write. */
import { joinPath, writeTextAtomic } from "../platform/files.ts";
import type { RunEvent } from "./events.ts";
import { EvaluationSink } from "./sinks/evaluation.ts";
import { EventLogSink } from "./sinks/event-log.ts";
import { JSONLSink } from "./sinks/jsonl.ts";
import type { Sink } from "./sinks/sink.ts";
import { TensorBoardSink } from "./sinks/tensorboard.ts";

export const CONFIG_FILE = "config.json";

/** The sinks of a run directory, as one. Unlike a user's, each of them must work: the run ends with what they throw. */
export class RunLogs implements Sink {
  readonly #config: string;
  readonly #lines: JSONLSink;
  readonly #said: EventLogSink;
  readonly #sinks: readonly Sink[];
  readonly evaluations: EvaluationSink;

  private constructor(
    directory: string,
    config: string,
    [lines, tensorboard, said]: [JSONLSink, TensorBoardSink, EventLogSink],
    prompts: string,
  ) {
    this.#config = config;
    this.#lines = lines;
    this.#said = said;
    this.evaluations = new EvaluationSink(directory, prompts);
    this.#sinks = [lines, tensorboard, said, this.evaluations];
  }

  /**
   * Write config.json, and open the logs of a run that has taken `stepsTaken` steps.
   * @param config  what config.json holds
   * @param prompts checksum of the evaluation prompts
   */
  static async open(directory: string, config: object, stepsTaken: number, prompts: string): Promise<RunLogs> {
    const text = `${JSON.stringify(config, null, 2)}\n`;
    await writeTextAtomic(joinPath(directory, CONFIG_FILE), text);
    const lines = await JSONLSink.open(directory, { stepsTaken });
    const tensorboard = await TensorBoardSink.open(joinPath(directory, "tb"), { stepsTaken });
    const said = await EventLogSink.open(directory, { stepsTaken });
    return new RunLogs(directory, text, [lines, tensorboard, said], prompts);
  }

  /** Which of the files is not there any more, in words. */
  lost(): Promise<string | undefined> {
    return this.#lines.lost();
  }

  /** What was logged, into another directory. */
  async copyTo(directory: string): Promise<void> {
    await writeTextAtomic(joinPath(directory, CONFIG_FILE), this.#config);
    await this.#lines.copyTo(directory);
    await this.#said.copyTo(directory);
  }

  /** The error that ends the run. Nothing where it cannot be written: the run has another to tell. */
  failed(error: unknown): Promise<void> {
    return this.#said.failed(error).catch(() => {});
  }

  async event(event: RunEvent): Promise<void> {
    for (const sink of this.#sinks) await sink.event(event);
  }

  /** What is in a checkpoint is in the logs too, whatever happens to the machine. */
  flush(): Promise<void> {
    return this.#lines.flush();
  }

  async close(): Promise<void> {
    for (const sink of this.#sinks) await sink.close();
  }
}
