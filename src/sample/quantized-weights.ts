/** @file A copy of a model for sampling in int8: its matrices quantised and compiled in, everything else in float32. */
import { fail } from "../base/errors.ts";
import type { Program } from "../graph/onnx.ts";
import { add, cachedAttention, layerNorm, quantizedLinear, softmax, split } from "../graph/ops/index.ts";
import { input, stored, type Tensor } from "../graph/tensor.ts";
import type { GPT2Config } from "../model/config.ts";
import type { GPT2HeadWithValueModel } from "../model/model.ts";
import { attentionScale, BLOCK_MATRICES, blockInputs, feedForward, queriesKeysValues } from "../model/transformer.ts";
import { type QuantizedMatrix, quantize, quantizeTransposed } from "../nn/quantized.ts";
import type { DecodingWeights } from "./weights.ts";

/** The cache takes heads of a multiple of this, and filling them up is not worth its while here. */
const HEAD_MULTIPLE = 8;

/**
 * The model as it is now, in int8: the matrices of the blocks and the language-model head rounded to 8 bits, one scale for
 * each output; what they are multiplied with is rounded row by row. Embeddings, layer norms, biases, attention and the value
 * head stay in float32. 125 MB for GPT-2 124M, 300 while it is made. One session for each layer, whose weights are packed when it is built.
 * @throws config - heads of a size that is not a multiple of 8
 */
export function int8Weights(model: GPT2HeadWithValueModel): DecodingWeights {
  const { config, engine } = model;
  const headSize = config.nEmbd / config.nHead;
  if (headSize % HEAD_MULTIPLE !== 0)
    fail("config", {
      where: "sampling in int8",
      found: `heads of ${headSize} (n_embd / n_head)`,
      expected: `a multiple of ${HEAD_MULTIPLE}`,
      fix: "sample this model in fp32",
    });
  const compile = (program: Program) => {
    const compiled = engine.compile(program);
    compiled.catch(() => {}); // told to whoever runs it
    return compiled;
  };
  const layers = Array.from({ length: config.nLayer }, (_, layer) => compile(blockProgram(model, layer)));
  const head = compile(headProgram(model));
  return {
    async block(layer, { B, T, M }, feeds, fetches) {
      await (await layers[layer]).run(feeds, fetches, { B, T, M });
    },
    async head(hidden, R, { logits, probabilities, values }) {
      await (await head).run({ hidden }, { logits, probabilities, values }, { R });
    },
    release() {
      for (const compiled of [...layers, head])
        compiled.then(
          (executable) => executable.dispose(),
          () => {},
        );
    },
  };
}

/** Any size will do for the free axes. */
const SIZES = { B: 2, T: 3, M: 16, R: 2 };

function blockProgram({ config, parameters }: GPT2HeadWithValueModel, layer: number): Program {
  const { B, T, M } = SIZES;
  const { nEmbd: C, nHead: H } = config;
  const { p, product } = storedBlock(config, parameters.block(layer));
  const x = input("x", { B, T, C });
  const qkv = split(queriesKeysValues(x, p, config, product), 2, [C, C, C]);
  const past = [input("pastKeys", { B, H, M, D: C / H }), input("pastValues", { B, H, M, D: C / H })];
  const lengths = [input("last", { B }, "int32"), input("total", { one: 1 }, "int32")];
  const attrs = { heads: H, scale: attentionScale(config, layer) };
  const [mixed, keys, values] = cachedAttention([...qkv, ...past, ...lengths], attrs);
  const middle = add(x, product(mixed, p["attn.c_proj.weight"], p["attn.c_proj.bias"]));
  const y = feedForward(middle, p, config, product);
  return { name: "cached int8 block", free: ["B", "T", "M"], outputs: { y, keys, values } };
}

/** A block's parameters, its matrices quantised, and the product that takes them. */
function storedBlock(config: GPT2Config, block: Record<string, Float32Array>) {
  const scales = new Map<Tensor, Tensor>();
  const shapes = blockInputs(config);
  const p = Object.fromEntries(
    Object.entries(block).map(([name, data]) => {
      const { shape, sizes } = shapes[name];
      if (!BLOCK_MATRICES.includes(name)) return [name, stored(data, shape)];
      const matrix = storedMatrix(quantize(data, sizes[0], sizes[1]));
      scales.set(matrix.weight, matrix.scales);
      return [name, matrix.weight];
    }),
  );
  const product = (x: Tensor, w: Tensor, bias: Tensor) => quantizedLinear(x, w, scales.get(w) as Tensor, bias);
  return { p, product };
}

function headProgram(model: GPT2HeadWithValueModel): Program {
  const { config, parameters, vHead } = model;
  const { nEmbd: C, vocabSize: V } = config;
  const own = parameters.table.filter(({ name }) => /^(transformer\.ln_f|v_head)\./.test(name));
  const p = Object.fromEntries(
    own.map(({ name, axes, shape }) => {
      const sizes = Object.fromEntries(axes.map((axis, i) => [axis, shape[i]]));
      return [name, stored(parameters.view(name), sizes)];
    }),
  );
  const hidden = input("hidden", { R: SIZES.R, C });
  const normed = layerNorm(hidden, p["transformer.ln_f.weight"], p["transformer.ln_f.bias"], config.layerNormEpsilon);
  const { weight, scales } = storedMatrix(quantizeTransposed(model.getOutputEmbeddings().data, V, C));
  const logits = quantizedLinear(normed, weight, scales); // [R, V]
  return {
    name: "int8 head",
    free: ["R"],
    outputs: { logits, probabilities: softmax(logits), values: vHead.build(normed, p, vHead.form(false)) },
  };
}

const storedMatrix = ({ data, scales, K, N }: QuantizedMatrix) => ({
  weight: stored(data, { K, N }),
  scales: stored(scales, { N }),
});
