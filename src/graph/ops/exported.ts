/**
 * @file Operations that only an exported model uses, where batch, new tokens and earlier tokens have any size. They have no
 * gradient, and differentiating them is an error. Integers are int64 there, and may be int32.
 */
import { apply, type DType, type Op, shapeError, type Tensor } from "../tensor.ts";
import { quantizedProduct } from "./inference.ts";

const isInteger = ({ dtype }: { dtype: DType }) => dtype === "int64" || dtype === "int32";
const FLOAT = { to: 1 };
const INT64 = { to: 7 };

/** Rows of a table: table [V, C], ids [...] -> [..., C]. */
export const embedRowsOp: Op = {
  name: "embedRows",
  light: false,
  infer: (inputs) => {
    const [table, ids] = inputs;
    if (table.rank !== 2 || !isInteger(ids)) shapeError("embedRows", inputs, "table [V, C] and whole numbers [...]");
    return [{ dtype: "float32", shape: [...ids.shape, table.shape[1]] }];
  },
  emit: (e, inputs, outputs) => e.node("Gather", inputs, outputs, { axis: 0 }),
};
export const embedRows = (table: Tensor, ids: Tensor) => apply(embedRowsOp, [table, ids])[0];

/** Rows of a table in int8 whose columns are rows of the model: table int8 [C, V], scales [V], ids [B, T] -> [B, T, C]. */
export const quantizedRowsOp: Op = {
  name: "quantizedRows",
  light: false,
  infer: (inputs) => {
    const [table, scales, ids] = inputs;
    const fits =
      table.dtype === "int8" &&
      table.rank === 2 &&
      scales.rank === 1 &&
      scales.shape[0].size === table.shape[1].size &&
      ids.rank === 2 &&
      isInteger(ids);
    if (!fits) shapeError("quantizedRows", inputs, "table int8 [C, V], scales [V] and whole numbers [B, T]");
    return [{ dtype: "float32", shape: [...ids.shape, table.shape[0]] }];
  },
  emit: (e, [table, scales, ids], [y]) => {
    const [columns, rows, whole, scale, column] = Array.from({ length: 5 }, () => e.temp());
    e.node("Gather", [table, ids], [columns], { axis: 1 }); // [C, B, T]
    e.node("Transpose", [columns], [rows], { perm: [1, 2, 0] }); // [B, T, C]
    e.node("Cast", [rows], [whole], FLOAT);
    e.node("Gather", [scales, ids], [scale], { axis: 0 }); // [B, T]
    e.node("Unsqueeze", [scale, e.int64([-1])], [column]); // [B, T, 1]
    e.node("Mul", [whole, column], [y]);
  },
};
export const quantizedRows = (table: Tensor, scales: Tensor, ids: Tensor) =>
  apply(quantizedRowsOp, [table, scales, ids])[0];

/** y = x op(w) + bias for rows of any shape: x [..., K], w [K, N] (transposed when asked), bias [N] or none. */
export const projectOp: Op = {
  name: "project",
  light: false,
  infer: (inputs, { transW }: { transW?: boolean }) => {
    const [x, w, bias] = inputs;
    const [k, n] = transW ? [...w.shape].reverse() : w.shape;
    const fits = w.rank === 2 && x.shape[x.rank - 1]?.size === k.size && (!bias || bias.shape[0].size === n.size);
    if (!fits) shapeError("project", inputs, `x [..., K], w ${transW ? "[N, K]" : "[K, N]"} and maybe a bias [N]`);
    return [{ dtype: "float32", shape: [...x.shape.slice(0, -1), n] }];
  },
  emit: (e, [x, w, bias], [y], node) => {
    const turned = node.attrs.transW ? e.temp() : w;
    if (node.attrs.transW) e.node("Transpose", [w], [turned], { perm: [1, 0] });
    const product = bias ? e.temp() : y;
    e.node("MatMul", [x, turned], [product]);
    if (bias) e.node("Add", [product, bias], [y]);
  },
};
export const project = (x: Tensor, w: Tensor, bias?: Tensor, attrs: { transW?: boolean } = {}) =>
  apply(projectOp, bias ? [x, w, bias] : [x, w], attrs)[0];

