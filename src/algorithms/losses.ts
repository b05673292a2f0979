/**
 * @file The losses, as graphs: formulas over per-token tensors, from which the gradients follow. `input(name)` is a
 * number per token that the caller gives; `weight` is 1 over the number of tokens in the mean, and 0 for a row that only
 * fills up a chunk.
 */

import { add, clamp, exp, maximum, mul, neg, reduceSum, scale, sub } from "../graph/ops/index.ts";
import { constant, type Tensor } from "../graph/tensor.ts";
import type { RowLoss, SeedLoss } from "../model/head.ts";

/** Mean negative log-likelihood of the next token: -sum_t w_t log p(x_t). */
export const languageModelLoss: RowLoss = {
  name: "language model loss",
  build: ({ logprobs }, input) => neg(total(mul(logprobs, input("weight")))),
};

export interface PPOLossOptions {
  /** epsilon of the clipped ratio. */
  clipRange: number;
  /** How far a value may move from its old one before the loss stops rewarding it. */
  clipRangeValue: number;
  /** Weight of the value loss; 0: there is none. */
  vfCoef: number;
  /** Weight of the entropy bonus. */
  entropyCoef: number;
}

/**
 * The PPO loss (Schulman et al. 2017, arXiv 1707.06347, equations 7 and 9; value clipping as in OpenAI's
 * lm-human-preferences, train_policy.py). Inputs per token: oldLogprobs, advantages, oldValues, returns, weight.
 *
 *     ratio  = exp(logprob - oldLogprob)
 *     policy = mean max(-A ratio, -A clamp(ratio, 1 - e, 1 + e))
 *     value  = 1/2 mean max((v - R)^2, (clamp(v, vOld - e', vOld + e') - R)^2)
 *     loss   = policy + vfCoef value - entropyCoef mean H
 */
export function ppoLoss(options: PPOLossOptions): RowLoss {
  const { clipRange, clipRangeValue, vfCoef, entropyCoef } = options;
  return {
    name: "PPO loss",
    build: ({ logprobs, values, entropies }, input) => {
      const policy = policyLoss(logprobs, input("oldLogprobs"), input("advantages"), clipRange);
      const value = () => valueLoss(values, input("oldValues"), input("returns"), clipRangeValue);
      const loss = vfCoef === 0 ? policy : add(policy, scale(value(), vfCoef));
      return total(mul(input("weight"), entropyCoef === 0 ? loss : sub(loss, scale(entropies, entropyCoef))));
    },
  };
}

/** The value term of {@link ppoLoss} alone: vfCoef/2 mean max((v - R)^2, ...). Inputs per token: oldValues, returns, weight. */
export function criticLoss({ clipRangeValue, vfCoef }: Pick<PPOLossOptions, "clipRangeValue" | "vfCoef">): RowLoss {
  return {
    name: "value loss",
    scores: ["values"],
    build: ({ values }, input) => {
      const loss = valueLoss(values, input("oldValues"), input("returns"), clipRangeValue);
      return total(mul(input("weight"), scale(loss, vfCoef)));
    },
  };
}

export interface GRPOLossOptions {
  /** epsilon of the clipped ratio, downwards, and upwards where clipRangeHigh does not say. */
  clipRange: number;
  /** epsilon upwards ("clip-higher"); null: as downwards. */
  clipRangeHigh: number | null;
  /** beta, weight of the KL from the reference; 0: there is none. */
  klCoef: number;
  /** Multiply the KL by the ratio. */
  klCorrection: boolean;
  /** Weight of the entropy bonus. */
  entropyCoef: number;
}

/**
 * The GRPO loss (Shao et al. 2024, arXiv 2402.03300, equations 3 and 4; e' > e is clip-higher of Yu et al. 2025, arXiv 2503.14476).
 * Inputs per token: oldLogprobs, refLogprobs, advantages, weight, which is all there is to how lengths are normalised, and exists, 1.
 *
 *     ratio = exp(logprob - oldLogprob),  d = refLogprob - logprob
 *     loss  = sum weight (max(-A ratio, -A clamp(ratio, 1 - e, 1 + e')) + beta (exp(d) - d - 1) - entropyCoef H)
 *
 * The gradient of exp(d) - d - 1 at fixed tokens is not that of the KL, whose expectation is over tokens of the policy; that of
 * ratio (exp(d) - d - 1) is (klCorrection; DeepSeek-V3.2, arXiv 2512.02556, and huggingface/trl@v1.16.0 use_bias_correction_kl).
 */
