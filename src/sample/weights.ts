/** @file What decoding multiplies with: the model's weights where they lie, or a copy made ready for many small products. */
import type { Slot, Slots } from "../backend/backend.ts";
import { Memo } from "../base/memo.ts";
import type { Program } from "../graph/onnx.ts";
import { dims, input } from "../graph/tensor.ts";
import { againstCache, type CacheForm } from "../model/attend.ts";
import type { Architecture } from "../model/family.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { alikeLayers, type Parameter, type ParameterBuffer, rowsOfBlock } from "../model/parameters.ts";
import { asStored, type BlockWeights, outputsFirst } from "../model/products.ts";
import { transposed } from "../nn/transposed.ts";

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
   * One block. Feeds: x [B T, C], pastKeys and pastValues [B, K, M, D], last int32 [B], total int32 [1], with rotary positions cos
   * and sin [B, T, 1, D / 2]; fetches: y [B T, C], keys and values, which may be the buffers of the past.
   * @internal
   */
  block(layer: number, form: CacheForm, feeds: Slots, fetches: Slots): Promise<void>;
  /** Of R hidden states [R, C] before the final layer norm. @internal */
  head(hidden: Slot, R: number, results: HeadResults): Promise<void>;
  /** Free what was made for it. */
  release(): void;
}

/** The model's own weights. Nothing is copied, and changes of the model show at once. */
export const storedWeights = (model: CausalLMWithValueHead): DecodingWeights => fp32Weights(model);

/**
 * The matrices of the blocks stored [out, in], copied where they are held in int8 or the other way round: 340 MB for GPT-2 124M. A
 * product of a few rows x [N, in] is then taken as (W xᵀ)ᵀ, which reads the weights once, in order. With them as the second factor
 * ONNX Runtime first packs them into panels at every product, and takes 1.4 to 1.8 times as long for 4 to 64 rows.
 * @param scratch room for what it has a place for, overwritten: the buffer of the gradients
 */
export function transposedWeights(model: CausalLMWithValueHead, scratch?: ParameterBuffer): DecodingWeights {
  const { parameters, sizes, pool } = model;
  const matrices = parameters.table.filter(({ matrix, rounded }) => rounded || matrix === "in,out");
  const copies = new Map<number | undefined, Record<string, Float32Array>>();
  const taken: Float32Array[] = [];
  for (const { name, short, layer, shape, rounded, start, end } of matrices) {
    let copy: Float32Array;
    if (rounded) {
      copy = pool.array(end - start);
      parameters.copyOutputsFirst(name, copy);
      taken.push(copy);
    } else
      copy = transposed(
        parameters.numbers(name),
        shape[0],
        shape[1],
        scratch?.has(name) ? scratch.view(name) : undefined,
      );
    copies.set(layer, { ...copies.get(layer), [short]: copy });
  }
  const layers = Array.from({ length: sizes.layers }, (_, layer) => ({
    ...parameters.block(layer),
    ...copies.get(layer),
  }));
  const weights = fp32Weights(model, outputsFirst, (layer) => layers[layer]);
  return { ...weights, release: () => pool.release(...taken.splice(0)) };
}

function fp32Weights(
  model: CausalLMWithValueHead,
  multiply: (rows: readonly Parameter[]) => BlockWeights = asStored,
  weightsOf = (layer: number) => model.parameters.block(layer),
): DecodingWeights {
  const { engine, parameters, head } = model;
  const { table } = parameters;
  const alike = alikeLayers(table);
  const programs = new Memo(({ like, ...form }: CacheForm & { like: number }) =>
    cachedBlock(model, form, multiply(rowsOfBlock(table, like))),
  );
  return {
    block: (layer, form, feeds, fetches) =>
      engine.run(programs.get({ like: alike[layer], ...form }), { ...feeds, ...weightsOf(layer) }, fetches),
    head: (hidden, R, { logits, values, probabilities }) =>
      head.logits(parameters, hidden, R, logits, values, { probabilities }),
    release: () => {},
  };
}

function cachedBlock(model: Architecture, form: CacheForm, { p, product }: BlockWeights): Program {
  const axes = dims({ N: form.B * form.T });
  const x = input("x", [...axes, { name: "C", size: model.sizes.width }]);
  const { attend, seen } = againstCache(model, form, axes);
  const y = model.family.block(model.config, x, p, attend, product);
  const { keys, values } = seen as Required<typeof seen>;
  return { name: "cached block", outputs: { y, keys, values } };
}