/**
 * Steps in the largest number of a row. Twice 127 of them times a weight of 127 fit in 16 bits, in which x64 processors without VNNI
 * add pairs of products: with numbers up to 255 they would cut off what does not fit.
 */
const LARGEST = 63;
/** What 0 is among the unsigned numbers that stand for x. */
const ZERO = 64;
/** A row of zeros has a step too. */
const SMALLEST_STEP = 1e-30;
/** Steps of the second rounding in one of the first: what is left, at most half a step, reaches as far as LARGEST of them. */
const FINER = 2 * LARGEST;

/**
 * y = x (w scales) + bias in integers of 8 bits: x [..., K], w int8 [K, N], scales [N], bias [N] or none. Each row of x is rounded to whole
 * steps of max |x| / 63, and what is left of it once more to steps 126 times smaller; both are multiplied in one product.
 * Rounded once, as quantizedLinear does, a row with one large number loses all its small ones, and Llamas have such rows
 * ("massive activations", Sun et al. 2024, arXiv 2402.17762): there the error would be tens of times that of the rounded weights.
 */
export const quantizedProjectOp: Op = {
  name: "quantizedProject",
  light: false,
  infer: (inputs) => quantizedProduct("quantizedProject", inputs),
  emit: (e, [x, w, scales, bias], [y], node) => {
    const made = (opType: string, ins: string[], attrs = {}, to = e.temp()) => {
      e.node(opType, ins, [to], attrs);
      return to;
    };
    const largest = made("ReduceMax", [made("Abs", [x]), e.int64([-1])], { keepdims: 1 });
    const step = made("Max", [made("Mul", [largest, e.float(1 / LARGEST)]), e.float(SMALLEST_STEP)]); // [..., 1]
    const steps = made("Div", [x, step]);
    const whole = made("Round", [steps]);
    const rest = made("Mul", [made("Sub", [steps, whole]), e.float(FINER)]);
    const first = e.int64([0]);
    const both = made("Concat", [made("Unsqueeze", [whole, first]), made("Unsqueeze", [rest, first])], { axis: 0 }); // [2, ..., K]
    const q = made("QuantizeLinear", [both, e.float(1), e.uint8(ZERO)]);
    const sums = made("Cast", [made("MatMulInteger", [q, w, e.uint8(ZERO)])], FLOAT); // [2, ..., N]
    const { rank } = node.inputs[0];
    const weights = made("Unsqueeze", [
      e.floats([1, 1 / FINER]),
      e.int64(Array.from({ length: rank }, (_, i) => i + 1)),
    ]);
    const sum = made("ReduceSum", [made("Mul", [sums, weights]), first], { keepdims: 0 }); // [..., N]
    const product = made("Mul", [made("Mul", [sum, scales]), step], {}, bias ? e.temp() : y);
    if (bias) made("Add", [product, bias], {}, y);
  },
};
export const quantizedProject = (x: Tensor, w: Tensor, scales: Tensor, bias?: Tensor) =>
  apply(quantizedProjectOp, bias ? [x, w, scales, bias] : [x, w, scales])[0];

/** Cosine and sine of position times frequency: positions [B, T], frequencies [F] -> two of [B, 1, T, F]. */
export const rotaryAnglesOp: Op = {
  name: "rotaryAngles",
  light: false,
  infer: (inputs) => {
    const [positions, frequencies] = inputs;
    if (positions.rank !== 2 || !isInteger(positions) || frequencies.rank !== 1)
      shapeError("rotaryAngles", inputs, "whole numbers [B, T] and frequencies [F]");
    const [B, T] = positions.shape;
    const shape = [B, { name: "head", size: 1 }, T, frequencies.shape[0]];
    return [
      { dtype: "float32", shape },
      { dtype: "float32", shape },
    ];
  },
  emit: (e, [positions, frequencies], [cos, sin]) => {
    const [numbers, column, angles] = Array.from({ length: 3 }, () => e.temp());
    e.node("Cast", [positions], [numbers], FLOAT);
    e.node("Unsqueeze", [numbers, e.int64([1, 3])], [column]); // [B, T] -> [B, 1, T, 1]
    e.node("Mul", [column, frequencies], [angles]);
    e.node("Cos", [angles], [cos]);
    e.node("Sin", [angles], [sin ?? e.temp()]);
  },
};
export const rotaryAngles = (positions: Tensor, frequencies: Tensor) => apply(rotaryAnglesOp, [positions, frequencies]);

