/** @file What page and training worker say to each other. */
import type { Device } from "../../src/backend/devices.ts";
import type { PlainError } from "../../src/base/thrown.ts";
import type { RewardSample } from "../../src/experience/sample.ts";
import type { PageData, RunChange, SampleDetail } from "../../src/run/page/data.ts";

/** What is rewarded. */
export type RewardKind = "positive" | "length" | "regex" | "code";

/** Everything that a person chooses. It is written into config.json of the run, so that a resumed run has it again. */
export interface Settings {
  readonly reward: RewardKind;
  readonly pattern: string;
  readonly code: string;
  readonly steps: number;
  readonly learningRate: number;
  readonly klCoef: number;
  readonly batchSize: number;
  readonly seed: number;
  readonly device: Device;
  /** One a line. */
  readonly prompts: string;
}

/** The places where a demonstration of a gap can be. */
export type GapName = "padding" | "min-length" | "top-p";

export type ToEngine =
  /** Show what an earlier visit left. */
  | { type: "look" }
  | { type: "train"; settings: Settings; heldOut: readonly string[]; resume: boolean }
  | { type: "gap"; name: GapName; steps: number; seed: number }
  /** End after the step in progress, with everything saved. */
  | { type: "stop" }
  | { type: "scores"; id: number; scores: number[] }
  | { type: "failed"; id: number; error: PlainError }
  /** A sample with its tokens. */
  | { type: "sample"; id: number; run: number; index: number }
  /** The newest checkpoint, as a tar archive. */
  | { type: "pack"; id: number };

export type FromEngine =
  | { type: "data"; data: PageData; lasting: boolean; threads: number }
  | { type: "change"; change: RunChange }
  | { type: "score"; id: number; batch: RewardSample[] }
  /** The work is over: finished, stopped, or ended by an error. */
  | { type: "ended"; error?: PlainError }
  | { type: "answer"; id: number; value?: SampleDetail | Packed; error?: PlainError };

export interface Packed {
  readonly name: string;
  readonly blob: Blob;
}