export function grpoLoss(options: GRPOLossOptions): RowLoss {
  const { clipRange, clipRangeHigh, klCoef, klCorrection, entropyCoef } = options;
  return {
    name: "GRPO loss",
    scores: ["logprobs", "entropies"],
    build: ({ logprobs, entropies }, input) => {
      const [old, advantages] = [input("oldLogprobs"), input("advantages")];
      const policy = policyLoss(logprobs, old, advantages, clipRange, clipRangeHigh ?? clipRange);
      const kl = () => (klCorrection ? mul(exp(sub(logprobs, old)), k3(logprobs, input)) : k3(logprobs, input));
      const loss = klCoef === 0 ? policy : add(policy, scale(kl(), klCoef));
      return total(mul(input("weight"), entropyCoef === 0 ? loss : sub(loss, scale(entropies, entropyCoef))));
    },
  };
}

/** exp(d) - d - 1, per token; exactly 0 in rows that only fill up a chunk, where exp(d) may be infinite. */
function k3(logprobs: Tensor, input: (name: string) => Tensor): Tensor {
  const d = mul(input("exists"), sub(input("refLogprobs"), logprobs));
  return sub(sub(exp(d), d), constant(1));
}

/**
 * The RLOO loss: REINFORCE with the response as one action (Ahmadian et al. 2024, arXiv 2402.14740), its ratio clipped like PPO's, as
 * in huggingface/trl@v1.16.0:trl/trainer/rloo_trainer.py `_compute_loss`. Inputs per token: oldLogprobs, advantages, weight (1 over
 * the responses in the mean) and sequence, which response it is of; the last three are the same for all tokens of a response.
 *
 *     ratio_i = exp(sum over the response of (logprob - oldLogprob))
 *     loss    = mean over responses of max(-A_i ratio_i, -A_i clamp(ratio_i, 1 - e, 1 + e'))
 *
 * Before a weight has moved ratio_i is 1, and the gradient is that of -A_i log p(response).
 */
export function rlooLoss({ clipRange, clipRangeHigh }: Pick<GRPOLossOptions, "clipRange" | "clipRangeHigh">): SeedLoss {
  return {
    name: "RLOO loss",
    seeds: (logprobs, { oldLogprobs, advantages, weight, sequence }) => {
      const logRatios = sumsBy(sequence, (i) => logprobs[i] - oldLogprobs[i]);
      const terms = new Map<number, { loss: number; slope: number }>();
      sequence.forEach((b, i) => {
        const ratio = Math.exp(logRatios.get(b) as number);
        const clipped = Math.min(Math.max(ratio, 1 - clipRange), 1 + (clipRangeHigh ?? clipRange));
        const [free, bound] = [-advantages[i] * ratio, -advantages[i] * clipped];
        // d ratio / d logprob is the ratio, for every token of the response; what is clipped has no slope.
        terms.set(b, { loss: weight[i] * Math.max(free, bound), slope: free >= bound ? weight[i] * free : 0 });
      });
      const loss = [...terms.values()].reduce((sum, term) => sum + term.loss, 0);
      return { loss, seeds: Float32Array.from(sequence, (b) => terms.get(b)?.slope ?? 0) };
    },
  };
}

/** Sums over the rows of each sequence, by its number. */
function sumsBy(sequence: Float32Array, of: (i: number) => number): Map<number, number> {
  const sums = new Map<number, number>();
  for (const [i, b] of sequence.entries()) sums.set(b, (sums.get(b) ?? 0) + of(i));
  return sums;
}

/** max(-A ratio, -A clamp(ratio, 1 - e, 1 + e')), per token. */
function policyLoss(
  logprobs: Tensor,
  oldLogprobs: Tensor,
  advantages: Tensor,
  clipRange: number,
  clipRangeHigh = clipRange,
): Tensor {
  const ratio = exp(sub(logprobs, oldLogprobs));
  return maximum(neg(mul(advantages, ratio)), neg(mul(advantages, clamp(ratio, 1 - clipRange, 1 + clipRangeHigh))));
}

/** 1/2 max((v - R)^2, (clamp(v, vOld - e, vOld + e) - R)^2), per token. */
function valueLoss(values: Tensor, oldValues: Tensor, returns: Tensor, clipRange: number): Tensor {
  const clipped = add(oldValues, clamp(sub(values, oldValues), -clipRange, clipRange));
  return scale(maximum(square(sub(values, returns)), square(sub(clipped, returns))), 0.5);
}

