/** @file What the options say of sampling, scoring and learning: the same for a trainer and for whoever works for it. */
import type { Passes } from "../experience/ask.ts";
import { partSize } from "../experience/parts/parts.ts";
import type { RowLoss, SeedLoss } from "../model/head.ts";
import { adamOptions } from "../nn/options.ts";
import type { GenerateOptions } from "../sample/generate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { LearnerOptions } from "./learner.ts";
import { type GRPOLossOptions, grpoLoss, type PPOLossOptions, ppoLoss, rlooLoss } from "./losses.ts";
import type { RolloutTrainerConfig } from "./options/ppo-options.ts";

/** How many responses are scored in a forward pass. @internal */
export const passSizes = (
  config: Pick<RolloutTrainerConfig, "microBatchSize" | "miniBatchSize" | "rolloutBatchSize" | "numGenerations">,
): Omit<Passes, "adjustments"> => ({
  partSize: config.microBatchSize || config.miniBatchSize,
  sampledTogether: partSize(config, config.numGenerations),
});

/** How responses are sampled by these options, all but the random streams. @internal */
export function samplingAs(
  { stop: strings, ...config }: RolloutTrainerConfig,
  tokenizer: Tokenizer,
  ends: readonly number[],
): GenerateOptions {
  const stop = strings.length > 0 ? { strings, tokenizer } : undefined;
  return { ...config, stop, eosTokenId: config.stopAtEos ? ends : [] };
}

/** How the policy learns. @internal */
export function learningOf(config: RolloutTrainerConfig, valueHead: boolean): LearnerOptions {
  const { maxGradNorm, frozenLayers, gradientCheckpointing } = config;
  return { optimizer: adamOptions(config), maxGradNorm, frozenLayers, gradientCheckpointing, valueHead };
}

/** The loss of the policy by these options of an algorithm. @internal */
export function policyLossOf(algorithm: string, config: object): RowLoss | SeedLoss {
  if (algorithm === "grpo") return grpoLoss(config as GRPOLossOptions);
  if (algorithm === "rloo") return rlooLoss(config as GRPOLossOptions);
  const { valueModel, ...options } = config as PPOLossOptions & { valueModel: string };
  return ppoLoss(valueModel === "separate" ? { ...options, vfCoef: 0 } : options);
}
