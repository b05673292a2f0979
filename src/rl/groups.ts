/** @file Responses to the same prompt, compared with each other: what GRPO and RLOO have in place of a value function. */
import { fail } from "../base/errors.ts";
import { checkLength, type Padded } from "./padded.ts";
import { maskedVariance } from "./whiten.ts";

/** What a score less its group's mean is divided by: the standard deviation of its group, of the whole batch, or nothing. */
export type AdvantageScaling = "group" | "batch" | "none";

/** Added to a standard deviation before it divides, as in TRL. */
const EPSILON = 1e-4;

/**
 * GRPO's advantages: A_i = (r_i − mean of its group) / (standard deviation + 10⁻⁴), [B].
 *
 * `group` is Shao et al. 2024 (arXiv 2402.03300), section 4.1.2; `none` is Dr. GRPO, Liu et al. 2025 (arXiv 2503.20783), for the
 * division makes easy and hard prompts count more than others; `batch` divides by the deviation of all scores. Deviations are
 * unbiased. Source: huggingface/trl@v1.16.0:trl/trainer/grpo_trainer.py `_generate_and_score_completions`.
 * @param scores of `size` responses to the first prompt, of `size` to the second, ...
 * @throws shape - scores that do not come in groups of that size
 */
export function groupAdvantages(scores: readonly number[], size: number, scaling: AdvantageScaling): Float32Array {
  checkGroups("groupAdvantages", scores, size);
  const ofBatch = deviation(scores);
  return perGroup(scores, size, (group) => {
    const centre = mean(group);
    const divisor = scaling === "none" ? 1 : (scaling === "group" ? deviation(group) : ofBatch) + EPSILON;
    return group.map((score) => (score - centre) / divisor);
  });
}

/**
 * RLOO's advantages: A_i = r_i − mean of the other rewards of its group, [B]; normalised to mean 0 and standard deviation 1 over
 * the batch if asked.
 *
 * Source: Ahmadian et al. 2024 (arXiv 2402.14740), equation 8; huggingface/trl@v1.16.0:trl/trainer/rloo_trainer.py
 * `_generate_and_score_completions`.
 * @param rewards of `size` responses to the first prompt, of `size` to the second, ...
 * @throws shape - rewards that do not come in groups of that size
 */
export function leaveOneOut(rewards: readonly number[], size: number, normalize = false): Float32Array {
  checkGroups("leaveOneOut", rewards, size);
  const advantages = perGroup(rewards, size, (group) => {
    const sum = group.reduce((a, b) => a + b, 0);
    return group.map((reward) => reward - (sum - reward) / (size - 1));
  });
  if (!normalize) return advantages;
  const [centre, spread] = [mean(Array.from(advantages)), deviation(Array.from(advantages))];
  return advantages.map((a) => (a - centre) / (spread + EPSILON));
}

/** How far apart the scores of a group are, and how many groups say nothing because theirs are all equal. */
export function groupSpread(scores: readonly number[], size: number): { std: number; equal: number } {
  const groups = split(scores, size);
  const equal = groups.filter((group) => group.every((score) => score === group[0])).length;
  return { std: mean(groups.map(deviation)), equal: equal / groups.length };
}

/** Share of log ratios that the clipped loss does not follow: up where the advantage is positive, down where it is negative. */
export function clipFraction(
  logRatios: ArrayLike<number>,
  advantages: ArrayLike<number>,
  { clipRange, clipRangeHigh }: { clipRange: number; clipRangeHigh: number | null },
): number {
  const isClipped = (log: number, i: number) =>
    advantages[i] > 0
      ? Math.exp(log) > 1 + (clipRangeHigh ?? clipRange)
      : advantages[i] < 0 && Math.exp(log) < 1 - clipRange;
  return Array.from(logRatios).filter(isClipped).length / logRatios.length;
}

/** How much a token counts in the mean over a minibatch. */
export type LengthNormalization = "sequence" | "token" | "constant";

/**
 * Weights of the tokens of some rows, [B * T], 0 elsewhere; R rows, n_i tokens in row i.
 * - `sequence`: 1 / (R n_i). The mean over responses of their means over tokens: GRPO as published, where a token of a long
 *   response counts less.
 * - `token`: 1 / Σ n_i. The mean over all tokens: PPO, and DAPO (Yu et al. 2025, arXiv 2503.14476), equation 12.
 * - `constant`: 1 / (R longest). Sums over tokens, by one number: Dr. GRPO (Liu et al. 2025, arXiv 2503.20783).
 * @param longest tokens that a response may have
 */
export function tokenWeights(
  { width, mask }: Padded,
  rows: ArrayLike<number>,
  normalization: LengthNormalization = "token",
  longest = width,
): Float32Array {
  const tokensOf = (b: number) => mask.subarray(b * width, (b + 1) * width).reduce((n, exists) => n + exists, 0);
  const lengths = Array.from(rows, tokensOf);
  const all = lengths.reduce((a, b) => a + b, 0);
  const weights = new Float32Array(mask.length);
  lengths.forEach((length, i) => {
    const divisor = { sequence: lengths.length * length, token: all, constant: lengths.length * longest }[
      normalization
    ];
    for (let j = rows[i] * width; j < (rows[i] + 1) * width; j++) weights[j] = mask[j] === 1 ? 1 / divisor : 0;
  });
  return weights;
}

/** A number for each response as a number for each of its tokens: [B] -> [B * T], 0 where there is none. */
export function toTokens(perResponse: ArrayLike<number>, { rows, width, mask }: Padded): Float32Array {
  checkLength("toTokens", "perResponse", perResponse, rows, `[${rows}]`);
  return Float32Array.from(mask, (exists, i) => (exists === 1 ? perResponse[Math.floor(i / width)] : 0));
}

function checkGroups(where: string, scores: readonly number[], size: number): void {
  if (Number.isInteger(size) && size > 1 && scores.length % size === 0) return;
  fail("shape", {
    where,
    found: `${scores.length} scores in groups of ${size}`,
    expected: "whole groups of at least 2: a response is compared with others to the same prompt",
    fix: "give as many responses to each prompt as numGenerations says",
  });
}

const split = (scores: readonly number[], size: number) =>
  Array.from({ length: scores.length / size }, (_, g) => scores.slice(g * size, (g + 1) * size));

const perGroup = (scores: readonly number[], size: number, of: (group: readonly number[]) => readonly number[]) =>
  Float32Array.from(split(scores, size).flatMap(of));

const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;

/** Unbiased. */
const deviation = (x: readonly number[]) => Math.sqrt(maskedVariance(x, new Uint8Array(x.length).fill(1)));
