/** @file How a block multiplies by its weights: where they lie, or by copies stored the other way round, with an adapter's part or that merged in. */
import type { Engine } from "../backend/engine.ts";
import { Memo } from "../base/memo.ts";
import { accumulate } from "../graph/gradient.ts";
import type { Program } from "../graph/onnx.ts";
import { add, linear, matmul, reshape, rowBlocks, scale, transpose } from "../graph/ops/index.ts";
import { constant, dims, elementCount, input, type Tensor } from "../graph/tensor.ts";
import { adapterName } from "./adapter.ts";
import type { Product } from "./family.ts";
import { type Parameter, type ParameterBuffer, parameterInputs } from "./parameters.ts";

/** A block's parameters as inputs of a program, and how it multiplies by its matrices. */
export interface BlockWeights {
  /** By name within the block. */
  readonly p: Readonly<Record<string, Tensor>>;
  readonly product: Product;
}

/**
 * A product with the adapter's part where a matrix has one: x W + s (x Aᵀ) Bᵀ (Hu et al. 2021, section 4.1). Nothing is merged
 * anywhere, so training, scoring and sampling compute the same function.
 * @param rows those of the block; A [r, in] and B [out, r] are in `p`
 */
export function adapted(rows: readonly Parameter[], { p, product }: BlockWeights): BlockWeights {
  const scalings = new Map(rows.map(({ short, adapts }) => [short, adapts?.scaling]));
  const withAdapter: Product = (x, weight, bias) => {
    const [a, b] = [adapterName(weight, "A"), adapterName(weight, "B")];
    const scaling = scalings.get(a);
    const y = product(x, weight, bias);
    if (scaling === undefined) return y;
    const low = scale(timesTransposed(x, p[a]), scaling); // [.., in] -> [.., r]
    // One product onto the other: of the two only their sum is kept for the backward pass.
    if (y.rank === 2) return linear(low, p[b], y, { transW: true }); // [N, r] -> [N, out]
    return add(y, timesTransposed(low, p[b])); // [B, T, r] -> [B, T, out]
  };
  return { p, product: withAdapter };
}

/** x Wᵀ, for x [N, K] or [B, T, K]. */
function timesTransposed(x: Tensor, w: Tensor): Tensor {
  if (x.rank === 2) return linear(x, w, undefined, { transW: true });
  return matmul(x, reshape(w, [...dims({ one: 1 }), ...w.shape]), { transB: true }); // [O, K] -> [1, O, K]
}

/** x W or x Wᵀ, plus the bias: weights where they lie. */
export function asStored(rows: readonly Parameter[]): BlockWeights {
  const p = parameterInputs(rows);
  const transposed = new Set(
    rows.filter(({ matrix, rounded }) => matrix === "out,in" && !rounded).map(({ short }) => short),
  );
  const product: Product = (x, weight, bias) =>
    linear(x, p[weight], bias === undefined ? undefined : p[bias], { transW: transposed.has(weight) });
  return adapted(rows, { p, product });
}

/**
 * All matrices stored [out, in]: x Wᵀ as the transpose of W xᵀ, which reads the weights once, in order. The bias inside keeps ONNX
 * Runtime from swapping it back, so a product without one adds 0.
 */
export function outputsFirst(rows: readonly Parameter[]): BlockWeights {
  const p = parameterInputs(rows.map(storedOutputsFirst));
  const product: Product = (x, weight, bias) => {
    const column =
      bias === undefined
        ? constant(0, dims({ one: 1, two: 1 }))
        : reshape(p[bias], dims({ O: p[bias].shape[0].size, one: 1 })); // [O] -> [O, 1]
    return transpose(linear(p[weight], x, column, { transW: true }), [1, 0]); // [O, N] -> [N, O]
  };
  return adapted(rows, { p, product });
}

const storedOutputsFirst = (row: Parameter): Parameter =>
  row.matrix === "in,out"
    ? { ...row, rounded: false, matrix: "out,in", shape: [...row.shape].reverse(), axes: [...row.axes].reverse() }
    : { ...row, rounded: false };

interface MergeForm {
  /** Sizes of W as it is stored. */
  shape: readonly number[];
  rank: number;
  matrix: "in,out" | "out,in";
  scaling: number;
}

/** W [in, out] + s Aᵀ Bᵀ, or W [out, in] + s B A; A [r, in], B [out, r]. */
function mergeProgram({ shape: [rows, columns], rank, matrix, scaling }: MergeForm): Program {
  const [from, to] = matrix === "in,out" ? [rows, columns] : [columns, rows];
  const w = input("w", { rows, columns });
  const [a, b] = [input("a", { r: rank, in: from }), input("b", { out: to, r: rank })];
  const scaled = scale(a, scaling);
  const merged = matrix === "in,out" ? linear(scaled, b, w, { transX: true, transW: true }) : linear(b, scaled, w); // of W's shape
  return { name: "merge", outputs: { merged } };
}

/**
 * Merge an adapter into the matrices that it is for.
 * @param adapted has the adapter's rows
 * @param plain   the base's parameters, in memory of their own, which are changed
 */
export async function mergedMatrices(engine: Engine, adapted: ParameterBuffer, plain: ParameterBuffer): Promise<void> {
  const programs = new Memo(mergeProgram);
  const rows = new Map(adapted.table.map((row) => [row.name, row]));
  for (const { name, shape, matrix } of plain.table) {
    const names = [adapterName(name, "A"), adapterName(name, "B")];
    const adapts = rows.get(names[1])?.adapts;
    if (!matrix || !adapts) continue;
    const [a, b] = names.map((part) => adapted.slot(part));
    const form = { shape, rank: rows.get(names[0])?.shape[0] as number, matrix, scaling: adapts.scaling };
    const w = plain.slot(name); // what is merged is written where it lies
    await engine.run(programs.get(form), { w, a, b }, { merged: w });
  }
}

const blockName = (name: string, i: number) => (i === 0 ? name : `${name}.${i}`);

/**
 * Gradients of parameters as a program's outputs: `d.name`, and where it is made in blocks of rows `d.name.1` and so on.
 * @param adds each is added to an input, `before.name`
 * @param whole never in blocks
 */
export function gradientOutputs(
  gradients: Readonly<Record<string, Tensor>>,
  adds: boolean,
  whole: boolean,
): Record<string, Tensor> {
  const outputs: Record<string, Tensor> = {};
  for (const [output, gradient] of Object.entries(gradients))
    for (const [i, part] of (whole ? [gradient] : rowBlocks(gradient)).entries()) {
      const name = blockName(output, i);
      outputs[name] = adds ? accumulate(input(name.replace(/^d\./, "before."), part.shape), part) : part;
    }
  return outputs;
}

/** Where the gradients lie that a program of {@link gradientOutputs} makes or adds to; those it has none of are left out. */
export function gradientSlots(
  { outputs }: Program,
  gradients: ParameterBuffer,
  names: readonly string[],
  prefix: "d." | "before.",
): Record<string, Float32Array> {
  const slots: Record<string, Float32Array> = {};
  for (const name of names) {
    const slot = gradients.slot(name);
    let at = 0;
    for (let i = 0; Object.hasOwn(outputs, blockName(`d.${name}`, i)); i++) {
      const length = elementCount(outputs[blockName(`d.${name}`, i)]);
      slots[blockName(prefix + name, i)] = length === slot.length ? slot : slot.subarray(at, at + length);
      at += length;
    }
  }
  return slots;
}
