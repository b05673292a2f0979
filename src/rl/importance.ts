/** @file Importance weights: what makes up for tokens that another policy drew. */
import { checkPadded, type Padded, rowSums } from "./padded.ts";
import { maskedMean, maskedVariance } from "./whiten.ts";

/** What {@link importanceWeights} returns, for B responses padded to T tokens. */
export interface ImportanceWeights {
  /** π_old(x_t) / π_rollout(x_t), before truncation. [B * T]; 1 where there is no token. */
  ratios: Float32Array;
  /** min(ratio, cap), what advantages are multiplied with; 1 everywhere if cap is 0. [B * T] */
  weights: Float32Array;
  /** Mean of the ratios over the existing tokens. */
  mean: number;
  /** Unbiased standard deviation of the ratios over the existing tokens. */
  std: number;
  /** The smallest ratio of an existing token. */
  min: number;
  /** The largest ratio of an existing token. */
  max: number;
  /** Share of the existing tokens whose ratio is above the cap, from 0 to 1; 0 if cap is 0. */
  clipped: number;
  /** KL(π_rollout ‖ π_old) per response in nats by k3: mean over responses of Σ_t (ratio − 1 − log ratio). */
  kl: number;
  /** Existing tokens. */
  tokens: number;
}

/**
 * Truncated importance weights of tokens drawn by π_rollout, for a loss about π_old. `logprobs` are those of π_old,
 * `rolloutLogprobs` those the tokens were drawn with, both over the same kept sets, [B * T] nats.
 *
 * E[ratio] = 1 under π_rollout, whatever the two policies: a mean far from 1 says that one of the log-probs is wrong.
 *
 * Source: truncation at a cap, Ionides 2008, "Truncated Importance Sampling"; per token between sampler and trainer, with 2 as
 * the usual cap, volcengine/verl docs/algo/rollout_corr.md (`rollout_is: token`); TRL calls the same mode `token_truncate`
 * (GRPOConfig.vllm_importance_sampling_mode). Throws a `shape` error when lengths differ.
 * @param cap largest weight; 0: no correction
 */
export function importanceWeights(
  logprobs: ArrayLike<number>,
  rolloutLogprobs: ArrayLike<number>,
  batch: Padded,
  cap: number,
): ImportanceWeights {
  checkPadded("importanceWeights", batch, { logprobs, rolloutLogprobs });
  const ratios = Float32Array.from(batch.mask, (exists, i) =>
    exists === 1 ? Math.exp(logprobs[i] - rolloutLogprobs[i]) : 1,
  );
  const weights = ratios.map((ratio) => (cap === 0 ? 1 : Math.min(ratio, cap)));
  const of = Array.from(ratios).filter((_, i) => batch.mask[i] === 1);
  return {
    ratios,
    weights,
    mean: maskedMean(ratios, batch.mask),
    std: Math.sqrt(maskedVariance(ratios, batch.mask)),
    min: of.reduce((a, b) => Math.min(a, b)),
    max: of.reduce((a, b) => Math.max(a, b)),
    clipped: cap === 0 ? 0 : of.filter((ratio) => ratio > cap).length / of.length,
    kl: of.reduce((sum, ratio) => sum + ratio - 1 - Math.log(ratio), 0) / batch.rows,
    tokens: of.length,
  };
}

/**
 * Weights of whole responses, [B], for a loss whose action is the response: the product over its tokens, truncated at the cap. TRL
 * calls this `sequence_truncate`.
 * @param cap largest weight; 0: no correction
 */
export function sequenceWeights({ ratios }: ImportanceWeights, batch: Padded, cap: number): Float32Array {
  const logs = rowSums(ratios.map(Math.log), batch);
  return logs.map((log) => (cap === 0 ? 1 : Math.min(Math.exp(log), cap)));
}
