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
  /** Asks for checkpoints while the run goes on. */
  saves?: SaveRequests;
}

/** Asks a run to save: {@link SaveRequests.ask} has it write a checkpoint after the step in progress. */
export class SaveRequests {
  #asked = false;
  #heard = () => {};

  /** Save after the step in progress. Asked several times before then, it saves once. */
  ask(): void {
    this.#asked = true;
    this.#heard();
  }

  /** Whether it was asked for since the last time. @internal */
  take(): boolean {
    const asked = this.#asked;
    this.#asked = false;
    return asked;
  }

  /** Have somebody else hear of it, who runs the run. @internal */
  passOn(heard: () => void): void {
    this.#heard = heard;
    if (this.#asked) heard();
  }
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