/**
 * What is added to scores: mask [B, S] (1: the token exists), ids [B, T], the last T of the S tokens -> [B, 1, T, S]. 0 where a
 * token may look, which is at itself and at those before it that exist; `masked` elsewhere.
 */
export const maskBiasOp: Op = {
  name: "maskBias",
  light: false,
  infer: (inputs) => {
    const [mask, ids] = inputs;
    if (mask.rank !== 2 || ids.rank !== 2 || !inputs.every(isInteger))
      shapeError("maskBias", inputs, "whole numbers [B, S] and [B, T]");
    const [B, S] = mask.shape;
    return [{ dtype: "float32", shape: [B, { name: "head", size: 1 }, ids.shape[1], S] }];
  },
  emit: (e, [mask, ids], [y], node) => {
    const unsqueeze = (x: string, ...axes: number[]) => {
      const to = e.temp();
      e.node("Unsqueeze", [x, e.int64(axes)], [to]);
      return to;
    };
    /** n - 1 ... 0, n the size of an input's second axis: how far each token is from the end. [n] */
    const fromEnd = (x: string) => {
      const [sizes, size, n, first, steps] = Array.from({ length: 5 }, () => e.temp());
      e.node("Shape", [x], [sizes], { start: 1, end: 2 });
      e.node("Squeeze", [sizes], [size]);
      e.node("Cast", [size], [n], FLOAT);
      e.node("Sub", [n, e.float(1)], [first]);
      e.node("Range", [first, e.float(-1), e.float(-1)], [steps]);
      return steps;
    };
    const [later, exists, missing, hidden] = Array.from({ length: 4 }, () => e.temp());
    e.node("Greater", [unsqueeze(fromEnd(ids), 1), fromEnd(mask)], [later]); // [T, S]
    e.node("Cast", [mask], [exists], FLOAT);
    e.node("Less", [unsqueeze(exists, 1, 2), e.float(0.5)], [missing]); // [B, 1, 1, S]
    e.node("Or", [later, missing], [hidden]);
    e.node("Where", [hidden, e.float(node.attrs.masked), e.float(0)], [y]);
  },
};
export const maskBias = (mask: Tensor, ids: Tensor, masked: number) => apply(maskBiasOp, [mask, ids], { masked })[0];

/** The last n of T: x [B, T, ...], n a whole number, 0 for all -> [B, n, ...]. The result has a free axis of that name. */
export const lastRowsOp: Op = {
  name: "lastRows",
  light: false,
  infer: (inputs, { axis }: { axis: { name: string; size: number } }) => {
    const [x, n] = inputs;
    if (x.rank < 2 || n.rank !== 0 || !isInteger(n)) shapeError("lastRows", inputs, "x [B, T, ...] and a whole number");
    return [{ dtype: "float32", shape: [x.shape[0], axis, ...x.shape.slice(2)] }];
  },
  emit: (e, [x, n], [y]) => {
    const [whole, before, start] = Array.from({ length: 3 }, () => e.temp());
    e.node("Cast", [n], [whole], INT64);
    e.node("Neg", [whole], [before]);
    e.node("Unsqueeze", [before, e.int64([0])], [start]); // -0 is 0: from the beginning
    e.node("Slice", [x, start, e.int64([Number.MAX_SAFE_INTEGER]), e.int64([1])], [y]);
  },
};
export const lastRows = (x: Tensor, n: Tensor, axis: { name: string; size: number }) =>
  apply(lastRowsOp, [x, n], { axis })[0];
