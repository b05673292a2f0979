/** @file Sums, means and maxima along axes. */
import { apply, constant, type Dim, type Op, shapeError, type Tensor } from "../tensor.ts";
import { div, greater, mul, scale, sub } from "./elementwise.ts";
import { expand, reshape } from "./shape.ts";

interface ReduceAttrs {
  axes: readonly number[];
  keepDims: boolean;
}

function reduce(name: string, onnx: string, gradient: Op["gradient"]): Op {
  return {
    name,
    light: true,
    infer: ([x], { axes, keepDims }: ReduceAttrs) => {
      if (axes.some((a) => a < 0 || a >= x.rank)) shapeError(name, [x], `axes below the rank, not ${axes}`);
      const shape: Dim[] = [];
      x.shape.forEach((d, i) => {
        if (!axes.includes(i)) shape.push(d);
        else if (keepDims) shape.push({ name: d.name, size: 1 });
      });
      return [{ dtype: "float32", shape }];
    },
    emit: (e, [x], outputs, node) =>
      e.node(onnx, [x, e.int64(node.attrs.axes)], outputs, { keepdims: node.attrs.keepDims ? 1 : 0 }),
    gradient,
  };
}

/** The reduced shape with size-1 axes put back, so that it broadcasts against the input. */
const kept = (x: Tensor, axes: readonly number[]): Dim[] =>
  x.shape.map((d, i) => (axes.includes(i) ? { name: d.name, size: 1 } : d));

export const reduceSumOp = reduce("reduceSum", "ReduceSum", (node, [g]) => {
  const x = node.inputs[0];
  return [g && expand(reshape(g, kept(x, node.attrs.axes)), x.shape)];
});
export const reduceSum = (x: Tensor, axes: readonly number[], keepDims = false) =>
  apply(reduceSumOp, [x], { axes, keepDims })[0];

export const reduceMeanOp = reduce("reduceMean", "ReduceMean", (node, [g]) => {
  const x = node.inputs[0];
  const count = node.attrs.axes.reduce((n: number, a: number) => n * x.shape[a].size, 1);
  return [g && expand(reshape(scale(g, 1 / count), kept(x, node.attrs.axes)), x.shape)];
});
export const reduceMean = (x: Tensor, axes: readonly number[], keepDims = false) =>
  apply(reduceMeanOp, [x], { axes, keepDims })[0];

// The gradient goes to every element that is not below the maximum; equal maxima share it.
export const reduceMaxOp = reduce("reduceMax", "ReduceMax", (node, [g]) => {
  if (!g) return [undefined];
  const x = node.inputs[0];
  const axes: readonly number[] = node.attrs.axes;
  const below = greater(reshape(node.outputs[0], kept(x, axes)), x); // 1 where x < max
  const isMax = sub(constant(1), below);
  const share = div(isMax, reduceSum(isMax, axes, true));
  return [mul(share, reshape(g, kept(x, axes)))];
});
export const reduceMax = (x: Tensor, axes: readonly number[], keepDims = false) =>
  apply(reduceMaxOp, [x], { axes, keepDims })[0];
