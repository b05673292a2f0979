/** @file metrics.jsonl and samples.jsonl: a line for every step, a line for every sample. */
import {
  AppendFile,
  baseName,
  exists,
  joinPath,
  makeDirectory,
  readText,
  writeAtomic,
  writeTextAtomic,
} from "../../platform/files.ts";
import type { RunEvent } from "../events.ts";
import type { Sink } from "./sink.ts";

const FILES = ["metrics.jsonl", "samples.jsonl"];

/** Writes the numbers of each step to metrics.jsonl, and its samples to samples.jsonl. */
export class JSONLSink implements Sink {
  readonly #metrics: AppendFile;
  readonly #samples: AppendFile;

  private constructor(metrics: AppendFile, samples: AppendFile) {
    this.#metrics = metrics;
    this.#samples = samples;
  }

  /**
   * Open both files in `directory`, which is created if needed. Lines are added to what is there.
   * @param options.stepsTaken of a run that goes on after so many steps: lines of later ones, and a line that a process was
   *   killed in, are dropped first
   * @throws checkpoint - a directory that cannot be written
   */
  static async open(directory: string, options: { stepsTaken?: number } = {}): Promise<JSONLSink> {
    await makeDirectory(directory);
    const [metrics, samples] = FILES.map((name) => joinPath(directory, name));
    const { stepsTaken } = options;
    if (stepsTaken !== undefined)
      for (const path of [metrics, samples]) await keepLines(path, ({ step }) => step <= stepsTaken);
    return new JSONLSink(await AppendFile.open(metrics), await AppendFile.open(samples));
  }

  /**
   * Write the lines of a step; other events are nothing to it.
   * @throws checkpoint - a full disk and its like
   */
  async event(event: RunEvent): Promise<void> {
    if (event.type !== "step") return;
    await this.#metrics.appendLine(JSON.stringify({ step: event.step, ...event.metrics }));
    await this.#samples.appendLines(event.samples.map((s) => JSON.stringify({ step: event.step, ...s })));
  }

  /** Which of the files is not there any more, in words. @internal */
  async lost(): Promise<string | undefined> {
    for (const file of [this.#metrics, this.#samples])
      if (!(await file.isInPlace()))
        return `no ${baseName(file.path)} of this run any more: deleted, moved or replaced`;
    return undefined;
  }

  /** What was logged, into another directory. Nothing is missing, even where the files have no name any more. @internal */
  async copyTo(directory: string): Promise<void> {
    for (const file of [this.#metrics, this.#samples])
      await writeAtomic(joinPath(directory, baseName(file.path)), async (sink) => sink.write(await file.contents()));
  }

  /** What was logged is on the disk, whatever happens to the machine. */
  async flush(): Promise<void> {
    await this.#metrics.flush();
    await this.#samples.flush();
  }

  /** Close both files. */
  async close(): Promise<void> {
    await this.#metrics.close();
    await this.#samples.close();
  }
}

/** Drop what an interrupted run logged after the checkpoint it is resumed from, and a line it was killed in. */
export async function keepLines(path: string, keep: (line: { step: number }) => boolean): Promise<void> {
  if (!(await exists(path))) return;
  const lines = (await readText(path)).split("\n").filter((line) => {
    try {
      return keep(JSON.parse(line));
    } catch {
      return false;
    }
  });
  await writeTextAtomic(path, lines.map((line) => `${line}\n`).join(""));
}
