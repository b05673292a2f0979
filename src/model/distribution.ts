/**
 * @file The distribution a token was, or would be, drawn from: its description, and how logits become its log-probs.
 *
 * Changes to the logits are of two kinds. A change that depends on earlier tokens only, never on the logits' other
 * values, is made again whenever the token is scored, and gradients flow through it. The choice of tokens that stay is
 * recorded when a token is drawn, and applied as it was recorded from then on.
 */

import type { BufferPool } from "../backend/pool.ts";
import { add, div, exp, logSoftmax, maximum, minimum, mul, reduceSum, scale } from "../graph/ops/index.ts";
import { constant, input, stored, type Tensor } from "../graph/tensor.ts";
import { MASKED } from "../nn/attention.ts";
import type { KeptSet } from "./kept-set.ts";

/** Numbers added to the logits of some tokens. */
export interface Bias {
  /** Token ids. */
  readonly ids: Int32Array;
  /** One for each id. */
  readonly values: Float32Array;
}

/** What happens to the logits of one row before they are divided by the temperature. */
export interface Adjustment {
  /** Ids that the repetition penalty applies to, each once. */
  readonly penalised?: Int32Array;
  /** Added after the penalty. */
  readonly biases?: readonly Bias[];
}

/**
 * How logits become the distribution a token was, or would be, drawn from: repetition penalty, biases, temperature, then
 * the softmax over the kept tokens alone. Arrays have an entry for each row; undefined means nothing to do.
 */
export interface Distribution {
  /** Logits are divided by this. */
  readonly temperature: number;
  /** p: a penalised logit z becomes z / p where z > 0 and z p elsewhere. Default 1. */
  readonly repetitionPenalty?: number;
  /** For each row what happens to its logits before the temperature; undefined: nothing. [R] */
  readonly adjustments?: readonly (Adjustment | undefined)[];
  /** For each row the tokens that could have been drawn; undefined: all. */
  readonly kept?: readonly (KeptSet | undefined)[];
  /** Tokens that can be drawn at all, in every row: those that text can be made of; undefined: all. */
  readonly drawable?: KeptSet;
}

/** A tilt of a distribution p by its own log-probs: p(x) exp(slope min(log p(x), log below)), rescaled. Plain data. */
export interface Tilt {
  /** Where `below` is 1, the tilted distribution is p at its temperature over 1 + slope. */
  readonly slope: number;
  /** Tokens likelier than this keep their proportions. */
  readonly below: number;
}

/** Further numbers of each row: for each tilt Σ_v p(v) exp(slope min(log p(v), log below)), and the probability of some ids. */
export interface RowStatistics {
  /** A sum over the vocabulary is computed for each. */
  readonly tilts: readonly Tilt[];
  /** Token ids whose probabilities are added up. */
  readonly ids: readonly number[];
}

const TILT = "tilt"; // and its index
const MASS = "mass";

/** Where the statistics of R rows are written: `tilt0`, `tilt1`, ... and `mass`, each [R]. */
export function statisticBuffers(of: RowStatistics | undefined, R: number): Record<string, Float32Array> {
  const names = of ? [...of.tilts.map((_, i) => `${TILT}${i}`), MASS] : [];
  return Object.fromEntries(names.map((name) => [name, new Float32Array(R)]));
}

/** The same as tensors, from log-probs [R, V]. */
export function rowStatistics(of: RowStatistics | undefined, logprobs: Tensor, V: number): Record<string, Tensor> {
  if (!of) return {};
  const total = (x: Tensor) => reduceSum(x, [1]); // [R, V] -> [R]
  const tilted = of.tilts.map(({ slope, below }) => {
    const bounded = below < 1 ? minimum(logprobs, constant(Math.log(below))) : logprobs;
    return total(exp(add(logprobs, scale(bounded, slope))));
  });
  const isOne = new Float32Array(V);
  for (const id of of.ids) isOne[id] = 1;
  const mass = total(mul(exp(logprobs), stored(isOne, { V })));
  return { ...Object.fromEntries(tilted.map((sum, i) => [`${TILT}${i}`, sum])), [MASS]: mass };
}

