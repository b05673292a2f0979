/** @file What decoding multiplies with: the model's weights where they lie, or a copy made ready for many small products. */

import type { Slots } from "../backend/backend.ts";
import { Memo } from "../base/memo.ts";
import type { Program } from "../graph/onnx.ts";
import { add, cachedAttention, concat, linear, reshape, split, transpose } from "../graph/ops/index.ts";
import { constant, dims, input, type Tensor } from "../graph/tensor.ts";
import type { GPT2HeadWithValueModel } from "../model/model.ts";
import type { ParameterBuffer } from "../model/parameters.ts";
import { BLOCK_MATRICES, blockInputs, feedForward, type Product, queriesKeysValues } from "../model/transformer.ts";

/** Sizes of a cached block: T new tokens in each of B rows, a cache of M tokens in heads of D numbers. */
export interface CachedBlockShape {
  readonly B: number;
  readonly T: number;
  readonly M: number;
  /** A head's size in the cache: nEmbd / nHead, rounded up to what attention takes. */
  readonly D: number;
  /** The factor on q k^T. */
  readonly scale: number;
}

export interface HeadResults {
  /** [R, V] */
  logits: Float32Array;
  /** Their softmax. [R, V] */
  probabilities: Float32Array;
  /** [R] */
  values: Float32Array;
}

/** A model's weights in the form that decoding uses. What is copied stays as it was when the copy was made. */
export interface DecodingWeights {
  /**
   * One block. Feeds: x [B T, C], pastKeys and pastValues [B, H, M, D], last int32 [B], total int32 [1]; fetches: y [B T, C],
   * keys and values, which may be the buffers of the past.
   * @internal
   */
  block(layer: number, shape: CachedBlockShape, feeds: Slots, fetches: Slots): Promise<void>;
  /** Of R hidden states [R, C] before the final layer norm. @internal */
  head(hidden: Float32Array, R: number, results: HeadResults): Promise<void>;
  /** Free what was made for it. */
  release(): void;
}

/** The model's own weights. Nothing is copied, and changes of the model show at once. */
export const storedWeights = (model: GPT2HeadWithValueModel): DecodingWeights => fp32Weights(model);

/**
 * A copy of the blocks' matrices, stored [out, in]: 340 MB for GPT-2 124M. A product of a few rows x [N, in] is then taken as
 * (W x^T)^T, which reads the weights once, in order. With them as the second factor ONNX Runtime first packs them into
 * panels at every product, and takes 1.4 to 1.8 times as long for 4 to 64 rows.
 * @param scratch room for what it has a place for, overwritten: the buffer of the gradients
 */
export function transposedWeights(model: GPT2HeadWithValueModel, scratch?: ParameterBuffer): DecodingWeights {
  const { config, parameters } = model;
  const layers = Array.from({ length: config.nLayer }, (_, layer) => {
    const stored = parameters.block(layer);
    const outputs = blockInputs(config, "", true);
    const copies = BLOCK_MATRICES.map((name) => {
      const full = `transformer.h.${layer}.${name}`;
      const copy = scratch?.has(full) ? scratch.view(full) : new Float32Array(stored[name].length);
      const [N, K] = outputs[name].sizes;
      transposeInto(stored[name], K, N, copy);
      return [name, copy];
    });
    return { ...stored, ...Object.fromEntries(copies) };
  });
  return fp32Weights(model, layers);
}

function fp32Weights(
  model: GPT2HeadWithValueModel,
  transposed?: readonly Record<string, Float32Array>[],
): DecodingWeights {
  const { engine, parameters, head } = model;
  const programs = new Memo((shape: CachedBlockShape) => cachedBlock(model, shape, transposed !== undefined));
  return {
    block(layer, shape, feeds, fetches) {
      const weights = transposed ? transposed[layer] : parameters.block(layer);
      return engine.run(programs.get(shape), { ...feeds, ...weights }, fetches);
    },
    head: (hidden, R, { logits, values, probabilities }) =>
      head.logits(parameters, hidden, R, logits, values, { probabilities }),
    release: () => {},
  };
}

/** x [N, K] times W^T, W stored [O, K]: the transpose of W x^T. The bias inside keeps ONNX Runtime from swapping it back. */
const transposedProduct: Product = (x, weight, bias) => {
  const column = reshape(bias, dims({ O: bias.shape[0].size, one: 1 })); // [O] -> [O, 1]
  return transpose(linear(weight, x, column, { transW: true }), [1, 0]); // [O, N] -> [N, O]
};

function cachedBlock(
  { config }: GPT2HeadWithValueModel,
  { B, T, M, D, scale }: CachedBlockShape,
  transposed: boolean,
): Program {
  const { nEmbd: C, nHead: H } = config;
  const product = transposed ? transposedProduct : linear;
  const x = input("x", { N: B * T, C });
  const p = blockInputs(config, "", transposed);
  const fill = D - C / H;
  const fillUp = (part: Tensor) => {
    if (fill === 0) return reshape(part, dims({ B, T, C })); // [N, C] -> [B, T, C]
    const heads = reshape(part, dims({ B, T, H, D: C / H })); // [N, C] -> [B, T, H, C / H]
    const filled = concat([heads, constant(0, dims({ B, T, H, fill }))], 3);
    return reshape(filled, dims({ B, T, HD: H * D })); // [B, T, H, D] -> [B, T, H D]
  };
  const qkv = split(queriesKeysValues(x, p, config, product), 1, [C, C, C]).map(fillUp);
  const past = [input("pastKeys", { B, H, M, D }), input("pastValues", { B, H, M, D })];
  const lengths = [input("last", { B }, "int32"), input("total", { one: 1 }, "int32")];
  const [mixed, keys, values] = cachedAttention([...qkv, ...past, ...lengths], { heads: H, scale });
  const perHead = reshape(mixed, dims({ B, T, H, D })); // [B, T, H D] -> [B, T, H, D]
  const trimmed = fill === 0 ? perHead : split(perHead, 3, [C / H, fill])[0];
  const flat = reshape(trimmed, dims({ N: B * T, C })); // [B, T, H, C / H] -> [N, C]
  const middle = add(x, product(flat, p["attn.c_proj.weight"], p["attn.c_proj.bias"]));
  return { name: "cached block", outputs: { y: feedForward(middle, p, config, product), keys, values } };
}

/** Edge of the squares that are transposed one after another, so that both sides stay in the cache. */
const SQUARE = 64;

/** [K, N] -> [N, K] */
function transposeInto(from: Float32Array, K: number, N: number, to: Float32Array): void {
  for (let k0 = 0; k0 < K; k0 += SQUARE) {
    const k1 = Math.min(K, k0 + SQUARE);
    for (let n0 = 0; n0 < N; n0 += SQUARE) {
      const n1 = Math.min(N, n0 + SQUARE);
      for (let n = n0; n < n1; n++) for (let k = k0; k < k1; k++) to[n * K + k] = from[k * N + n];
    }
  }
}
