/** @file What a run writes down beside its checkpoints. */

import type { TrainEvent } from "../algorithms/events.ts";
import type { RewardSample } from "../experience/rewards.ts";
import {
  AppendFile,
  baseName,
  exists,
  joinPath,
  readJson,
  readText,
  writeAtomic,
  writeTextAtomic,
} from "../platform/files.ts";
import { TensorBoardWriter } from "./tensorboard.ts";

export const CONFIG_FILE = "config.json";
const METRICS_FILE = "metrics.jsonl";
const SAMPLES_FILE = "samples.jsonl";
const EVALUATION_FILE = "evaluation.json";

/** Responses to held-out prompts, and their mean score. */
export interface Evaluation {
  samples: (RewardSample & { score: number })[];
  mean: number;
  standardError: number;
}

/** evaluation.json: what came of which prompts, before training and after. */
interface EvaluationRecord {
  /** The checksum of the prompts. */
  prompts: string;
  before?: Evaluation;
  after?: Evaluation;
}

/** config.json, metrics.jsonl, samples.jsonl, evaluation.json and TensorBoard events of a run directory. */
export class RunLogs {
  readonly #directory: string;
  readonly #record: string;
  readonly #metrics: AppendFile;
  readonly #samples: AppendFile;
  readonly #tensorboard: TensorBoardWriter;

  private constructor(
    directory: string,
    record: string,
    metrics: AppendFile,
    samples: AppendFile,
    tensorboard: TensorBoardWriter,
  ) {
    this.#directory = directory;
    this.#record = record;
    this.#metrics = metrics;
    this.#samples = samples;
    this.#tensorboard = tensorboard;
  }

  /** @param record what config.json holds */
  static async open(directory: string, record: object, stepsTaken: number): Promise<RunLogs> {
    const text = `${JSON.stringify(record, null, 2)}\n`;
    await writeTextAtomic(joinPath(directory, CONFIG_FILE), text);
    const files = [METRICS_FILE, SAMPLES_FILE].map((name) => joinPath(directory, name));
    for (const path of files) await keepLinesUpTo(path, stepsTaken);
    return new RunLogs(
      directory,
      text,
      await AppendFile.open(files[0]),
      await AppendFile.open(files[1]),
      await TensorBoardWriter.open(joinPath(directory, "tb"), { firstStep: stepsTaken + 1 }),
    );
  }

  /** Which of the files is not there any more, in words. */
  async lost(): Promise<string | undefined> {
    for (const file of [this.#metrics, this.#samples])
      if (!(await file.isInPlace()))
        return `no ${baseName(file.path)} of this run any more: deleted, moved or replaced`;
    return undefined;
  }

  /** What was logged, into another directory. Nothing is missing, even where the files themselves have no name any more. */
  async copyTo(directory: string): Promise<void> {
    await writeTextAtomic(joinPath(directory, CONFIG_FILE), this.#record);
    for (const file of [this.#metrics, this.#samples])
      await writeAtomic(joinPath(directory, baseName(file.path)), async (sink) => sink.write(await file.contents()));
  }

  async step(event: Extract<TrainEvent, { type: "step" }>): Promise<void> {
    await this.#metrics.appendLine(JSON.stringify({ step: event.step, ...event.metrics }));
    await this.#samples.appendLines(event.samples.map((s) => JSON.stringify({ step: event.step, ...s })));
    await this.#tensorboard.scalars(event.step, event.metrics);
  }

  /** What is known of these prompts: nothing where others were evaluated, or none. */
  async evaluations(prompts: string): Promise<Omit<EvaluationRecord, "prompts">> {
    const path = joinPath(this.#directory, EVALUATION_FILE);
    const record = (await readJson(path).catch(() => null)) as EvaluationRecord | null;
    return record?.prompts === prompts ? { before: record.before, after: record.after } : {};
  }

  /** An evaluation is kept, so that a resumed run can still compare with how it began. */
  async evaluated(prompts: string, when: "before" | "after", evaluation: Evaluation): Promise<void> {
    const record = { prompts, ...(await this.evaluations(prompts)), [when]: evaluation };
    await writeTextAtomic(joinPath(this.#directory, EVALUATION_FILE), `${JSON.stringify(record)}\n`);
  }

  /** What is in a checkpoint is in the logs too, whatever happens to the machine. */
  async flush(): Promise<void> {
    await this.#metrics.flush();
    await this.#samples.flush();
  }

  async close(): Promise<void> {
    await this.#metrics.close();
    await this.#samples.close();
    await this.#tensorboard.close();
  }
}

/** Drop what an interrupted run logged after the checkpoint it is resumed from, and a line it was killed in. */
async function keepLinesUpTo(path: string, step: number): Promise<void> {
  if (!(await exists(path))) return;
  const lines = (await readText(path)).split("\n").filter((line) => {
    try {
      return JSON.parse(line).step <= step;
    } catch {
      return false;
    }
  });
  await writeTextAtomic(path, lines.map((line) => `${line}\n`).join(""));
}