/** Everything about a distribution that changes the graph; plain data. */
export interface DistributionForm {
  readonly temperature: number;
  /** Whether there is a kept set or a bias: a dense input `shift` [R, V], added to the logits. */
  readonly shifted: boolean;
  /** Whether there are penalised ids: a dense input `penalty` [R, V], p for those and 1 for others. */
  readonly penalty: "none" | "less" | "more";
  /** Whether some tokens can never be drawn: an input `undrawable` [V], added to every row. */
  readonly masked: boolean;
}

export function distributionForm(of: Distribution): DistributionForm {
  const { temperature, repetitionPenalty: p = 1, adjustments, kept } = of;
  const biased = adjustments?.some((a) => a?.biases && a.biases.length > 0) ?? false;
  const shifted = biased || (kept?.some((set) => set !== undefined) ?? false);
  const penalised = p !== 1 && (adjustments?.some((a) => a?.penalised) ?? false);
  const penalty = !penalised ? "none" : p > 1 ? "less" : "more";
  return { temperature, shifted, penalty, masked: of.drawable !== undefined };
}

/** The symbolic inputs that a form needs, made once for a program: two models may be scored under one distribution. */
export function distributionInputs(form: DistributionForm, R: number, V: number) {
  return {
    shift: form.shifted ? input("shift", { R, V }) : undefined,
    penalty: form.penalty === "none" ? undefined : input("penalty", { R, V }),
    undrawable: form.masked ? input("undrawable", { V }) : undefined,
  };
}

/** Logits [R, V] -> log-probs [R, V]: about {@link MASKED} for what is not kept, and exp of that is exactly 0. */
export function logProbs(
  logits: Tensor,
  form: DistributionForm,
  { shift, penalty, undrawable }: ReturnType<typeof distributionInputs>,
): Tensor {
  let z = logits;
  // For p > 1 the smaller of z / p and z p is the one the definition asks for, whatever the sign of z; else the larger.
  if (penalty) z = (form.penalty === "less" ? minimum : maximum)(div(z, penalty), mul(z, penalty));
  z = scale(z, 1 / form.temperature);
  if (undrawable) z = add(z, undrawable); // [R, V] + [V]
  return logSoftmax(shift ? add(z, shift) : z);
}

/**
 * The dense inputs for the rows from `start` on, in arrays of the pool. Rows after the last are left unadjusted.
 * @returns by input name, empty when the form needs none
 */
export function fillDistributionInputs(
  of: Distribution,
  form: DistributionForm,
  start: number,
  R: number,
  V: number,
  pool: BufferPool,
): Record<string, Float32Array> {
  const inputs: Record<string, Float32Array> = {};
  if (form.shifted) {
    const shift = pool.array(R * V);
    for (let r = 0; r < R; r++) {
      const row = shift.subarray(r * V, (r + 1) * V);
      const kept = of.kept?.[start + r];
      if (kept) kept.fill(row, 0, MASKED);
      else row.fill(0);
      for (const { ids, values } of of.adjustments?.[start + r]?.biases ?? [])
        for (let i = 0; i < ids.length; i++)
          if (row[ids[i]] > MASKED / 2 && of.drawable?.has(ids[i]) !== false)
            row[ids[i]] += values[i] / form.temperature; // masked stays masked
    }
    inputs.shift = shift;
  }
  if (form.penalty !== "none") {
    const penalty = pool.array(R * V).fill(1);
    for (let r = 0; r < R; r++) {
      const ids = of.adjustments?.[start + r]?.penalised;
      if (ids) for (let i = 0; i < ids.length; i++) penalty[r * V + ids[i]] = of.repetitionPenalty as number;
    }
    inputs.penalty = penalty;
  }
  if (of.drawable) {
    inputs.undrawable = pool.array(V);
    of.drawable.fill(inputs.undrawable, 0, MASKED);
  }
  return inputs;
}
