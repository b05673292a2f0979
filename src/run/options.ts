/** @file What is given to a run beside its data: a reward, a signal, sinks, and what may change when it is resumed. */
import { fail } from "../base/errors.ts";
import type { RewardFunction } from "../experience/sample.ts";
import type { Sink } from "./sinks/sink.ts";

/** Who may stop a run, and who listens to it. */
export interface RunOptions {
  /** An abort asks the run to end after the step in progress, with everything saved. */
  signal?: AbortSignal;
  /** What listens to the run, beside its own logs. Called on the caller's thread. */
  sinks?: readonly Sink[];
}

/** The reward is left out where nothing is rewarded. */
export type RewardAndOptions = [reward: RewardFunction, options?: RunOptions] | [options?: RunOptions];

export function rewardAndOptions([first, second]: RewardAndOptions): {
  reward?: RewardFunction | undefined;
  options: RunOptions;
} {
  return typeof first === "function" ? { reward: first, options: second ?? {} } : { options: first ?? {} };
}

export const noReward = (): never =>
  fail("usage", {
    where: "run, reward",
    found: "nothing",
    expected: "a function that scores responses",
    fix: "pass one after the spec",
  });

/** What a resumed run may be given anew if that is allowed: docs/resuming.md has the table. */
export type Changeable = "prompts" | "data" | "evaluation" | "model" | "options";

export const changeable: readonly Changeable[] = ["prompts", "data", "evaluation", "model", "options"];
