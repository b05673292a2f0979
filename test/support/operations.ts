/** @file The cases of test/golden/ops.json, ops-llama.json and ops-export.json as programs. */
import { readFileSync } from "node:fs";
import type { Program } from "../../src/graph/onnx.ts";
import { split } from "../../src/graph/ops/index.ts";
import { operations } from "../../src/graph/ops/registry.ts";
import { apply, type Dim, type DType, elementCount, input, stored, type Tensor } from "../../src/graph/tensor.ts";
import { activations } from "../../src/nn/activations.ts";
import { rotate } from "../../src/nn/rotary.ts";

/** One operation, its inputs, and what torch makes of them. */
export interface OperationCase {
  op: string;
  attrs: Record<string, unknown>;
  inputs: { shape: number[]; dtype: DType; data: number[] }[];
  outputs: { shape: number[]; data: number[] }[];
  outputGradients: number[][];
  inputGradients: (number[] | null)[];
}

const firstHalf = (x: Tensor) => split(x, 3, [x.sizes[3] / 2, x.sizes[3] / 2])[0];

/** What is made of several operations, and has its gradient from theirs. Arguments are those of the reference. */
export const composed: Readonly<Record<string, (inputs: readonly Tensor[]) => Tensor>> = {
  // The reference's tables say everything twice, once for each half.
  rotary: ([x, cos, sin]) => rotate(x, firstHalf(cos), firstHalf(sin)),
  silu: ([x]) => activations.silu(x),
};

const read = (name: string): OperationCase[] =>
  JSON.parse(readFileSync(new URL(`../golden/${name}.json`, import.meta.url), "utf8"));
export const cases = [...read("ops"), ...read("ops-llama"), ...read("ops-export")];

const axes = (shape: number[]): Dim[] => shape.map((size, i) => ({ name: `a${i}`, size }));
const symbolicAttrs = ["reshape", "expand"]; // their `shape` is a list of named axes here

/** The operation applied to inputs x0, x1, ...; its outputs are y0, y1, ... */
export function compileCase(c: OperationCase) {
  const op = operations.get(c.op);
  const attrs = symbolicAttrs.includes(c.op) ? { ...c.attrs, shape: axes(c.attrs.shape as number[]) } : c.attrs;
  const inputs = c.inputs.map((x, i) =>
    x.dtype === "int8" ? stored(Int8Array.from(x.data), axes(x.shape)) : input(`x${i}`, axes(x.shape), x.dtype),
  );
  const outputs = op ? apply(op, inputs, attrs).slice(0, c.outputs.length) : [composed[c.op](inputs)];
  const feeds: Record<string, Float32Array | Int32Array> = Object.fromEntries(
    c.inputs.map((x, i) => [`x${i}`, x.dtype === "int32" ? Int32Array.from(x.data) : Float32Array.from(x.data)]),
  );
  const results: Record<string, Tensor> = Object.fromEntries(outputs.map((t, i) => [`y${i}`, t]));
  const fetches = Object.fromEntries(outputs.map((t, i) => [`y${i}`, new Float32Array(elementCount(t))]));
  const program: Program = { name: c.op, outputs: results };
  return { inputs, outputs, program, feeds, fetches, shapes: outputs.map((t) => t.sizes) };
}
