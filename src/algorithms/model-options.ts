/** @file Options in the terms of a model and its tokenizer. */
import { fail } from "../base/errors.ts";
import type { Sizes } from "../model/family.ts";
import type { AdamWOptions } from "../nn/adamw.ts";
import type { TruncateOptions } from "../rl/truncate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { PPOConfig } from "./config.ts";
import type { LearnerOptions } from "./learner.ts";

function adamOptions(config: PPOConfig): AdamWOptions {
  const { learningRate, beta1, beta2, adamEpsilon: epsilon, adamBiasCorrection: biasCorrection, weightDecay } = config;
  return { learningRate, beta1, beta2, epsilon, biasCorrection, weightDecay };
}

export const learnerOptions = (config: PPOConfig): LearnerOptions => {
  const { maxGradNorm, frozenLayers, gradientCheckpointing } = config;
  return { optimizer: adamOptions(config), maxGradNorm, frozenLayers, gradientCheckpointing };
};

/** @throws config - a truncateToken that this tokenizer splits */
export function truncateOptions({ truncateToken, truncateAfter }: PPOConfig, tokenizer: Tokenizer): TruncateOptions {
  const ids = truncateToken === "" ? [] : tokenizer.encode(truncateToken);
  if (truncateToken !== "" && ids.length !== 1)
    fail("config", {
      where: "truncateToken",
      found: `${JSON.stringify(truncateToken)}, ${ids.length} tokens of this tokenizer`,
      expected: "a text that is one token",
      fix: "choose another, or end responses with stop, which takes any text",
    });
  return { truncateToken: ids[0] ?? null, truncateAfter };
}

/** @throws config - options that this model has no place for */
export function checkModelOptions(
  { missingEosPenalty, frozenLayers }: PPOConfig,
  { layers }: Pick<Sizes, "layers">,
  eosTokenIds: readonly number[],
): void {
  if (missingEosPenalty > 0 && eosTokenIds.length === 0)
    fail("config", {
      where: "missingEosPenalty",
      found: "a model without an end-of-text token",
      expected: "eos_token_id in the model's generation_config.json or config.json",
      fix: "set missingEosPenalty to 0",
    });
  if (frozenLayers > layers)
    fail("config", {
      where: "frozenLayers",
      found: String(frozenLayers),
      expected: `at most ${layers}, the blocks of this model`,
      fix: "lower frozenLayers",
    });
}
