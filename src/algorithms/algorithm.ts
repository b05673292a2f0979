/** @file What a run drives: the trainer of an algorithm, which takes steps, says what it did, and can be saved between them. */
import type { SequenceClassifier } from "../model/classifier/classifier.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { AdamW } from "../nn/adamw.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { TrainEvent } from "./events.ts";

/** The algorithms, by the names that run, command line and config.json know. */
export type AlgorithmName = "ppo" | "grpo" | "rloo" | "dpo" | "sft" | "reward";

export const ALGORITHMS: readonly AlgorithmName[] = ["ppo", "grpo", "rloo", "dpo", "sft", "reward"];

/** A model that is trained, with its optimizer. */
export interface TrainedPart {
  /** Where it is in a checkpoint: "" is the checkpoint itself, and the model that is loaded from it; others have a directory. */
  readonly name: string;
  /** Its weights are changed in place. */
  readonly model: CausalLMWithValueHead | SequenceClassifier;
  /** Of the weights that are trained; its moments are saved beside them. */
  readonly optimizer: AdamW;
}

/** Learners by their name in a checkpoint; those that are not there are left out. */
export const partsOf = (learners: Readonly<Record<string, Pick<TrainedPart, "model" | "optimizer"> | undefined>>) =>
  Object.entries(learners).flatMap(([name, learner]): TrainedPart[] =>
    learner ? [{ name, model: learner.model, optimizer: learner.optimizer }] : [],
  );

/** What every run has options for. */
export interface RunConfig {
  /** Steps to take. */
  readonly steps: number;
  /** Seed of everything random. */
  readonly seed: number;
  /** Steps between checkpoints; 0: only at the end and when interrupted. */
  readonly saveEvery: number;
  /** Checkpoints kept; older ones are deleted. */
  readonly keepCheckpoints: number;
  /** Also keep the best checkpoint, however old. */
  readonly keepBest: boolean;
}

/** Weights as they were after earlier steps: what responses that are drawn ahead (async) are drawn with. */
export interface OlderWeights {
  /** Numbers of each. */
  readonly size: number;
  /** After how many steps they must have been taken, for a run that has taken so many. */
  needed(taken: number): readonly number[];
  /** Those that are needed, by how many steps had been taken: what is trained, in the order of the model's table. */
  saved(taken: number): ReadonlyMap<number, Float32Array>;
  /** Go on from what was saved. */
  restore(saved: ReadonlyMap<number, Float32Array>): void;
}

/**
 * An algorithm at work. Between two `step` events of {@link Trainer.train} its models, optimizers and state belong together; saved
 * then and restored, it goes on bit for bit as if nothing had happened.
 *
 * @typeParam Data  what it learns from
 * @typeParam State where it is, beside weights and moments: plain data, safe for JSON
 */
export interface Trainer<Data, State extends { step: number }> {
  /** Complete and checked. */
  readonly config: RunConfig;
  /** The model's, saved beside it. */
  readonly tokenizer: Tokenizer;
  /** Steps taken. */
  readonly stepsTaken: number;
  /** What a checkpoint holds. The first part is the model that users load. */
  readonly parts: readonly TrainedPart[];
  /** Beside the parts, where responses are drawn ahead. */
  readonly olderWeights?: OlderWeights | undefined;
  /** Whether weights, optimizers and state belong together: false while a step's updates are under way. */
  readonly canBeSaved: boolean;
  /** Optimizer steps of a step that has not ended, or did not end well. */
  readonly unsettledUpdates: number;
  /** Take steps until there are `config.steps`, or `signal` aborts: then the step in progress is finished. The last event is `done`. */
  train(data: Data, options?: { signal?: AbortSignal }): AsyncGenerator<TrainEvent>;
  /** Where it is, to be saved with the parts. */
  getState(): State;
  /** Go on from a saved state. Whoever saved them restores weights (older ones, too) and, before this, optimizers. */
  setState(state: State): void;
}
