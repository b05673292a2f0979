/**
 * @file Estimates of KL(policy ‖ reference) from the log-probabilities of tokens the policy drew.
 *
 * d = log π(x) − log π_ref(x) for x ~ π. Source of the three estimators: J. Schulman, "Approximating KL Divergence" (2020).
 * All three have a per-token meaning; sums over a response estimate the KL of whole responses.
 */
import { fail } from "../base/errors.ts";
import type { KLConfig } from "./options.ts";
import { checkPadded, type Padded, rowSums } from "./padded.ts";

/** A function of the sampled token's log-probs alone. TRL 0.11.4 calls k1 "kl", k2 "mse" and exact "full". */
export type SampledKL = "k1" | "abs" | "k2" | "k3";

/** Which per-token penalty enters the reward. `exact` is the sum over the vocabulary, which costs both models' logits. */
export type KLPenalty = SampledKL | "exact";

/** Which estimate is logged and steers the KL coefficient. */
export type KLEstimator = "k1" | "k2" | "k3" | "exact";

/**
 * The per-token functions of d:
 * - `k1` = d. Unbiased; one sample may be negative, the mean over draws is not.
 * - `abs` = |d|.
 * - `k2` = ½·d². Biased, never negative.
 * - `k3` = exp(−d) − 1 + d. Unbiased, never negative.
 *
 * Only k1 makes Σ_t penalty the KL in expectation and can show a sampler that does not match the scorer (a negative mean).
 * Source: huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `_kl_penalty` for k1, abs, k2; k3 as in trl/experimental/ppo.
 */
const penalties: Record<SampledKL, (d: number) => number> = {
  k1: (d) => d,
  abs: (d) => Math.abs(d),
  k2: (d) => 0.5 * d * d,
  // expm1 keeps the digits that exp(−d) − 1 loses near d = 0.
  k3: (d) => Math.expm1(-d) + d,
};

/** The per-token penalty of that kind: a function of d = logprob − refLogprob. Throws a `config` error for an unknown kind. */
export function klPenalty(kind: SampledKL): (d: number) => number {
  if (Object.hasOwn(penalties, kind)) return penalties[kind];
  return fail("config", {
    where: "klPenalty",
    found: JSON.stringify(kind),
    expected: `one of ${Object.keys(penalties).join(", ")}`,
    fix: "choose one of these; k1 is the default",
  });
}

/** One estimator over a batch. */
export interface KLEstimate {
  /** [B * T], nats; 0 where masked. */
  perToken: Float32Array;
  /** [B], nats per response: Σ_t perToken. */
  perSequence: Float32Array;
  /** The mean of `perSequence`. */
  mean: number;
  /** The standard error of `mean`: s / √B with the unbiased s. Infinity for one sequence: its precision is not known. */
  standardError: number;
}

/**
 * The per-token penalty of every token, [B * T], unmasked: `exactKl` as it is for `exact`, else a function of the log-probs.
 * Throws a `config` error when `exact` is asked and not given.
 */
export function klPerToken(kind: KLPenalty, { logprobs, refLogprobs, exactKl }: KLInputs): (i: number) => number {
  if (kind !== "exact") {
    const penalty = klPenalty(kind);
    return (i) => penalty(logprobs[i] - refLogprobs[i]);
  }
  if (exactKl) return (i) => exactKl[i];
  return fail("config", {
    where: "klPenalty",
    found: '"exact" without the exact KL of each token',
    expected: "exactKl, one number for each token",
    fix: "pass exactKl, or choose k1",
  });
}

/** Per token, [B * T], nats. */
export interface KLInputs {
  /** log p of the sampled token under the policy and under the reference, over the same kept set. */
  logprobs: ArrayLike<number>;
  /** log p of the sampled token under the reference, over the same kept set. */
  refLogprobs: ArrayLike<number>;
  /** Σ_v π(v) (log π(v) − log π_ref(v)) over the kept tokens v, if known. */
  exactKl?: ArrayLike<number>;
}

/**
 * k1, k2 and k3 for every existing token, summed per sequence, and the mean over sequences with its standard error; and
 * `exact`, if `exactKl` is given: the same sum with each token's expectation over the vocabulary in place of a sample, so
 * its mean estimates the same KL of whole responses with less noise.
 *
 * `logprobs`, `refLogprobs`, `exactKl` [B * T], nats. `k1.mean` is (1/B)·Σ_b Σ_t (log π − log π_ref), as
 * huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `record_step_stats` has it. Throws a `shape` error when lengths differ.
 */
export function klEstimates(
  logprobs: ArrayLike<number>,
  refLogprobs: ArrayLike<number>,
  batch: Padded,
  exactKl?: ArrayLike<number>,
): KLEstimates {
  checkPadded("klEstimates", batch, { logprobs, refLogprobs, ...(exactKl && { exactKl }) });
  const estimate = (kind: KLPenalty): KLEstimate => {
    const of = klPerToken(kind, { logprobs, refLogprobs, exactKl });
    const perToken = Float32Array.from(batch.mask, (exists, i) => (exists === 1 ? of(i) : 0));
    const perSequence = rowSums(perToken, batch);
    return { perToken, perSequence, ...meanAndStandardError(perSequence) };
  };
  const sampled = { k1: estimate("k1"), k2: estimate("k2"), k3: estimate("k3") };
  return exactKl ? { ...sampled, exact: estimate("exact") } : sampled;
}

/** What {@link klEstimates} returns: each estimator by its name; `exact` where the exact KL was given. */
export type KLEstimates = Record<"k1" | "k2" | "k3", KLEstimate> & { exact?: KLEstimate };

/** The estimate that is logged. */
export const loggedKl = (kl: KLEstimates, { klLog }: Pick<KLConfig, "klLog">): KLEstimate =>
  kl[klLog as KLEstimator] as KLEstimate; // exact too: it was asked for

/** The mean of n numbers and its standard error, √(Σ(x − mean)² / (n − 1) / n); Infinity for n = 1. */
export function meanAndStandardError(values: ArrayLike<number>): { mean: number; standardError: number } {
  const n = values.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += values[i] / n;
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (values[i] - mean) ** 2;
  return { mean, standardError: n > 1 ? Math.sqrt(squares / (n - 1) / n) : Number.POSITIVE_INFINITY };
}

/**
 * The mean of after[i] - before[i] and its standard error. Pairing takes out what both have in common, such as how
 * easy a prompt is, so the error is that of the difference and not of two independent means.
 * @throws shape - lists of different lengths
 */
export function pairedDifference(
  before: ArrayLike<number>,
  after: ArrayLike<number>,
): { mean: number; standardError: number } {
  if (before.length !== after.length)
    fail("shape", {
      where: "pairedDifference",
      found: `${before.length} numbers before and ${after.length} after`,
      expected: "as many of both, in the same order",
      fix: "compare responses to the same prompts",
    });
  return meanAndStandardError(Float64Array.from(after, (x, i) => x - before[i]));
}
