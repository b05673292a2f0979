/** @file What the options say of sampling and scoring: the same for a trainer and for whoever answers prompts for it. */
import type { Passes } from "../experience/ask.ts";
import { partSize } from "../experience/parts/parts.ts";
import type { GenerateOptions } from "../sample/generate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
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
