/** @file evaluation.json: how held-out prompts were answered before training and after, so that a resumed run can still compare. */
import type { RewardSample } from "../../experience/reward-functions.ts";
import { joinPath, readJson, writeTextAtomic } from "../../platform/files.ts";
import type { RunEvent } from "../events.ts";
import type { Sink } from "./sink.ts";

const FILE = "evaluation.json";

/** Responses to held-out prompts, and their mean score. */
export interface Evaluation {
  samples: (RewardSample & { score: number })[];
  mean: number;
  standardError: number;
}

interface EvaluationRecord {
  /** The checksum of the prompts. */
  prompts: string;
  before?: Evaluation;
  after?: Evaluation;
}

/** Writes evaluation.json of a run directory. */
export class EvaluationSink implements Sink {
  readonly #path: string;
  readonly #prompts: string;

  /** @param prompts the checksum of the evaluation prompts */
  constructor(directory: string, prompts: string) {
    this.#path = joinPath(directory, FILE);
    this.#prompts = prompts;
  }

  /** What is known of these prompts: nothing where others were evaluated, or none. */
  async known(): Promise<Omit<EvaluationRecord, "prompts">> {
    const record = (await readJson(this.#path).catch(() => null)) as EvaluationRecord | null;
    return record?.prompts === this.#prompts ? { before: record.before, after: record.after } : {};
  }

  async event(event: RunEvent): Promise<void> {
    if (event.type !== "evaluation") return;
    const { when, samples, mean, standardError } = event;
    const evaluation: Evaluation = { samples, mean, standardError };
    const record = { prompts: this.#prompts, ...(await this.known()), [when]: evaluation };
    await writeTextAtomic(this.#path, `${JSON.stringify(record)}\n`);
  }

  async close(): Promise<void> {}
}