const square = (x: Tensor) => mul(x, x);
const total = (x: Tensor) => reduceSum(x, [0]);

/** The loss of a pair as a function of how much more the policy prefers the chosen response than the reference does. */
export type DPOLossName = "sigmoid" | "robust" | "ipo" | "hinge";

export interface DPOLossOptions {
  loss: DPOLossName;
  /** beta, how strongly the policy is held to the reference. */
  beta: number;
  /** epsilon, the share of pairs whose labels are taken to be swapped. */
  labelSmoothing: number;
}

/** log(1 / (1 + e^-x)) without overflow. */
export const logSigmoid = (x: number) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));
export const sigmoid = (x: number) => Math.exp(logSigmoid(x));

/**
 * The loss of one pair and its derivative, as functions of d = (log pi - log pi_ref)(chosen) - the same of rejected; with s = sigmoid:
 * - `sigmoid`: -(1 - e) log s(beta d) - e log s(-beta d). Rafailov et al. 2023 (arXiv 2305.18290), equation 7; with e > 0
 *   conservative DPO (cDPO), Mitchell 2023, "A note on DPO with noisy preferences".
 * - `robust`: (-(1 - e) log s(beta d) + e log s(-beta d)) / (1 - 2 e). Chowdhury et al. 2024 (arXiv 2403.00409), equation 11.
 * - `ipo`: (d - 1 / (2 beta))^2, d of log-probs per token. Azar et al. 2023 (arXiv 2310.12036), equation 17; per token as in TRL.
 * - `hinge`: max(0, 1 - beta d). SLiC, Zhao et al. 2023 (arXiv 2305.10425), on DPO's rewards.
 * Source: huggingface/trl@v1.16.0:trl/trainer/dpo_trainer.py `_compute_loss`; huggingface/trl@v0.11.4 for label smoothing of `sigmoid`.
 */
export function pairLoss(
  { loss, beta, labelSmoothing: e }: DPOLossOptions,
  d: number,
): { loss: number; slope: number } {
  const x = beta * d;
  switch (loss) {
    case "sigmoid":
      return {
        loss: -(1 - e) * logSigmoid(x) - e * logSigmoid(-x),
        slope: beta * (-(1 - e) * sigmoid(-x) + e * sigmoid(x)),
      };
    case "robust":
      return {
        loss: (-(1 - e) * logSigmoid(x) + e * logSigmoid(-x)) / (1 - 2 * e),
        slope: (beta * (-(1 - e) * sigmoid(-x) - e * sigmoid(x))) / (1 - 2 * e),
      };
    case "ipo":
      return { loss: (d - 1 / (2 * beta)) ** 2, slope: 2 * (d - 1 / (2 * beta)) };
    case "hinge":
      return { loss: Math.max(0, 1 - x), slope: x < 1 ? -beta : 0 };
  }
}

/**
 * The mean of {@link pairLoss} over pairs. Inputs per token, the same for all tokens of a response: sequence (2 p for the chosen
 * response of pair p, 2 p + 1 for the rejected one), refLogprobs (of the whole response, by the reference) and weight (1 over the
 * pairs in the mean).
 */
export function dpoLoss(options: DPOLossOptions): SeedLoss {
  return {
    name: "DPO loss",
    seeds: (logprobs, { sequence, refLogprobs, weight }) => {
      const perToken = options.loss === "ipo";
      const sums = sumsBy(sequence, (i) => logprobs[i]);
      const lengths = sumsBy(sequence, () => 1);
      const first = new Map<number, number>();
      for (const [i, s] of sequence.entries()) if (!first.has(s)) first.set(s, i);
      /** log pi - log pi_ref of a response. */
      const ratio = (s: number) => {
        const log = (sums.get(s) as number) - refLogprobs[first.get(s) as number];
        return perToken ? log / (lengths.get(s) as number) : log;
      };
      const slopes = new Map<number, number>();
      let loss = 0;
      for (const [s, i] of first) {
        if (s % 2 === 1) continue;
        const pair = pairLoss(options, ratio(s) - ratio(s + 1));
        loss += weight[i] * pair.loss;
        slopes.set(s, weight[i] * pair.slope);
        slopes.set(s + 1, -weight[i] * pair.slope);
      }
      const share = (s: number) => (perToken ? 1 / (lengths.get(s) as number) : 1);
      return { loss, seeds: Float32Array.from(sequence, (s) => (slopes.get(s) as number) * share(s)) };
    },
  };
}
