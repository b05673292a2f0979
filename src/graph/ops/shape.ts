/** @file Operations that move numbers without changing them. */
import {
  apply,
  constant,
  type Dim,
  describe,
  elementCount,
  type Op,
  sameSizes,
  shapeError,
  type Tensor,
} from "../tensor.ts";
import { sumTo } from "./elementwise.ts";

const type = (x: Tensor, shape: readonly Dim[]) => [{ dtype: x.dtype, shape }];

/** How many leading axes a reshape leaves as they are. */
export function keptAxes(from: readonly Dim[], to: readonly Dim[]): number {
  const first = to.findIndex((d, i) => d.name !== from[i]?.name || d.size !== from[i].size);
  return first < 0 ? to.length : first;
}

/** A new shape for the same numbers. Axes that stay, from the first on, may be free ones (see `Program.free`). */
export const reshapeOp: Op = {
  name: "reshape",
  light: true,
  infer: ([x], { shape }) => {
    if (elementCount({ dtype: x.dtype, shape }) !== elementCount(x))
      shapeError("reshape", [x], `as many elements as ${describe({ dtype: x.dtype, shape })}`);
    return type(x, shape);
  },
  emit: (e, [x], outputs, node) => {
    const [from, to] = [node.inputs[0].shape, node.outputs[0].shape];
    const kept = keptAxes(from, to);
    e.node("Reshape", [x, e.int64(to.map((d, i) => (i < kept ? 0 : d.size)))], outputs); // 0: as the input has it
  },
  gradient: (node, [g]) => [g && reshape(g, node.inputs[0].shape)],
};
export const reshape = (x: Tensor, shape: readonly Dim[]) => apply(reshapeOp, [x], { shape })[0];

export const transposeOp: Op = {
  name: "transpose",
  light: true,
  infer: ([x], { perm }) => {
    if ([...perm].sort((a, b) => a - b).some((axis, i) => axis !== i) || perm.length !== x.rank)
      shapeError("transpose", [x], `a permutation of its axes, not [${perm}]`);
    return type(
      x,
      perm.map((axis: number) => x.shape[axis]),
    );
  },
  emit: (e, inputs, outputs, node) => e.node("Transpose", inputs, outputs, { perm: node.attrs.perm }),
  gradient: (node, [g]) => {
    const inverse: number[] = [];
    node.attrs.perm.forEach((axis: number, i: number) => {
      inverse[axis] = i;
    });
    return [g && transpose(g, inverse)];
  },
};
export const transpose = (x: Tensor, perm: readonly number[]) => apply(transposeOp, [x], { perm })[0];

export const splitOp: Op = {
  name: "split",
  light: true,
  infer: ([x], { axis, sizes }: { axis: number; sizes: readonly number[] }) => {
    if (sizes.reduce((n, s) => n + s, 0) !== x.shape[axis]?.size)
      shapeError("split", [x], `parts ${sizes} that add up to axis ${axis}`);
    return sizes.map((size) => ({
      dtype: x.dtype,
      shape: x.shape.map((d, i) => (i === axis ? { name: "", size } : d)),
    }));
  },
  emit: (e, [x], outputs, node) =>
    // ONNX wants every part named, used or not.
    e.node(
      "Split",
      [x, e.int64(node.attrs.sizes)],
      node.outputs.map((_, i) => outputs[i] ?? e.temp()),
      { axis: node.attrs.axis },
    ),
  gradient: (node, grads) => [
    grads.every((g) => g === undefined)
      ? undefined
      : concat(
          grads.map((g, i) => g ?? constant(0, node.outputs[i].shape)),
          node.attrs.axis,
        ),
  ],
};
/** Parts of the given sizes along an axis. */
export const split = (x: Tensor, axis: number, sizes: readonly number[]) => apply(splitOp, [x], { axis, sizes });

export const concatOp: Op = {
  name: "concat",
  light: true,
  infer: (inputs, { axis }: { axis: number }) => {
    const [first] = inputs;
    for (const t of inputs)
      if (
        t.rank !== first.rank ||
        axis >= t.rank ||
        t.shape.some((d, i) => i !== axis && d.size !== first.shape[i].size)
      )
        shapeError("concat", inputs, `the same shape but for axis ${axis}`);
    const size = inputs.reduce((n, t) => n + t.shape[axis].size, 0);
    return type(
      first,
      first.shape.map((d, i) => (i === axis ? { name: d.name, size } : d)),
    );
  },
  emit: (e, inputs, outputs, node) => e.node("Concat", inputs, outputs, { axis: node.attrs.axis }),
  gradient: (node, [g]) => {
    const { axis } = node.attrs;
    if (!g) return node.inputs.map(() => undefined);
    return split(
      g,
      axis,
      node.inputs.map((t) => t.shape[axis].size),
    );
  },
};
export const concat = (parts: readonly Tensor[], axis: number) => apply(concatOp, parts, { axis })[0];

/** Repeat along axes of size 1 (and new leading axes) until the shape is reached. */
export const expandOp: Op = {
  name: "expand",
  light: true,
  infer: ([x], { shape }: { shape: readonly Dim[] }) => {
    const lead = shape.length - x.rank;
    if (lead < 0 || x.shape.some((d, i) => d.size !== 1 && d.size !== shape[lead + i].size))
      shapeError("expand", [x], `a shape that stretches to ${describe({ dtype: x.dtype, shape })}`);
    return type(x, shape);
  },
  emit: (e, [x], outputs, node) => e.node("Expand", [x, e.int64(node.outputs[0].sizes)], outputs),
  gradient: (node, [g]) => [g && sumTo(g, node.inputs[0])],
};
export const expand = (x: Tensor, shape: readonly Dim[]) => {
  const y = { dtype: x.dtype, shape };
  return sameSizes(x, y) ? x : apply(expandOp, [x], { shape })[0];
};
