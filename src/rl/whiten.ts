/**
 * @file Masked mean, variance and whitening.
 */
import { fail } from "../base/errors.ts";
import { checkLength } from "./padded.ts";

/** Mean over the elements with mask 1. Throws `input` when there is none. */
export function maskedMean(values: ArrayLike<number>, mask: Uint8Array): number {
  checkLength("maskedMean", "values", values, mask.length, `mask [${mask.length}]`);
  let sum = 0;
  let count = 0;
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] !== 1) continue;
    sum += values[i];
    count++;
  }
  if (count === 0) {
    fail("input", {
      where: "maskedMean",
      found: `a mask of ${mask.length} positions without a 1`,
      expected: "at least one existing token",
      fix: "leave empty responses out of the batch",
    });
  }
  return sum / count;
}

/**
 * Σ(x − mean)² / (n − 1) over the elements with mask 1 (`unbiased: true`, the default, as torch.var), or / n
 * (`unbiased: false`, as tf.nn.moments).
 *
 * One element has no unbiased variance: torch gives 0/0 = NaN, which then spreads to every weight. Here it is 0, what the
 * biased formula says, so that {@link whiten} only shifts it.
 */
export function maskedVariance(
  values: ArrayLike<number>,
  mask: Uint8Array,
  options: { unbiased?: boolean } = {},
): number {
  const mean = maskedMean(values, mask);
  let squares = 0;
  let count = 0;
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] !== 1) continue;
    squares += (values[i] - mean) ** 2;
    count++;
  }
  if (count === 1) return 0;
  return squares / ((options.unbiased ?? true) ? count - 1 : count);
}

/** How {@link whiten} shifts and scales. */
export interface WhitenOptions {
  /** true (default): the result has mean 0. false: the old mean is added back; for rewards, whose sign must survive. */
  shiftMean?: boolean;
  /** Which variance; true (default) as in torch, false as in the TensorFlow original. */
  unbiased?: boolean;
}

/**
 * (x − mean) / √(variance + 10⁻⁸), plus the mean when `shiftMean` is false, over the elements with mask 1; 0 elsewhere.
 *
 * A single element becomes 0 (`shiftMean` true) or stays as it is: it has no spread to divide by.
 * Source: openai/lm-human-preferences:lm_human_preferences/utils/core.py `whiten` (biased variance);
 * huggingface/trl@v0.11.4:trl/core.py `masked_whiten` (unbiased; NaN for one element, not 0 at masked positions).
 * @throws shape - values and mask of different lengths
 * @throws input - no element with mask 1
 */
export function whiten(values: ArrayLike<number>, mask: Uint8Array, options: WhitenOptions = {}): Float32Array {
  const mean = maskedMean(values, mask);
  const scale = 1 / Math.sqrt(maskedVariance(values, mask, options) + 1e-8);
  const offset = (options.shiftMean ?? true) ? 0 : mean;
  return Float32Array.from(mask, (exists, i) => (exists === 1 ? (values[i] - mean) * scale + offset : 0));
}
