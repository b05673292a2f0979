/** @file Every option of a PPO run in one table: the groups, each from the room that reads it, in the order they are shown. */
import type { z } from "zod";
import { choice, count, notNegative, type OptionsOf, onOff, positive } from "../../base/option-values.ts";
import type { OptionTable } from "../../base/options.ts";
import { promptTable } from "../../data/encode.ts";
import { honestyTable, judgedTable, rewardTable, rolloutTable } from "../../experience/options.ts";
import type { RewardFunction } from "../../experience/sample.ts";
import type { CausalLMWithValueHead } from "../../model/model.ts";
import { optimizerTable } from "../../nn/options.ts";
import { advantageTable, klTable, scoreTable } from "../../rl/options.ts";
import { samplingTable } from "../../sample/options.ts";
import type { Transform } from "../../sample/transforms.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { PPOConfig } from "./config-type.ts";
import { loraTable } from "./lora.ts";
import { presetNames } from "./presets.ts";

/** How long a run is, and what stays of it. */
export const runTable = {
  steps: [count(), 100, "steps to take"],
  seed: [count(0, Number.MAX_SAFE_INTEGER), 0, "seed for everything random"],
  batchSize: [count(), 128, "prompts per step"],
} as const;

export const keptTable = {
  saveEvery: [count(0), 50, "steps between checkpoints; 0: only at the end and when interrupted"],
  keepCheckpoints: [count(), 2, "checkpoints kept; older ones are deleted"],
  keepBest: [onOff, true, "also keep the checkpoint with the highest mean reward, however old"],
  logSamples: [count(0), 4, "responses written to samples.jsonl per step"],
} as const;

/** How a batch is gone through. */
export const passTable = {
  miniBatchSize: [count(), 32, "responses per optimizer step"],
  microBatchSize: [count(0), 0, "responses per forward and backward pass, gradients added up; 0: the whole minibatch"],
  ppoEpochs: [count(), 4, "passes over each batch"],
  gradientCheckpointing: [onOff, false, "recompute activations in the backward pass: less memory, more time"],
} as const;

/** What learns. */
export const modelTable = {
  valueHeadInit: [
    choice(["normal", "zero", "uniform"]),
    "normal",
    "how to initialize a missing value head: normal, all zero, or uniform as in torch.nn.Linear",
  ],
  valueHeadStd: [notNegative, 0, "standard deviation of a normal value head; 0: the model's initializer_range"],
  valueModel: [
    choice(["shared", "separate"]),
    "shared",
    "a value head on the policy, or a separate model that starts as a copy of it",
  ],
  frozenLayers: [count(0), 0, "freeze the embeddings and this many blocks; 0: train everything"],
} as const;

/** The loss, and when to stop. */
export const lossTable = {
  clipRange: [positive, 0.2, "policy ratio clip"],
  clipRangeValue: [positive, 0.2, "how far a value may move per batch"],
  vfCoef: [notNegative, 0.1, "weight of the value loss"],
  entropyCoef: [notNegative, 0, "weight of an entropy bonus"],
  targetKl: [notNegative, 0, "no more epochs once the KL from the old policy, per token, is 1.5 times this; 0: all"],
  ratioThreshold: [notNegative, 10, "a minibatch whose mean policy ratio is above this is skipped; 0: never"],
} as const;

export type PassConfig = OptionsOf<typeof passTable>;
export type TrainedConfig = OptionsOf<typeof modelTable>;
export type LossConfig = OptionsOf<typeof lossTable>;

const { ppoEpochs, gradientCheckpointing, ...batches } = passTable;
const { maskReplay, audit } = honestyTable;

/** One line for each option; the command line prints these, and the type PPOConfig is written from them. @internal */
export const ppoOptions = {
  preset: [choice(presetNames), "default", "published values for every option that is not given"],
  ...runTable,
  ...batches,
  ...rolloutTable,
  ppoEpochs,
  ...samplingTable,
  ...promptTable,
  ...rewardTable,
  maskReplay,
  ...judgedTable,
  ...scoreTable,
  ...optimizerTable,
  ...modelTable,
  ...loraTable,
  ...klTable,
  ...advantageTable,
  ...lossTable,
  gradientCheckpointing,
  ...keptTable,
  audit,
} as const satisfies {
  readonly [K in keyof PPOConfig]: readonly [z.ZodType<PPOConfig[K]>, PPOConfig[K], string];
};

/** Headings for those who show the table: each stands before the option it is named for. */
export const optionGroups: { readonly [name in keyof PPOConfig]?: string } = {
  preset: "The run:",
  maxNewTokens: "Responses:",
  truncateToken: "Scores:",
  learningRate: "Optimizer and model:",
  lora: "LoRA:",
  klCoef: "KL penalty:",
  gamma: "Advantages and loss:",
  gradientCheckpointing: "Memory, checkpoints, checks:",
};

export type { PPOConfig };
export type PPOOptionName = keyof PPOConfig;

/** The default of every option of a table. */
export const defaultsOf = <C>(table: OptionTable): C =>
  Object.fromEntries(Object.entries(table).map(([name, [, value]]) => [name, value])) as C;

/** The default of every PPO option. */
export const PPO_DEFAULTS: Readonly<PPOConfig> = defaultsOf<PPOConfig>(ppoOptions);

/** What is trained, and by what. */
export interface RolloutTrainerOptions<Config> {
  /** The policy. In eval mode; its weights are changed in place. */
  model: CausalLMWithValueHead;
  /** The model's. */
  tokenizer: Tokenizer;
  /** Judges responses: higher is better. */
  reward: RewardFunction;
  /** How errors call the reward. */
  rewardName?: string;
  /** Options that differ from the defaults. */
  config?: Partial<Config>;
  /** Changes of the logits beyond those of the config. To resume a run, give them again. */
  transforms?: readonly Transform[];
  /** What the KL is measured against; default: a frozen copy of the model as it is now. */
  reference?: CausalLMWithValueHead;
}

/** The options that all such trainers read. */
export interface RolloutTrainerConfig
  extends Omit<
    PPOConfig,
    | "preset"
    | "ppoEpochs"
    | "valueHeadInit"
    | "valueHeadStd"
    | "valueModel"
    | "klController"
    | "klTarget"
    | "klHorizon"
    | "klPenalty"
    | "gamma"
    | "lambda"
    | "whitenRewards"
    | "whitenAdvantages"
    | "whiteningScope"
    | "whiteningVariance"
    | "clipRangeValue"
    | "vfCoef"
    | "entropyCoef"
    | "targetKl"
    | "ratioThreshold"
  > {
  /** Responses per step. */
  batchSize: number;
  /** Of which so many are to the same prompt. Default: 1. */
  numGenerations?: number;
}
