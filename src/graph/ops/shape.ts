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

/**
 * A reshape's sizes as ONNX wants them: 0 for an axis that stays in its place, -1 for the one that takes what is left when axes
 * of free size are among those that change.
 */
function onnxSizes(from: readonly Dim[], to: readonly Dim[], free: readonly string[]): number[] {
  const isFree = (d: Dim) => free.includes(d.name);
  const stays = (d: Dim, i: number) => d.name === from[i]?.name && d.size === from[i].size;
  const left = from.filter((d, i) => isFree(d) && !(d.name === to[i]?.name && d.size === to[i].size));
  const changed = to.filter((d, i) => !stays(d, i));
  const open = changed.filter(isFree).length;
  const sizes = to.map((d, i) => (stays(d, i) ? 0 : isFree(d) ? -1 : d.size));
  // The size that a free axis is built with must not find its way into what is written down.
  const fits = left.every(({ size }) => changed.every((d) => isFree(d) || d.size % size !== 0));
  if (open > 1 || open > 0 !== left.length > 0 || !fits)
    shapeError(
      "reshape",
      [{ dtype: "float32", shape: from }],
      `no more than one free axis (of ${free.join(", ")}) among those that change, unlike in ${describe({ dtype: "float32", shape: to })}`,
    );
  return sizes;
}

/** A new shape for the same numbers. Free axes (see `Program.free`) may stay in their place, and one may be made of others. */
export const reshapeOp: Op = {
  name: "reshape",
  light: true,
  infer: ([x], { shape }) => {
    if (elementCount({ dtype: x.dtype, shape }) !== elementCount(x))
      shapeError("reshape", [x], `as many elements as ${describe({ dtype: x.dtype, shape })}`);
    return type(x, shape);
  },
  emit: (e, [x], outputs, node) =>
    e.node("Reshape", [x, e.int64(onnxSizes(node.inputs[0].shape, node.outputs[0].shape, e.free))], outputs),
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
  infer: (inputs, { axis, name }: { axis: number; name?: string }) => {
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
      first.shape.map((d, i) => (i === axis ? { name: name ?? d.name, size } : d)),
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
/** @param name of the joined axis; default: as in the first part */
export const concat = (parts: readonly Tensor[], axis: number, name?: string) =>
  apply(concatOp, parts, { axis, name })[0];

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
