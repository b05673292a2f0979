/**
 * @file Symbolic tensors. A graph is built by calling operations on tensors; nothing is computed here. Shapes are static
 * and every axis has a name, which travels through the shape rules, is printed in errors and written to the ONNX file.
 */
import { fail } from "../base/errors.ts";

/** int8: weights only. int64: inputs of exported models only, which nothing here runs. */
export type DType = "float32" | "int32" | "int64" | "int8";

/** One axis: `{ name: "T", size: 128 }`. */
export interface Dim {
  readonly name: string;
  readonly size: number;
}

export interface TensorType {
  readonly dtype: DType;
  readonly shape: readonly Dim[];
}

/** One output of one node. */
export class Tensor implements TensorType {
  readonly node: Node;
  readonly index: number;
  readonly dtype: DType;
  readonly shape: readonly Dim[];

  constructor(node: Node, index: number, type: TensorType) {
    this.node = node;
    this.index = index;
    this.dtype = type.dtype;
    this.shape = type.shape;
  }

  /** Axis sizes: `[8, 128, 768]`. */
  get sizes(): number[] {
    return this.shape.map((d) => d.size);
  }

  get rank(): number {
    return this.shape.length;
  }

  toString(): string {
    return describe(this);
  }
}

/** An operation applied to tensors. `id` grows with creation, so sorting by it is a topological order. */
export interface Node {
  readonly id: number;
  readonly op: Op;
  readonly inputs: readonly Tensor[];
  readonly attrs: Attrs;
  readonly outputs: readonly Tensor[];
}

// biome-ignore lint/suspicious/noExplicitAny: each operation declares its own attributes
export type Attrs = any;

/** Writes the ONNX nodes of one operation. Names are ONNX value names; trailing outputs that nobody uses are left out. */
export interface Emitter {
  node(
    opType: string,
    inputs: string[],
    outputs: string[],
    attrs?: Record<string, AttributeValue>,
    domain?: string,
  ): void;
  /** A fresh name for a value inside the operation. */
  temp(): string;
  /** The name of an int64 constant vector, as ONNX wants for shapes and axes. */
  int64(values: readonly number[]): string;
  /** The name of a scalar uint8 constant. */
  uint8(value: number): string;
  /** The name of a float32 constant of the given shape (default: a scalar), every element `value`. */
  float(value: number, sizes?: readonly number[]): string;
  /** The name of a float32 constant vector. */
  floats(values: readonly number[]): string;
  /** Names of the axes whose size is given at each run. */
  readonly free: readonly string[];
}

export type AttributeValue = number | string | readonly number[] | { float: number };

/** One record per operation: shape rule, ONNX emission and gradient side by side. */
export interface Op {
  readonly name: string;
  /** Types of the outputs, or an error that says which input does not fit. */
  infer(inputs: readonly Tensor[], attrs: Attrs): TensorType[];
  /** ONNX nodes that compute `outputs` from `inputs`. */
  emit(e: Emitter, inputs: string[], outputs: string[], node: Node): void;
  /**
   * Gradients of the inputs, given those of the outputs (undefined where no gradient flows); undefined for an input that has
   * none. Absent for leaves and for operations that only sampling uses, where differentiating is an error.
   */
  gradient?(node: Node, grads: readonly (Tensor | undefined)[]): readonly (Tensor | undefined)[];
  /** True when the backward session should recompute the result rather than keep it: one cheap pass over memory. */
  readonly light: boolean;
}

let nextId = 0;

/** Apply an operation. */
export function apply(op: Op, inputs: readonly Tensor[], attrs: Attrs = {}): readonly Tensor[] {
  const outputs: Tensor[] = [];
  const node: Node = { id: nextId++, op, inputs, attrs, outputs };
  op.infer(inputs, attrs).forEach((type, i) => {
    outputs.push(new Tensor(node, i, type));
  });
  return outputs;
}

/** `[B=8, T=128]:float32` */
export function describe(t: TensorType): string {
  return `[${t.shape.map((d) => (d.name ? `${d.name}=${d.size}` : `${d.size}`)).join(", ")}]:${t.dtype}`;
}

/** `dims({ B: 8, T: 128 })`: axes in the order written. */
export function dims(sizes: Record<string, number>): Dim[] {
  return Object.entries(sizes).map(([name, size]) => ({ name, size }));
}

export function elementCount(t: TensorType): number {
  return t.shape.reduce((n, d) => n * d.size, 1);
}

export function sameSizes(a: TensorType, b: TensorType): boolean {
  return a.shape.length === b.shape.length && a.shape.every((d, i) => d.size === b.shape[i].size);
}

/** A shape error of an operation, with the types of its inputs. */
export function shapeError(op: string, inputs: readonly TensorType[], expected: string): never {
  return fail("shape", {
    where: `operation ${op}`,
    found: inputs.map(describe).join(", ") || "no inputs",
    expected,
    fix: "check the shapes given to this operation",
  });
}

const inputOp: Op = {
  name: "input",
  light: false,
  infer: (_, attrs) => [attrs.type],
  emit: () => {},
};

/** A graph input: `input("h", { N: 1024, C: 768 })`. */
export function input(name: string, sizes: Record<string, number> | readonly Dim[], dtype: DType = "float32"): Tensor {
  const shape = Array.isArray(sizes) ? (sizes as readonly Dim[]) : dims(sizes as Record<string, number>);
  return apply(inputOp, [], { name, type: { dtype, shape } })[0];
}

const constantOp: Op = {
  name: "constant",
  light: true,
  infer: (_, attrs) => [{ dtype: "float32", shape: attrs.shape }],
  emit: (e, _inputs, outputs, node) => {
    const sizes = node.outputs[0].sizes;
    e.node("Identity", [e.float(node.attrs.value, sizes)], [outputs[0]]);
  },
};

/** A float32 constant, the same number everywhere; a scalar (shape []) unless axes are given. */
export function constant(value: number, shape: readonly Dim[] = []): Tensor {
  return apply(constantOp, [], { value, shape })[0];
}

/** Numbers that are part of a program. */
export type StoredNumbers = Float32Array | Int8Array;

const storedOp: Op = {
  name: "stored",
  light: true,
  infer: (_, attrs) => [{ dtype: attrs.dtype, shape: attrs.shape }],
  emit: () => {},
};

/** Numbers that become part of the program, and are copied into it: weights of a model that is only used. */
export function stored(data: StoredNumbers, sizes: Record<string, number> | readonly Dim[]): Tensor {
  return storedLater(() => data, sizes, data instanceof Int8Array ? "int8" : "float32");
}

/** The same for numbers that are made when they are written, and not kept. */
export function storedLater(
  make: () => StoredNumbers,
  sizes: Record<string, number> | readonly Dim[],
  dtype: "float32" | "int8",
): Tensor {
  const shape = Array.isArray(sizes) ? (sizes as readonly Dim[]) : dims(sizes as Record<string, number>);
  return apply(storedOp, [], { make, dtype, shape })[0];
}

/** What makes the numbers of a {@link stored} tensor; undefined for any other. */
export function storedData(t: Tensor): (() => StoredNumbers) | undefined {
  return t.node.op === storedOp ? t.node.attrs.make : undefined;
}

export function isInput(t: Tensor): boolean {
  return t.node.op === inputOp;
}

/** The number of a {@link constant}, or undefined for any other tensor. */
export function constantValue(t: Tensor): number | undefined {
  return t.node.op === constantOp ? t.node.attrs.value : undefined;
}
