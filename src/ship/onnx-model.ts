/**
 * @file A whole model as one program that other programs run: ids in, logits and a cache out, for any number of rows, new tokens
 * and earlier tokens. Inputs and outputs are those of transformers' own exports, which transformers.js expects:
 * input_ids, attention_mask, position_ids, past_key_values.N.key and .value in; logits, present.N.key and .value out.
 */
import type { Program } from "../graph/onnx.ts";
import {
  embedRows,
  lastRows,
  maskBias,
  project,
  quantizedProject,
  quantizedRows,
  rotaryAngles,
} from "../graph/ops/exported.ts";
import { add } from "../graph/ops/index.ts";
import { type Dim, dims, input, stored, storedLater, type Tensor } from "../graph/tensor.ts";
import { wholeAttention } from "../model/attend.ts";
import { lmHeadName, type Product } from "../model/family.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { headRows, type Parameter, rowDims } from "../model/parameters.ts";
import { MASKED } from "../nn/attention.ts";
import { type QuantizedMatrix, quantize, quantizeTransposed } from "../nn/quantized.ts";
import { rotate } from "../nn/rotary.ts";
import { transposed } from "../nn/transposed.ts";

/** fp32: as it is. q8: matrices and token embedding in int8, one scale for each output, as sampling in int8 has them. */
export type ExportDtype = "fp32" | "q8";

/** Sizes that the free axes are built with: primes so large that nothing else has them, which is how a constant made of one is noticed. */
const B = 10007;
const T = 10009;
const P = 10037;
const S = P + T;
/** How many of the new tokens get logits. */
const KEPT: Dim = { name: "kept", size: 10039 };

const AXES = {
  B: "batch_size",
  T: "sequence_length",
  P: "past_sequence_length",
  S: "total_sequence_length",
  kept: "logits_length",
  /** New tokens of the heads that share keys. */
  GT: "group_length",
};

/** ONNX operators to do without: the one below has no kernel on WebGPU. */
export const EXPORT_LACKS: ReadonlySet<string> = new Set(["com.microsoft.FusedMatMul"]);

/** The weights of an exported model, stored in it. */
interface ExportWeights {
  /** Rows of a table for ids [B, T]. */
  rows(table: string, ids: Tensor): Tensor;
  /** A parameter that is no matrix. */
  vector(row: Parameter): Tensor;
  product(rows: readonly Parameter[], p: Readonly<Record<string, Tensor>>): Product;
  /** [B, n, C] -> [B, n, V] */
  logits(normed: Tensor): Tensor;
}

/** @param model without an adapter: one that has an adapter is merged first */
export function wholeModel(model: CausalLMWithValueHead, dtype: ExportDtype): Program {
  const { family, config, sizes, parameters } = model;
  const { kvHeads: K, headSize: D, layers } = sizes;
  const weights = dtype === "q8" ? int8(model) : fp32(model);
  const integers = (name: string, axes: readonly Dim[]) => input(name, axes, "int64");
  const ids = integers("input_ids", dims({ B, T }));
  const mask = integers("attention_mask", dims({ B, S }));
  const positions = integers("position_ids", dims({ B, T }));
  const wanted = integers("num_logits_to_keep", []);

  const bias = maskBias(mask, ids, MASKED);
  const frequencies = family.rotary?.(config);
  const angles = frequencies && rotaryAngles(positions, stored(frequencies, { "D/2": frequencies.length }));
  const rotated = (x: Tensor) => (angles ? rotate(x, angles[0], angles[1]) : x);

  const [first, ...others] = family
    .embeddings(config)
    .map(({ name, by }) => weights.rows(name, by === "token" ? ids : positions));
  let x = others.reduce(add, first);
  const present: Record<string, Tensor> = {};
  for (let layer = 0; layer < layers; layer++) {
    const past = (what: string) => input(`past_key_values.${layer}.${what}`, { B, K, P, D });
    const form = { B, T, scale: family.attentionScale(config, layer), bias, rotated };
    const cache = { keys: past("key"), values: past("value") };
    const { attend, seen } = wholeAttention(model, { ...form, past: cache }, dims({ B, T }));
    const rows = parameters.table.filter((row) => row.layer === layer);
    const p = vectors(rows, weights);
    x = family.block(config, x, p, attend, weights.product(rows, p));
    const { keys, values } = seen as Required<typeof seen>;
    present[`present.${layer}.key`] = keys;
    present[`present.${layer}.value`] = values;
  }
  const head = headRows(model, parameters.table).filter(({ name }) => name !== lmHeadName(model));
  const normed = family.normed(config, lastRows(x, wanted, KEPT), vectors(head, weights));
  return {
    name: "causal language model",
    free: Object.keys(AXES),
    axisNames: AXES,
    outputs: { logits: weights.logits(normed), ...present },
  };
}

