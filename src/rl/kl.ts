/**
 * @file Estimates of KL(policy ‖ reference) from the log-probabilities of tokens the policy drew.
 *
 * d = log π(x) − log π_ref(x) for x ~ π. Source of the three estimators: J. Schulman, "Approximating KL Divergence" (2020).
 * All three have a per-token meaning; sums over a response estimate the KL of whole responses.
 */
import { fail } from "../base/errors.ts";
import { checkPadded, type Padded, rowSums } from "./padded.ts";

/** Which per-token penalty enters the reward. TRL 0.11.4 calls k1 "kl" and k2 "mse". */
export type KlPenalty = "k1" | "abs" | "k2" | "k3";

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
const penalties: Record<KlPenalty, (d: number) => number> = {
  k1: (d) => d,
  abs: (d) => Math.abs(d),
  k2: (d) => 0.5 * d * d,
  // expm1 keeps the digits that exp(−d) − 1 loses near d = 0.
  k3: (d) => Math.expm1(-d) + d,
};

/** The per-token penalty of that kind: a function of d = logprob − refLogprob. Throws a `config` error for an unknown kind. */
export function klPenalty(kind: KlPenalty): (d: number) => number {
  if (Object.hasOwn(penalties, kind)) return penalties[kind];
  return fail("config", {
    where: "klPenalty",
    found: JSON.stringify(kind),
    expected: `one of ${Object.keys(penalties).join(", ")}`,
    fix: "choose one of these; k1 is the default",
  });
}

/** One estimator over a batch. */
export interface KlEstimate {
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
 * k1, k2 and k3 for every existing token, summed per sequence, and the mean over sequences with its standard error.
 *
 * `logprobs`, `refLogprobs` [B * T], nats. `objective/kl` is `k1.mean`:
 * (1/B)·Σ_b Σ_t (log π − log π_ref), as huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `record_step_stats`.
 * Throws a `shape` error when lengths differ.
 */
export function klEstimates(
  logprobs: ArrayLike<number>,
  refLogprobs: ArrayLike<number>,
  batch: Padded,
): Record<"k1" | "k2" | "k3", KlEstimate> {
  checkPadded("klEstimates", batch, { logprobs, refLogprobs });
  const estimate = (kind: KlPenalty): KlEstimate => {
    const penalty = klPenalty(kind);
    const perToken = Float32Array.from(batch.mask, (exists, i) =>
      exists === 1 ? penalty(logprobs[i] - refLogprobs[i]) : 0,
    );
    const perSequence = rowSums(perToken, batch);
    return { perToken, perSequence, ...meanAndStandardError(perSequence) };
  };
  return { k1: estimate("k1"), k2: estimate("k2"), k3: estimate("k3") };
}

/** The mean of n numbers and its standard error, √(Σ(x − mean)² / (n − 1) / n); Infinity for n = 1. */
export function meanAndStandardError(values: ArrayLike<number>): { mean: number; standardError: number } {
  const n = values.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += values[i] / n;
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (values[i] - mean) ** 2;
  return { mean, standardError: n > 1 ? Math.sqrt(squares / (n - 1) / n) : Number.POSITIVE_INFINITY };
}
