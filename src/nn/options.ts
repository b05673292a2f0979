/** @file The options of the optimizer. */
import { z } from "zod";
import { choice, count, decay, notNegative, type OptionsOf } from "../base/option-values.ts";
import type { AdamWOptions } from "./adamw.ts";

export const optimizerTable = {
  learningRate: [z.number().min(0).max(100).describe("a number from 0 to 100"), 1.41e-5, "AdamW's step size"],
  schedule: [choice(["constant", "linear", "cosine"]), "constant", "learning rate over the run"],
  warmupSteps: [count(0), 0, "steps of linear warm-up"],
  beta1: [decay, 0.9, "AdamW, first moment"],
  beta2: [decay, 0.999, "AdamW, second moment"],
  adamEpsilon: [
    z.number().min(1e-30).max(1).describe("a number from 1e-30 to 1"),
    1e-8,
    "AdamW, added to the root of the second moment",
  ],
  adamBiasCorrection: [
    choice(["pytorch", "tensorflow"]),
    "pytorch",
    "which root of the second moment adamEpsilon is added to: tensorflow's makes first steps smaller",
  ],
  weightDecay: [notNegative, 0, "AdamW, decoupled decay of weight matrices"],
  maxGradNorm: [notNegative, 1, "gradients are scaled down to this norm; 0: never"],
  maxSkippedSteps: [
    count(0),
    0,
    "optimizer steps a run may skip when a loss or gradient is not finite; one more stops it",
  ],
} as const;

export type OptimizerConfig = OptionsOf<typeof optimizerTable>;

/** AdamW's own names for its options. */
export function adamOptions(config: OptimizerConfig): AdamWOptions {
  const { learningRate, beta1, beta2, adamEpsilon: epsilon, adamBiasCorrection: biasCorrection, weightDecay } = config;
  return { learningRate, beta1, beta2, epsilon, biasCorrection, weightDecay };
}
