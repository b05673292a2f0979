/** @file A copy of a model for sampling in int8: its matrices quantised and compiled in, everything else in float32. */
import type { Slots } from "../backend/backend.ts";
import { fail } from "../base/errors.ts";
import type { Program } from "../graph/onnx.ts";
import { quantizedLinear, softmax } from "../graph/ops/index.ts";
import { dims, input, stored, type Tensor } from "../graph/tensor.ts";
import { againstCache } from "../model/attend.ts";
import { lmHeadName, type Product } from "../model/family.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import {
  headRows,
  type Parameter,
  type ParameterBuffer,
  rowDims,
  rowsOfBlock,
  VALUE_HEAD_NAMES,
} from "../model/parameters.ts";
import { adapted, type BlockWeights } from "../model/products.ts";
import { type QuantizedMatrix, quantize, quantizeTransposed } from "../nn/quantized.ts";
import type { DecodingWeights } from "./weights.ts";

/** The cache takes heads of a multiple of this, and filling them up is not worth its while here. */
const HEAD_MULTIPLE = 8;

/** Whether a model can be sampled from in int8. */
export const fitsInt8 = ({ headSize }: { headSize: number }): boolean => headSize % HEAD_MULTIPLE === 0;

/**
 * The model as it is now, in int8: the matrices of the blocks and the language-model head rounded to 8 bits, one scale for
 * each output; what they are multiplied with is rounded row by row. Embeddings, layer norms, biases, attention, an adapter and the
 * value head stay in float32; the last two are read where they lie. 125 MB for GPT-2 124M, 300 while it is made. One session for
 * each layer, whose weights are packed when it is built.
 * @throws config - heads of a size that is not a multiple of 8
 */
export function int8Weights(model: CausalLMWithValueHead): DecodingWeights {
  const { sizes, engine } = model;
  if (!fitsInt8(sizes))
    fail("config", {
      where: "sampling in int8",
      found: `heads of ${sizes.headSize} numbers`,
      expected: `a multiple of ${HEAD_MULTIPLE}`,
      fix: "sample this model in fp32",
    });
  const compile = (program: Program) => {
    const compiled = engine.compile(program);
    compiled.catch(() => {}); // told to whoever runs it
    return compiled;
  };
  const layers = Array.from({ length: sizes.layers }, (_, layer) => compile(blockProgram(model, layer)));
  const head = compile(headProgram(model));
  const valueHead = feedsOf(model, headRows(model, model.parameters.table).filter(isOfValueHead));
  const adapters = Array.from({ length: sizes.layers }, (_, layer) =>
    feedsOf(
      model,
      rowsOfBlock(model.parameters.table, layer).filter(({ adapts }) => adapts),
    ),
  );
  return {
    async block(layer, { B, T, M }, feeds, fetches) {
      await (await layers[layer]).run({ ...feeds, ...adapters[layer] }, fetches, { B, T, M });
    },
    async head(hidden, R, { logits, probabilities, values }) {
      await (await head).run({ hidden, ...valueHead }, { logits, probabilities, values }, { R });
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

function blockProgram(model: CausalLMWithValueHead, layer: number): Program {
  const { B, T, M } = SIZES;
  const { family, config, sizes, parameters } = model;
  const axes = dims({ B, T });
  const x = input("x", [...axes, { name: "C", size: sizes.width }]);
  const form = { B, T, M, D: sizes.headSize, scale: family.attentionScale(config, layer) };
  const { attend, seen } = againstCache(model, form, axes);
  const { p, product } = quantised(rowsOfBlock(parameters.table, layer), parameters);
  const y = family.block(config, x, p, attend, product);
  const { keys, values } = seen as Required<typeof seen>;
  return { name: "cached int8 block", free: ["B", "T", "M"], outputs: { y, keys, values } };
}

/** A block's parameters, its matrices quantised, and the product that takes them. */
function quantised(rows: readonly Parameter[], parameters: ParameterBuffer): BlockWeights {
  const matrices = new Map<string, ReturnType<typeof storedMatrix>>();
  const p: Record<string, Tensor> = {};
  for (const row of rows) {
    const rounded = parameters.rounded.get(row.name);
    if (rounded) {
      matrices.set(row.short, storedMatrix(rounded));
      continue;
    }
    const data = parameters.numbers(row.name);
    const [rowsOf, columns] = row.shape;
    if (row.matrix === "in,out") matrices.set(row.short, storedMatrix(quantize(data, rowsOf, columns)));
    else if (row.matrix) matrices.set(row.short, storedMatrix(quantizeTransposed(data, rowsOf, columns)));
    else if (row.adapts)
      p[row.short] = input(row.short, rowDims(row)); // it changes while the base does not
    else p[row.short] = stored(data, rowDims(row));
  }
  const product: Product = (x, name, bias) => {
    const { weight, scales } = matrices.get(name) as ReturnType<typeof storedMatrix>;
    return quantizedLinear(x, weight, scales, bias === undefined ? undefined : p[bias]);
  };
  return adapted(rows, { p, product });
}

/** What is not compiled in, for it changes while the rest may not: an adapter's rows, the value head. Where it lies. */
const feedsOf = ({ parameters }: CausalLMWithValueHead, rows: readonly Parameter[]): Slots =>
  Object.fromEntries(rows.map(({ short, name }) => [short, parameters.slot(name)]));

const isOfValueHead = ({ name }: Parameter) => VALUE_HEAD_NAMES.includes(name);

function headProgram(model: CausalLMWithValueHead): Program {
  const { family, config, parameters, vHead } = model;
  const { width: C, vocabSize: V } = model.sizes;
  const own = headRows(model, parameters.table).filter(({ name }) => name !== lmHeadName(model));
  const tensorOf = (row: Parameter) =>
    isOfValueHead(row) ? input(row.short, rowDims(row)) : stored(parameters.numbers(row.name), rowDims(row));
  const p = Object.fromEntries(own.map((row) => [row.name, tensorOf(row)]));
  const hidden = input("hidden", { R: SIZES.R, C });
  const normed = family.normed(config, hidden, p);
  const { weight, scales } = storedMatrix(quantizeTransposed(parameters.numbers(lmHeadName(model)), V, C));
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
