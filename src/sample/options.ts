/** @file The options of sampling: how a response is drawn. */
import { z } from "zod";
import { count, type OptionsOf, onOff, share } from "../base/option-values.ts";
import { DIVISOR, SMALLEST_DIVISOR } from "./token-sampler.ts";

/** What logits are divided by. */
const divisor = z
  .number()
  .min(SMALLEST_DIVISOR)
  .max(1 / SMALLEST_DIVISOR)
  .describe(DIVISOR);

export const samplingTable = {
  maxNewTokens: [count(), 24, "maximum number of tokens per response"],
  minNewTokens: [count(0), 0, "no end of text before this many tokens"],
  stopAtEos: [onOff, true, "the end-of-text token ends a response; otherwise it is a token like any other"],
  temperature: [divisor, 1, "logits are divided by this, when sampling and when scoring"],
  topK: [count(0), 0, "sample from the k most likely tokens; 0: all"],
  topP: [
    z.number().gt(0).max(1).describe("a number above 0, at most 1"),
    1,
    "sample from the most likely tokens that hold this much probability",
  ],
  minP: [share, 0, "keep tokens at least this fraction as likely as the most likely one; 0: all"],
  repetitionPenalty: [divisor, 1, "logits of tokens seen before are divided (or multiplied, if negative) by this"],
  bannedTokens: [
    z.array(count(0)).describe("token ids: whole numbers, 0 or more"),
    [] as number[],
    "ids that are never drawn",
  ],
  stop: [
    z.array(z.string().min(1)).describe("texts that are not empty"),
    [] as string[],
    "a response also ends when its text contains one of these",
  ],
} as const;

export type SamplingConfig = OptionsOf<typeof samplingTable>;
