/** @file An algorithm as a run sees it. run.ts drives these and knows none of them. */
import type { z } from "zod";
import type { AlgorithmName, RunConfig, Trainer } from "../algorithms/algorithm.ts";
import type { TrainEvent } from "../algorithms/events.ts";
import type { Checkpoint } from "../checkpoint/run-checkpoints.ts";
import type { CheckpointState } from "./checkpoint-state.ts";
import type { RunEvent } from "./events.ts";
import type { RunInputs } from "./inputs.ts";
import type { OptionRules } from "./resume.ts";

/** What a run begins with. */
export interface Beginning<Spec, Config> {
  spec: Spec;
  config: Config;
  /** Where the run goes on; undefined: it begins. */
  checkpoint?: Checkpoint & { state: CheckpointState };
  signal: AbortSignal;
  /**
   * Compare with what the checkpoint was trained with. Called as soon as something is known, before it is used.
   * @returns changes that are allowed, in words
   * @throws usage - changes that are not allowed
   */
  compare(now: Partial<RunInputs>): string[];
}

/** A run that is set up: nothing of it is trained or written yet. */
export interface Begun {
  /** At its first step, or where the checkpoint left it. */
  trainer: Trainer<never, { step: number }>;
  /** The trainer's, on the data of the run. */
  train(signal: AbortSignal): AsyncGenerator<TrainEvent>;
  /** What it learns from. */
  inputs: RunInputs;
  /** What config.json says of model and data. */
  record: Readonly<Record<string, unknown>>;
  /** What the event `loaded` says of the model. */
  loaded: Omit<Extract<RunEvent, { type: "loaded" }>, "type" | "resumedAt" | "best">;
  /** What differs from how the run began, and may: to tell the user. */
  changes: readonly string[];
  /** Measure the model, the same way before and after; undefined: there is nothing to measure it on. */
  evaluate?(when: "before" | "after"): AsyncGenerator<RunEvent>;
  dispose(): void | Promise<void>;
}

/** How a run of an algorithm is set up. */
export interface RunKind<Spec, Config extends RunConfig> {
  readonly algorithm: AlgorithmName;
  /**
   * A complete, checked config from some options.
   * @param where what errors call their origin
   * @throws config - an unknown name, a value out of range
   */
  config(options: Readonly<Record<string, unknown>>, where?: string): Config;
  /** Which options may change when a run is resumed. */
  readonly options: OptionRules;
  /** What trainer.json may say. */
  readonly checkpoint: z.ZodType;
  /** Events while it is set up, then the run; undefined: interrupted before there was anything to save. */
  begin(given: Beginning<Spec, Config>): AsyncGenerator<RunEvent, Begun | undefined>;
}
