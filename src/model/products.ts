/** @file How a block multiplies by its weights in float32: where they lie, or by copies stored the other way round. */
import { linear, reshape, transpose } from "../graph/ops/index.ts";
import { constant, dims, type Tensor } from "../graph/tensor.ts";
import type { Product } from "./family.ts";
import { type Parameter, parameterInputs } from "./parameters.ts";

/** A block's parameters as inputs of a program, and how it multiplies by its matrices. */
export interface BlockWeights {
  /** By name within the block. */
  readonly p: Readonly<Record<string, Tensor>>;
  readonly product: Product;
}

/** x W or x Wᵀ, plus the bias: weights where they lie. */
export function asStored(rows: readonly Parameter[]): BlockWeights {
  const p = parameterInputs(rows);
  const transposed = new Set(rows.filter(({ matrix }) => matrix === "out,in").map(({ short }) => short));
  const product: Product = (x, weight, bias) =>
    linear(x, p[weight], bias === undefined ? undefined : p[bias], { transW: transposed.has(weight) });
  return { p, product };
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
  return { p, product };
}

const storedOutputsFirst = (row: Parameter): Parameter =>
  row.matrix === "in,out"
    ? { ...row, matrix: "out,in", shape: [...row.shape].reverse(), axes: [...row.axes].reverse() }
    : row;
