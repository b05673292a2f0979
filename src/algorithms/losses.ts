/**
 * @file The losses, as graphs: formulas over per-token tensors, from which the gradients follow. `input(name)` is a
 * number per token that the caller gives; `weight` is 1 over the number of tokens in the mean, and 0 for a row that only
 * fills up a chunk.
 */

import { add, clamp, exp, maximum, mul, neg, reduceSum, scale, sub } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { RowLoss } from "../model/head.ts";

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

/** max(-A ratio, -A clamp(ratio, 1 - e, 1 + e)), per token. */
function policyLoss(logprobs: Tensor, oldLogprobs: Tensor, advantages: Tensor, clipRange: number): Tensor {
  const ratio = exp(sub(logprobs, oldLogprobs));
  return maximum(neg(mul(advantages, ratio)), neg(mul(advantages, clamp(ratio, 1 - clipRange, 1 + clipRange))));
}

/** 1/2 max((v - R)^2, (clamp(v, vOld - e, vOld + e) - R)^2), per token. */
function valueLoss(values: Tensor, oldValues: Tensor, returns: Tensor, clipRange: number): Tensor {
  const clipped = add(oldValues, clamp(sub(values, oldValues), -clipRange, clipRange));
  return scale(maximum(square(sub(values, returns)), square(sub(clipped, returns))), 0.5);
}

const square = (x: Tensor) => mul(x, x);
const total = (x: Tensor) => reduceSum(x, [0]);
