/**
 * @file What the clipped PPO objective says about a batch, in plain loops: the numbers that are logged, and the reference
 * against which the differentiable loss is tested.
 */
import { checkLength, checkPadded, type Padded, rowSums } from "./padded.ts";
import { maskedMean, maskedVariance } from "./whiten.ts";

/** Flat per-token arrays of one length N: a whole batch [B * T] or any selection of its tokens. */
export interface PPOInputs {
  /** [N], nats, under the weights being trained. */
  logprobs: ArrayLike<number>;
  /** [N], nats, under the weights that made the batch. */
  oldLogprobs: ArrayLike<number>;
  /** [N], from the weights being trained. */
  values: ArrayLike<number>;
  /** [N], from the weights that made the batch. */
  oldValues: ArrayLike<number>;
  /** [N], whitened or not, as the loss uses them. */
  advantages: ArrayLike<number>;
  /** [N]. */
  returns: ArrayLike<number>;
  /** [N], 1 = the token exists. */
  mask: Uint8Array;
  /** ε of the policy; 0.2 in the published runs. */
  clipRange: number;
  /** ε of the value function, in units of value; 0.2 in the published runs. */
  clipRangeValue: number;
}

/** Means and variances (unbiased) run over the existing tokens of the batch. */
export interface PPOStatistics {
  /** mean max(−A·ρ, −A·clip(ρ, 1 − ε, 1 + ε)). */
  policyLoss: number;
  /** ½·mean max((V − R)², (clip(V, V_old − ε, V_old + ε) − R)²). */
  valueLoss: number;
  /** Share of tokens whose clipped policy term is the strictly larger one. */
  clipFraction: number;
  /** Share of tokens whose clipped value term is the strictly larger one. */
  valueClipFraction: number;
  /** k2: ½·mean (log π − log π_old)². */
  approxKl: number;
  /** k1 of the old policy against the new: mean (log π_old − log π). */
  policyKl: number;
  /** mean ρ. */
  ratioMean: number;
  /** The smallest ρ. */
  ratioMin: number;
  /** The largest ρ. */
  ratioMax: number;
  /** Variance of ρ. */
  ratioVar: number;
  /** mean (V − R)². */
  valueError: number;
  /** 1 − valueError / returnsVar; 0 when the returns do not vary, for then there is nothing to explain. */
  varExplained: number;
  /** mean R. */
  returnsMean: number;
  /** Variance of R. */
  returnsVar: number;
  /** mean V. */
  valuePredictionMean: number;
  /** Of the old values, as in TRL's ppo/val/mean and ppo/val/var. */
  valuesMean: number;
  /** Variance of V_old. */
  valuesVar: number;
  /** mean A, as the loss used it. */
  advantagesMean: number;
  /** Variance of A, as the loss used it. */
  advantagesVar: number;
}

/**
 * The statistics of one batch or minibatch, with ρ = exp(log π − log π_old).
 *
 * Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7; huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `loss` and,
 * for varExplained, `record_step_stats`.
 * Throws `shape` when lengths differ and `input` when no token exists.
 */
export function ppoStatistics(inputs: PPOInputs): PPOStatistics {
  const { logprobs, oldLogprobs, values, oldValues, advantages, returns, mask, clipRange, clipRangeValue } = inputs;
  const arrays = { logprobs, oldLogprobs, values, oldValues, advantages, returns };
  for (const [name, array] of Object.entries(arrays)) {
    checkLength("ppoStatistics", name, array, mask.length, `mask [${mask.length}]`);
  }
  // Double precision: these enter sums of many terms.
  const tokens = (of: (i: number) => number) => Float64Array.from(mask, (_, i) => of(i));
  const mean = (of: (i: number) => number) => maskedMean(tokens(of), mask);
  const ratio = tokens((i) => Math.exp(logprobs[i] - oldLogprobs[i]));
  const policyTerm = (i: number) => -advantages[i] * ratio[i];
  const policyTermClipped = (i: number) => -advantages[i] * clip(ratio[i], 1 - clipRange, 1 + clipRange);
  const valueTerm = (i: number) => (values[i] - returns[i]) ** 2;
  const valueTermClipped = (i: number) =>
    (clip(values[i], oldValues[i] - clipRangeValue, oldValues[i] + clipRangeValue) - returns[i]) ** 2;
  const valueError = mean(valueTerm);
  const returnsVar = maskedVariance(returns, mask);
  const existing = ratio.filter((_, i) => mask[i] === 1);
  return {
    policyLoss: mean((i) => Math.max(policyTerm(i), policyTermClipped(i))),
    valueLoss: 0.5 * mean((i) => Math.max(valueTerm(i), valueTermClipped(i))),
    clipFraction: mean((i) => (policyTermClipped(i) > policyTerm(i) ? 1 : 0)),
    valueClipFraction: mean((i) => (valueTermClipped(i) > valueTerm(i) ? 1 : 0)),
    approxKl: 0.5 * mean((i) => (logprobs[i] - oldLogprobs[i]) ** 2),
    policyKl: mean((i) => oldLogprobs[i] - logprobs[i]),
    ratioMean: maskedMean(ratio, mask),
    ratioMin: existing.reduce((a, b) => Math.min(a, b)),
    ratioMax: existing.reduce((a, b) => Math.max(a, b)),
    ratioVar: maskedVariance(ratio, mask),
    valueError,
    varExplained: returnsVar > 0 ? 1 - valueError / returnsVar : 0,
    returnsMean: maskedMean(returns, mask),
    returnsVar,
    valuePredictionMean: maskedMean(values, mask),
    valuesMean: maskedMean(oldValues, mask),
    valuesVar: maskedVariance(oldValues, mask),
    advantagesMean: maskedMean(advantages, mask),
    advantagesVar: maskedVariance(advantages, mask),
  };
}

/**
 * (1/B)·Σ_b Σ_t −log π(x_t), nats per response: the entropy of responses, estimated from the tokens drawn.
 *
 * `logprobs` [B * T]. Source: `objective/entropy` in huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `record_step_stats`.
 */
export function sampledEntropy(logprobs: ArrayLike<number>, batch: Padded): number {
  checkPadded("sampledEntropy", batch, { logprobs });
  return -rowSums(logprobs, batch).reduce((a, b) => a + b, 0) / batch.rows;
}

function clip(x: number, low: number, high: number): number {
  return Math.min(Math.max(x, low), high);
}

/**
 * The q-quantile of sorted numbers, linear between neighbours, as numpy.quantile has it.
 * @param sorted ascending, at least one
 * @param q      from 0 to 1
 */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const place = q * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}
