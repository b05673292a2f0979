/** @file Which copy of a model's weights is sampled from. */
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { ParameterBuffer } from "../model/parameters.ts";
import { int8Weights } from "./quantized-weights.ts";
import { type DecodingWeights, storedWeights, transposedWeights } from "./weights.ts";

/** fp32: the model itself. int8: a quantised copy of it, another policy: near to it, and several times as fast. */
export type Precision = "fp32" | "int8";

/** Rows from which products with transposed matrices are the faster ones. */
const TRANSPOSE_FROM_ROWS = 4;
/** Steps that make up for a copy in fp32 of matrices held in int8, which each step would make for itself. */
const FLOATS_FROM_STEPS = 4;
/** Steps that make up for transposing. */
const TRANSPOSE_FROM_STEPS = 12;

/** What the weights that are sampled from are made for. */
export interface CopyForm {
  precision: Precision;
  /** Responses sampled together. */
  rows: number;
  /** Tokens of each, at most. */
  steps: number;
}

/** How the weights are made that so many responses are sampled from, and whether one copy serves a whole run. */
export function decodingCopy(
  model: CausalLMWithValueHead,
  { precision, rows, steps }: CopyForm,
): { make(scratch?: ParameterBuffer): DecodingWeights; once: boolean } {
  const once = model.adapter !== undefined; // its matrices do not change
  const asTheyLie = { make: () => storedWeights(model), once: false };
  if (precision === "int8") return { make: () => int8Weights(model), once };
  if (model.engine.kept) return asTheyLie;
  if (model.basePrecision === "int8")
    return steps < FLOATS_FROM_STEPS ? asTheyLie : { make: () => transposedWeights(model), once: false }; // not kept: it takes four times what it is made from
  if (rows < TRANSPOSE_FROM_ROWS || steps < TRANSPOSE_FROM_STEPS) return asTheyLie;
  // A copy that stays cannot lie in memory that is used for something else.
  return { make: (scratch) => transposedWeights(model, once ? undefined : scratch), once };
}

/**
 * The weights for `rows` responses of up to `steps` tokens. In fp32 their matrices are transposed if that takes less time than
 * it saves; on a device that keeps them they stay as they are.
 * @param scratch as for {@link transposedWeights}
 * @throws config - int8 for a model whose head size is not a multiple of 8
 * @throws usage - int8, and weights that were changed on a device since the host read them
 */
export function decodingWeights(
  model: CausalLMWithValueHead,
  { precision = "fp32", rows, steps }: { precision?: Precision; rows: number; steps: number },
  scratch?: ParameterBuffer,
): DecodingWeights {
  const { make, once } = decodingCopy(model, { precision, rows, steps });
  return once ? keptOfBase(model, precision, make) : make(scratch);
}

/** Copies of matrices that an adapter leaves as they are, by model and precision. */
const copies = new WeakMap<CausalLMWithValueHead, Map<Precision, DecodingWeights>>();

/** A copy of a base that does not change is made once; of other models one for each use. */
function keptOfBase(model: CausalLMWithValueHead, precision: Precision, make: () => DecodingWeights): DecodingWeights {
  if (!model.adapter) return make();
  const made = copies.get(model) ?? new Map<Precision, DecodingWeights>();
  copies.set(model, made);
  const copy = made.get(precision) ?? { ...make(), release: () => {} };
  made.set(precision, copy);
  return copy;
}