const vectors = (rows: readonly Parameter[], weights: ExportWeights) =>
  Object.fromEntries(rows.filter(({ matrix }) => !matrix).map((row) => [row.short, weights.vector(row)]));

/** Matrices of a block stored [in, out]. The table is stored once even where it is the language-model head as well. */
function fp32(model: CausalLMWithValueHead): ExportWeights {
  const { parameters } = model;
  const tables = new Map<string, Tensor>();
  const table = (name: string) => {
    const row = parameters.table.find((p) => p.name === name) as Parameter;
    const known = tables.get(name) ?? stored(parameters.numbers(name), rowDims(row));
    tables.set(name, known);
    return known;
  };
  return {
    rows: (name, ids) => embedRows(table(name), ids),
    vector: (row) => stored(parameters.numbers(row.name), rowDims(row)),
    product(rows, p) {
      const matrices = new Map(
        rows
          .filter(({ matrix }) => matrix)
          .map((row) => {
            const data = parameters.numbers(row.name);
            const [rowCount, columns] = row.shape;
            if (row.matrix === "in,out") return [row.short, stored(data, rowDims(row))];
            const turned = { in: columns, out: rowCount };
            return [row.short, storedLater(() => transposed(data, rowCount, columns), turned, "float32")];
          }),
      );
      return (x, name, bias) => project(x, matrices.get(name) as Tensor, bias === undefined ? undefined : p[bias]);
    },
    logits: (normed) => project(normed, table(lmHeadName(model)), undefined, { transW: true }),
  };
}

/** As {@link fp32}, in int8: the rounding of sampling in int8, and the token embedding rounded too. */
function int8(model: CausalLMWithValueHead): ExportWeights {
  const { parameters, sizes } = model;
  const { vocabSize: V, width: C } = sizes;
  const matrix = ({ data, scales, K, N }: QuantizedMatrix) => ({
    weight: stored(data, { K, N }),
    scales: stored(scales, { N }),
  });
  type Matrix = ReturnType<typeof matrix>;
  const embedding = model.family.embeddings(model.config)[0].name;
  const tables = new Map<string, Matrix>();
  /** [C, V] */
  const table = (name: string) => {
    const known = tables.get(name) ?? matrix(quantizeTransposed(parameters.numbers(name), V, C));
    tables.set(name, known);
    return known;
  };
  const times = (x: Tensor, { weight, scales }: Matrix, bias?: Tensor) => quantizedProject(x, weight, scales, bias);
  const whole = fp32(model);
  return {
    rows: (name, ids) =>
      name === embedding ? quantizedRows(table(name).weight, table(name).scales, ids) : whole.rows(name, ids),
    vector: whole.vector,
    product(rows, p) {
      const matrices = new Map(
        rows
          .filter(({ matrix }) => matrix)
          .map(({ name, short, shape: [first, second], matrix: layout }) => {
            const data = parameters.numbers(name);
            const made = layout === "in,out" ? quantize(data, first, second) : quantizeTransposed(data, first, second);
            return [short, matrix(made)];
          }),
      );
      return (x, name, bias) => times(x, matrices.get(name) as Matrix, bias === undefined ? undefined : p[bias]);
    },
    logits: (normed) => times(normed, table(lmHeadName(model))),
  };
}
