/** @file Reading and adding by index. Indices are int32. */
import { apply, constant, type Op, shapeError, type Tensor } from "../tensor.ts";
import { reshape } from "./shape.ts";

/** Rows of a table: table [V, C], ids [N] -> [N, C]: an embedding. */
export const gatherRowsOp: Op = {
  name: "gatherRows",
  light: true,
  infer: (inputs) => {
    const [table, ids] = inputs;
    if (table.rank !== 2 || ids.rank !== 1 || ids.dtype !== "int32")
      shapeError("gatherRows", inputs, "table [V, C] and int32 ids [N]");
    return [{ dtype: "float32", shape: [ids.shape[0], table.shape[1]] }];
  },
  emit: (e, inputs, outputs) => e.node("Gather", inputs, outputs, { axis: 0 }),
  gradient: (node, [g]) => {
    const [table, ids] = node.inputs;
    return [g && scatterAddRows(constant(0, table.shape), ids, g), undefined];
  },
};
export const gatherRows = (table: Tensor, ids: Tensor) => apply(gatherRowsOp, [table, ids])[0];

/** base [V, C] with updates [N, C] added to rows ids [N]; a row named twice gets both. */
export const scatterAddRowsOp: Op = {
  name: "scatterAddRows",
  light: false,
  infer: (inputs) => {
    const [base, ids, updates] = inputs;
    const fits =
      base.rank === 2 &&
      ids.rank === 1 &&
      ids.dtype === "int32" &&
      updates.sizes.join() === [ids.shape[0].size, base.shape[1].size].join();
    if (!fits) shapeError("scatterAddRows", inputs, "base [V, C], int32 ids [N], updates [N, C]");
    return [{ dtype: "float32", shape: base.shape }];
  },
  emit: (e, [base, ids, updates], outputs, node) => {
    // Not ScatterND: with two threads it loses updates to repeated rows (ONNX Runtime 1.30 on CPU, issue 18048).
    const column = e.temp();
    const index = e.temp();
    const [n, c] = node.inputs[2].sizes;
    e.node("Reshape", [ids, e.int64([n, 1])], [column]);
    e.node("Expand", [column, e.int64([n, c])], [index]);
    e.node("ScatterElements", [base, index, updates], outputs, { axis: 0, reduction: "add" });
  },
  gradient: (node, [g]) => [g, undefined, g && gatherRows(g, node.inputs[1])],
};
export const scatterAddRows = (base: Tensor, ids: Tensor, updates: Tensor) =>
  apply(scatterAddRowsOp, [base, ids, updates])[0];

/** One element of each row: x [..., V], ids [...] -> [...]. */
export const gatherLastOp: Op = {
  name: "gatherLast",
  light: true,
  infer: (inputs) => {
    const [x, ids] = inputs;
    if (ids.dtype !== "int32" || ids.rank !== x.rank - 1 || ids.shape.some((d, i) => d.size !== x.shape[i].size))
      shapeError("gatherLast", inputs, "x [..., V] and int32 ids [...]");
    return [{ dtype: "float32", shape: ids.shape }];
  },
  emit: (e, [x, ids], outputs, node) => {
    const column = e.temp();
    const picked = e.temp();
    const sizes = node.outputs[0].sizes;
    e.node("Reshape", [ids, e.int64([...sizes, 1])], [column]);
    e.node("GatherElements", [x, column], [picked], { axis: -1 });
    e.node("Reshape", [picked, e.int64(sizes)], outputs);
  },
  gradient: (node, [g]) => {
    const [x, ids] = node.inputs;
    return [g && scatterAddLast(constant(0, x.shape), ids, g), undefined];
  },
};
export const gatherLast = (x: Tensor, ids: Tensor) => apply(gatherLastOp, [x, ids])[0];

/** base [..., V] with updates [...] added at ids [...]. */
export const scatterAddLastOp: Op = {
  name: "scatterAddLast",
  light: true,
  infer: (inputs) => {
    const [base, ids, updates] = inputs;
    const rows = base.sizes.slice(0, -1).join();
    if (ids.dtype !== "int32" || ids.sizes.join() !== rows || updates.sizes.join() !== rows || base.rank === 0)
      shapeError("scatterAddLast", inputs, "base [..., V], int32 ids [...], updates [...]");
    return [{ dtype: "float32", shape: base.shape }];
  },
  emit: (e, [base, ids, updates], outputs, node) => {
    const index = e.temp();
    const value = e.temp();
    const sizes = [...node.inputs[1].sizes, 1];
    e.node("Reshape", [ids, e.int64(sizes)], [index]);
    e.node("Reshape", [updates, e.int64(sizes)], [value]);
    e.node("ScatterElements", [base, index, value], outputs, { axis: -1, reduction: "add" });
  },
  gradient: (node, [g]) => [g, undefined, g && gatherLast(g, node.inputs[1])],
};
export const scatterAddLast = (base: Tensor, ids: Tensor, updates: Tensor) =>
  apply(scatterAddLastOp, [base, ids, updates])[0];

/** [N] -> [N, 1] */
export const column = (x: Tensor) => reshape(x, [...x.shape, { name: "", size: 1 }]);
