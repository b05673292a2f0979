/** @file The options of experience: how responses are collected and judged, and how tokens are scored again. */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { choice, count, notNegative, type OptionsOf, onOff, text } from "../base/option-values.ts";
import type { TruncateOptions } from "../rl/scores.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

export const rolloutTable = {
  rolloutBatchSize: [count(), 64, "responses sampled at a time; one part is rewarded while the next is sampled"],
  rolloutPrecision: [
    choice(["fp32", "int8", "auto"]),
    "fp32",
    "int8: sample from a quantised copy, and weight its tokens; auto: what takes less time, measured when the run begins",
  ],
  async: [
    count(0, 64),
    0,
    "draw responses this many steps ahead, while others are learned from, by weights as many steps old, and weight their tokens",
  ],
  importanceWeightCap: [
    notNegative,
    2,
    "largest weight of a token that another policy drew (int8, async); 0: no weights, a biased gradient",
  ],
} as const;

export const rewardTable = {
  rewardConcurrency: [count(), 4, "concurrent calls to the reward function, each for rolloutBatchSize responses"],
  rewardTimeout: [
    z.number().min(0).max(86_400).describe("a number from 0 to 86400"),
    0,
    "seconds a call to the reward function may take; 0: no limit",
  ],
  rewardRetries: [count(0), 2, "retries of a call that throws or times out, after 1, 2, 4, ... seconds"],
} as const;

export const honestyTable = {
  maskReplay: [onOff, true, "score each token over the set it was drawn from; otherwise x is not ~ p"],
  audit: [choice(["stop", "warn", "off"]), "stop", "what to do when tokens cannot be draws from the policy"],
} as const;

export const judgedTable = {
  truncateToken: [text, "", "a token that ends what the reward sees of a response; empty: none"],
  truncateAfter: [count(0), 0, "ignore truncateToken before this many tokens of a response"],
} as const;

export type RolloutConfig = OptionsOf<typeof rolloutTable>;
export type RewardConfig = OptionsOf<typeof rewardTable>;
export type HonestyConfig = OptionsOf<typeof honestyTable>;
export type JudgedConfig = OptionsOf<typeof judgedTable>;

/**
 * Where what is judged of a response ends, in this tokenizer's ids.
 * @throws config - a truncateToken that this tokenizer splits
 */
export function truncateOptions({ truncateToken, truncateAfter }: JudgedConfig, tokenizer: Tokenizer): TruncateOptions {
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
