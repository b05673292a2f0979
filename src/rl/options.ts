/** @file The options of the formulas: what becomes of scores, what KL costs, how advantages are estimated. */
import { z } from "zod";
import { choice, LARGEST, notNegative, type OptionsOf, onOff, positive, share } from "../base/option-values.ts";

export const scoreTable = {
  failScore: [
    z.number().min(-LARGEST).max(LARGEST).nullable().describe("a number from -1e30 to 1e30, or null for none"),
    null,
    "score of a response without truncateToken, whatever the reward says",
  ],
  missingEosPenalty: [notNegative, 0, "subtracted from the score of a response without the end-of-text token"],
  scoreScaling: [
    choice(["none", "scale", "normalize"]),
    "none",
    "divide scores by the standard deviation of all scores so far; normalize: subtract the mean first",
  ],
  scoreClip: [notNegative, 0, "clip scores to between minus and plus this, after scaling; 0: never"],
} as const;

export const klTable = {
  klCoef: [notNegative, 0.2, "beta, what a nat of KL costs; where an adaptive controller starts"],
  klController: [choice(["adaptive", "fixed"]), "adaptive", "whether beta follows the KL"],
  klTarget: [positive, 6, "KL per response in nats that an adaptive beta aims at"],
  klHorizon: [positive, 10_000, "responses over which an adaptive beta moves"],
  klPenalty: [
    choice(["k1", "abs", "k2", "k3", "exact"]),
    "k1",
    "per-token estimate of the KL in the reward; TRL calls k1 kl, k2 mse, exact full",
  ],
  klLog: [
    choice(["k1", "k2", "k3", "exact", "none"]),
    "k1",
    "estimate of the KL in the log, which an adaptive beta follows; none: with a klCoef of 0 no reference is kept, nor asked",
  ],
} as const;

export const advantageTable = {
  gamma: [share, 1, "discount per token"],
  lambda: [share, 0.95, "GAE's trade of bias for variance"],
  whitenRewards: [onOff, false, "scale rewards to variance 1 before advantages"],
  whitenAdvantages: [onOff, true, "scale advantages to mean 0 and variance 1"],
  whiteningScope: [choice(["batch", "minibatch"]), "batch", "where whitening takes its mean and variance from"],
  whiteningVariance: [
    choice(["unbiased", "biased"]),
    "unbiased",
    "divide by n - 1 as PyTorch does, or by n as TensorFlow does",
  ],
} as const;

export type ScoreConfig = OptionsOf<typeof scoreTable>;
export type KLConfig = OptionsOf<typeof klTable>;
export type AdvantageConfig = OptionsOf<typeof advantageTable>;
