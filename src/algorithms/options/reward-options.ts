/** @file Options of reward-model runs. */
import { z } from "zod";
import { choice, count, notNegative, onOff } from "../../base/option-values.ts";
import { librarySource, type OptionSource, resolveOptions } from "../../base/options.ts";
import type { LongTexts } from "../../data/judgements.ts";
import { optimizerTable } from "../../nn/options.ts";
import type { RunConfig } from "../algorithm.ts";
import { defaultsOf, keptTable, modelTable, type PPOConfig, passTable, runTable } from "./ppo-options.ts";
import { adviceOn, nameHere } from "./trl-names.ts";

/** Every option of a run that trains a reward model or a classifier. */
export interface RewardConfig
  extends RunConfig,
    Pick<
      PPOConfig,
      | "learningRate"
      | "schedule"
      | "warmupSteps"
      | "beta1"
      | "beta2"
      | "adamEpsilon"
      | "adamBiasCorrection"
      | "weightDecay"
      | "maxGradNorm"
      | "frozenLayers"
      | "gradientCheckpointing"
    > {
  /** Judgements per step: pairs, or texts. A whole number, at least 1. Default: 32. */
  batchSize: number;
  /** Judgements per forward and backward pass, gradients added up; 0: the whole batch. Default: 8. */
  microBatchSize: number;
  /** Weight of a loss that keeps the two outputs of a pair around 0. At least 0. Default: 0. */
  centerRewards: number;
  /** Names of the labels by their numbers, with commas between them; empty: those of the model or of the data. Default: "". */
  labels: string;
  /** Whether the end of text follows texts that are no conversations, when it learns and when it judges. Default: true. */
  endOfText: boolean;
  /** Texts that are longer than the context. Default: "error". */
  longTexts: LongTexts;
  /** Steps between measurements on held-out judgements; 0: only at the end. Default: 50. */
  evalEvery: number;
}

const { maxSkippedSteps: _, learningRate, schedule, ...optimizer } = optimizerTable;
const { logSamples: __, keepBest: ___, ...kept } = keptTable;

/** One line for each option. @internal */
export const rewardOptions = {
  steps: runTable.steps,
  seed: runTable.seed,
  batchSize: [count(), 32, "judgements per step: pairs, or texts with a score or a label"],
  microBatchSize: [count(0), 8, "judgements per forward and backward pass, gradients added up; 0: the whole batch"],
  centerRewards: [notNegative, 0, "weight of a loss that keeps the two outputs of a pair around 0"],
  labels: [
    z.string().describe("a text: names with commas between them"),
    "",
    "names of the labels by their numbers, as negative,positive; empty: those of the model or of the data",
  ],
  endOfText: [
    onOff,
    true,
    "the end of text follows texts that are no conversations, when the model learns and when it judges",
  ],
  longTexts: [
    choice(["error", "drop", "truncate"]),
    "error",
    "texts that are longer than the context; truncate keeps their last tokens",
  ],
  learningRate: [learningRate[0], 1e-4, learningRate[2]],
  schedule: [schedule[0], "linear", schedule[2]],
  ...optimizer,
  frozenLayers: modelTable.frozenLayers,
  gradientCheckpointing: passTable.gradientCheckpointing,
  evalEvery: [count(0), 50, "steps between measurements on held-out judgements; 0: only at the end"],
  ...kept,
  keepBest: [onOff, true, "also keep the checkpoint with the lowest held-out loss, however old"],
} as const satisfies {
  readonly [K in keyof RewardConfig]: readonly [z.ZodType<RewardConfig[K]>, RewardConfig[K], string];
};

/** The default of every option of a reward-model run. */
export const REWARD_DEFAULTS: Readonly<RewardConfig> = defaultsOf<RewardConfig>(rewardOptions);

/** The config from several sources, the later before the earlier. @throws config @internal */
export function resolveRewardConfig(sources: readonly OptionSource[]): RewardConfig {
  const defaults = librarySource({ ...REWARD_DEFAULTS }, "defaults");
  const { values } = resolveOptions(rewardOptions, [defaults, ...sources], (name, write) => {
    const here = nameHere(name, (known) => Object.hasOwn(rewardOptions, known)) as keyof RewardConfig | undefined;
    return here ? `it is called ${write(here)} here: ${rewardOptions[here][2]}` : adviceOn(name);
  });
  return values as unknown as RewardConfig;
}

/**
 * A complete, checked config from some options.
 * @param where what errors call their origin
 * @throws config - an unknown name, a value out of range
 */
export const rewardConfig = (options: Readonly<Partial<RewardConfig>> = {}, where = "options"): RewardConfig =>
  resolveRewardConfig([librarySource({ ...options }, where)]);

/** The names that the option `labels` gives; undefined: none. */
export function namedLabels({ labels }: Pick<RewardConfig, "labels">): readonly string[] | undefined {
  const names = labels.split(",").map((name) => name.trim());
  return labels.trim() === "" ? undefined : names;
}
