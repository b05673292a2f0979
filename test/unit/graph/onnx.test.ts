/** @file The ONNX writer: what is in the file, and that ONNX Runtime computes what the graph says. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { TensorProto_DataType as DataType, ModelProtoSchema, type ValueInfoProto } from "onnx-buf";
import { expect, test } from "vitest";
import { Session } from "../../../src/backend/ort-node.ts";
import { type Program, SENTINEL, writeOnnx } from "../../../src/graph/onnx.ts";
import {
  add,
  expand,
  gatherLast,
  gatherRows,
  layerNorm,
  linear,
  mul,
  reshape,
  rmsNorm,
  scale,
  split,
  tanh,
} from "../../../src/graph/ops/index.ts";
import { constant, dims, input, stored, type Tensor } from "../../../src/graph/tensor.ts";
import { run, runProgram } from "../../support/run.ts";

function decode(program: Program, options?: { sentinel?: boolean }) {
  const { bytes } = writeOnnx(program, options);
  const model = fromBinary(ModelProtoSchema, bytes);
  expect(toBinary(ModelProtoSchema, model).length).toBe(bytes.length); // nothing in it that protobuf's own writer would not write
  const graph = model.graph;
  if (!graph) throw new Error("no graph");
  return { model, graph };
}

function describeInfo(info: ValueInfoProto) {
  const type = info.type?.value;
  if (type?.case !== "tensorType") return `${info.name}: ${type?.case}`;
  const axes = type.value.shape?.dim.map((d) => `${d.denotation}=${d.value.value}`);
  return `${info.name}: ${DataType[type.value.elemType]} [${axes?.join(", ")}]`;
}

test("inputs and outputs carry names, types, sizes and the names of their axes", () => {
  const table = input("table", { V: 5, C: 3 });
  const rows = gatherRows(table, input("ids", { N: 4 }, "int32"));
  const { model, graph } = decode({ name: "lookup", outputs: { rows, total: add(rows, rows) } });
  expect(graph.name).toBe("lookup");
  expect(graph.input.map(describeInfo)).toEqual(["table: FLOAT [V=5, C=3]", "ids: INT32 [N=4]"]);
  expect(graph.output.map(describeInfo)).toEqual(["rows: FLOAT [N=4, C=3]", "total: FLOAT [N=4, C=3]"]);
  expect(model.irVersion).toBe(10n);
  expect(model.opsetImport.map((o) => [o.domain, o.version])).toEqual([
    ["", 21n],
    ["com.microsoft", 1n],
  ]);
});

test("the model tells its inputs, outputs and operators without being decoded", () => {
  const x = input("x", { N: 2, C: 3 });
  const { inputs, outputs, opTypes, name } = writeOnnx({ name: "p", outputs: { y: tanh(add(x, x)) } });
  expect(name).toBe("p");
  expect([...inputs.keys()]).toEqual(["x"]);
  expect(outputs.get("y")?.shape).toEqual(dims({ N: 2, C: 3 }));
  expect([...opTypes]).toEqual(["Add", "Tanh"]);
});

test("attributes keep their types: integers, lists, floats", () => {
  const x = input("x", { N: 2, C: 3 });
  const y = layerNorm(linear(x, input("w", { D: 4, C: 3 }), undefined, { transW: true }), ...gainAndBias(), 1e-5);
  const { graph } = decode({ name: "p", outputs: { y } });
  const attributes = Object.fromEntries(
    graph.node.map((n) => [n.opType, Object.fromEntries(n.attribute.map((a) => [a.name, [a.i, a.f]]))]),
  );
  expect(attributes.Gemm).toEqual({ transA: [0n, 0], transB: [1n, 0] });
  expect(attributes.LayerNormalization.axis).toEqual([-1n, 0]);
  expect(attributes.LayerNormalization.epsilon[1]).toBeCloseTo(1e-5, 10);
});

const gainAndBias = () => [input("gamma", { D: 4 }), input("beta", { D: 4 })] as const;

test("a constant is written once, however often it is used", () => {
  const x = input("x", { N: 2 });
  const y = add(scale(x, 0.25), scale(tanh(x), 0.25));
  const { graph } = decode({ name: "p", outputs: { y } });
  expect(graph.initializer.map((t) => t.floatData)).toEqual([[0.25]]);
});

test("only what the outputs need is written", () => {
  const x = input("x", { N: 2 });
  const unused = input("unused", { N: 2 });
  mul(tanh(x), unused);
  const { graph } = decode({ name: "p", outputs: { y: add(x, x) } });
  expect(graph.node.map((n) => n.opType)).toEqual(["Add"]);
  expect(graph.input.map((i) => i.name)).toEqual(["x"]);
});

test("the sentinel is the first output, a sequence, and changes nothing else", () => {
  const program = { name: "p", outputs: { y: tanh(input("x", { N: 2 })) } };
  const plain = decode(program).graph;
  const { graph } = decode(program, { sentinel: true });
  expect(graph.output.map(describeInfo)).toEqual([`${SENTINEL}: sequenceType`, "y: FLOAT [N=2]"]);
  expect(graph.node.map((n) => n.opType)).toEqual(["SequenceConstruct", ...plain.node.map((n) => n.opType)]);
  expect(graph.input).toEqual(plain.input);
  expect([...writeOnnx(program, { sentinel: true }).outputs.keys()]).toEqual(["y"]);
});

test("an output that is an input is copied", () => {
  const x = input("x", { N: 3 });
  expect(run({ y: x }, { x: Float32Array.of(1, 2, 3) })).toEqual({ y: Float32Array.of(1, 2, 3) });
  expect(decode({ name: "p", outputs: { y: x } }).graph.node.map((n) => n.opType)).toEqual(["Identity"]);
});

test("two inputs, or an input and an output, cannot share a name", () => {
  const x = input("x", { N: 2 });
  const clash = (name: string) =>
    `program p: found an input ${name} and another input or output of that name, expected a name for each input and ` +
    "output. Fix: rename one of them, or make the input once and use it twice";
  expect(() => writeOnnx({ name: "p", outputs: { x } })).toThrow(clash("x"));
  expect(() => writeOnnx({ name: "p", outputs: { x: tanh(x) } })).toThrow(clash("x"));
  expect(() => writeOnnx({ name: "p", outputs: { y: add(x, input("x", { N: 2 })) } })).toThrow(clash("x"));
  const middle = tanh(input("z", { N: 2 }));
  const cuts = new Map([[middle, "x"]]);
  expect(() => writeOnnx({ name: "p", outputs: { y: add(x, middle) }, cuts })).toThrow(clash("x"));
});

test("any name is free for inputs: what the writer makes up is apart", () => {
  const [t0, c0, i] = [input("t0", { N: 1 }), input("c0", { N: 1 }), input("n0", { N: 1 })];
  const y = add(add(mul(t0, constant(2)), c0), tanh(i));
  expect(run({ y }, { t0: Float32Array.of(5), c0: Float32Array.of(100), n0: Float32Array.of(0) })).toEqual({
    y: Float32Array.of(110),
  });
});

test("one tensor under two names", () => {
  const x = input("x", { N: 2 });
  const twice = add(x, x);
  const results = run({ a: twice, b: twice, c: add(twice, x) }, { x: Float32Array.of(1, -2) });
  expect(results).toEqual({ a: Float32Array.of(2, -4), b: Float32Array.of(2, -4), c: Float32Array.of(3, -6) });
});

test("a constant may be an output", () => {
  expect(run({ y: constant(0.5, dims({ N: 2, C: 2 })) })).toEqual({ y: new Float32Array(4).fill(0.5) });
});

test("an output that another output is computed from", () => {
  const x = input("x", { N: 2 });
  const middle = add(x, constant(1));
  expect(run({ end: mul(middle, middle), middle }, { x: Float32Array.of(1, 2) })).toEqual({
    end: Float32Array.of(4, 9),
    middle: Float32Array.of(2, 3),
  });
});

test("outputs of an operation that nobody uses: first, middle, last", () => {
  const x = input("x", { N: 1, C: 6 });
  const feeds = { x: Float32Array.of(1, 2, 3, 4, 5, 6) };
  const [a, b, c] = split(x, 1, [1, 2, 3]);
  expect(run({ b }, feeds)).toEqual({ b: Float32Array.of(2, 3) });
  expect(run({ a, c }, feeds)).toEqual({ a: Float32Array.of(1), c: Float32Array.of(4, 5, 6) });
  // Layer norm of 1..6: mean 3.5, variance 35/12. The standard deviation without the mean leaves a gap in the middle.
  const [ones, zeros] = [constant(1, dims({ C: 6 })), constant(0, dims({ C: 6 }))];
  const normed = layerNorm(x, ones, zeros, 0);
  const [y, mean, r] = normed.node.outputs;
  const got = run({ y, r }, feeds);
  expect(got.r[0]).toBeCloseTo(Math.sqrt(12 / 35), 6);
  expect(got.y[5]).toBeCloseTo(2.5 * Math.sqrt(12 / 35), 6);
  expect(run({ mean }, feeds).mean[0]).toBeCloseTo(3.5, 6);
});

test("a cut tensor is fed, and nothing behind it is computed", () => {
  const x = input("x", { N: 2 });
  const middle = tanh(x);
  const y = add(middle, middle);
  const program: Program = { name: "p", outputs: { y }, cuts: new Map([[middle, "saved"]]) };
  const { graph } = decode(program);
  expect(graph.input.map(describeInfo)).toEqual(["saved: FLOAT [N=2]"]);
  expect(graph.node.map((n) => n.opType)).toEqual(["Add"]);
  expect(runProgram(program, { saved: Float32Array.of(10, 20) })).toEqual({ y: Float32Array.of(20, 40) });
});

test("a cut tensor that is an output is handed through", () => {
  const middle = tanh(input("x", { N: 2 }));
  const program: Program = { name: "p", outputs: { y: middle }, cuts: new Map([[middle, "saved"]]) };
  expect(runProgram(program, { saved: Float32Array.of(10, 20) })).toEqual({ y: Float32Array.of(10, 20) });
});

test("one output of an operation is cut and the other computed", () => {
  const x = input("x", { C: 4 });
  const [a, b] = split(x, 0, [2, 2]);
  const program: Program = { name: "p", outputs: { y: add(a, b) }, cuts: new Map([[a, "saved"]]) };
  const feeds = { x: Float32Array.of(1, 2, 3, 4), saved: Float32Array.of(10, 20) };
  expect(
    decode(program)
      .graph.input.map((i) => i.name)
      .sort(),
  ).toEqual(["saved", "x"]);
  expect(runProgram(program, feeds)).toEqual({ y: Float32Array.of(13, 24) });
});

test("a cut that the outputs do not need is not an input", () => {
  const x = input("x", { N: 2 });
  const aside = tanh(x);
  const program: Program = { name: "p", outputs: { y: add(x, x) }, cuts: new Map([[aside, "saved"]]) };
  expect(decode(program).graph.input.map((i) => i.name)).toEqual(["x"]);
});

test("stored numbers become part of the program, of their own type", () => {
  const data = Float32Array.of(1, 2, 3, 4).subarray(1); // a view, not a whole buffer
  const program = { name: "p", outputs: { y: add(input("x", { C: 3 }), stored(data, { C: 3 })) } };
  const { graph } = decode(program);
  expect(graph.initializer.map((t) => [DataType[t.dataType ?? 0], t.dims])).toEqual([["FLOAT", [3n]]]);
  expect(runProgram(program, { x: Float32Array.of(10, 20, 30) })).toEqual({ y: Float32Array.of(12, 23, 34) });
});

test("the size of a free axis is told at each run, and buffers are checked against it", () => {
  const x = input("x", { N: 2, C: 3 });
  const program: Program = {
    name: "p",
    free: ["N"],
    outputs: { y: add(x, stored(Float32Array.of(1, 2, 3), { C: 3 })) },
  };
  expect(decode(program).graph.input[0].type?.value).toMatchObject({
    value: { shape: { dim: [{ value: { case: "dimParam", value: "N" } }, { value: { value: 3n } }] } },
  });
  const session = new Session(program, { threads: 1 });
  for (const N of [1, 4]) {
    const y = new Float32Array(3 * N);
    session.run({ x: new Float32Array(3 * N).fill(5) }, { y }, { N });
    expect([...y]).toEqual(Array.from({ length: N }, () => [6, 7, 8]).flat());
  }
  expect(() => session.run({ x: new Float32Array(6) }, { y: new Float32Array(6) }, { N: 3 })).toThrow(
    "input x of p: found Float32Array of 6, expected [N=3, C=3]:float32",
  );
  session.dispose();
});

test("a free axis and an operation with sizes among its constants do not go together", () => {
  const refused = (y: Tensor, message: string, free = ["N"]) =>
    expect(() => writeOnnx({ name: "p", free, outputs: { y } })).toThrow(message);
  const sized = (opType: string) =>
    `program p: found ${opType}, which has sizes among its constants, and free axes N, expected operations that take any size. Fix: take an operation without sizes, or leave no axis free`;
  const shapes = (from: string, to: string, free = "N") =>
    `operation reshape: found ${from}:float32, expected no more than one free axis (of ${free}) among those that change, unlike in ${to}:float32. Fix: check the shapes given to this operation`;
  const x = input("x", { N: 2, C: 6 });
  refused(reshape(x, dims({ M: 12 })), shapes("[N=2, C=6]", "[M=12]")); // N goes
  refused(reshape(input("x", { M: 12 }), dims({ N: 2, C: 6 })), shapes("[M=12]", "[N=2, C=6]")); // N comes
  refused(reshape(x, dims({ C: 6, N: 2 })), shapes("[N=2, C=6]", "[C=6, N=2]"));
  refused(reshape(x, dims({ M: 2, C: 6 })), shapes("[N=2, C=6]", "[M=2, C=6]")); // of this size today
  const two = reshape(input("x", { N: 5, M: 7 }), dims({ M: 7, N: 5 }));
  refused(two, shapes("[N=5, M=7]", "[M=7, N=5]", "N, M"), ["N", "M"]);
  const hidden = reshape(input("x", { H: 2, N: 5, D: 3 }), dims({ N: 5, HD: 6 }));
  expect(() => writeOnnx({ name: "p", free: ["N"], outputs: { y: hidden } })).not.toThrow();
  refused(
    reshape(input("x", { H: 2, N: 5, M: 7 }), dims({ N: 5, HM: 14 })),
    shapes("[H=2, N=5, M=7]", "[N=5, HM=14]", "N, M"),
    ["N", "M"],
  );
  refused(expand(input("x", { one: 1, C: 6 }), dims({ N: 2, C: 6 })), sized("Expand"));
  refused(gatherLast(x, input("ids", { N: 2 }, "int32")), sized("Reshape"));
});

test("one free axis may be made of others, in front of axes that stay", () => {
  // [B, H, T, S] -> [B, K, G T, S]: what attention does where heads share keys.
  const x = input("x", { B: 5, H: 4, T: 7, S: 11 });
  const y = reshape(x, dims({ B: 5, K: 2, GT: 14, S: 11 }));
  const session = new Session({ name: "p", free: ["B", "T", "S", "GT"], outputs: { y: scale(y, 2) } }, { threads: 1 });
  const sizes = { B: 1, T: 3, S: 2, GT: 6 };
  const data = Float32Array.from({ length: 24 }, (_, i) => i);
  const result = new Float32Array(24);
  session.run({ x: data }, { y: result }, sizes);
  expect(result).toEqual(data.map((v) => 2 * v));
  session.dispose();
});

test("what lies behind a free axis may be reshaped", () => {
  const x = input("x", { B: 2, T: 3, C: 6 });
  const heads = reshape(x, dims({ B: 2, T: 3, H: 2, D: 3 }));
  const normed = rmsNorm(heads, stored(Float32Array.of(1, 2, 3), { D: 3 }), 1e-5);
  const session = new Session(
    { name: "p", free: ["B", "T"], outputs: { y: reshape(normed, x.shape) } },
    { threads: 1 },
  );
  for (const [B, T] of [
    [1, 1],
    [3, 5],
  ]) {
    const data = Float32Array.from({ length: B * T * 6 }, (_, i) => Math.sin(i));
    const y = new Float32Array(data.length);
    session.run({ x: data }, { y }, { B, T });
    const alone = run(
      { y: rmsNorm(input("x", { N: B * T * 2, D: 3 }), stored(Float32Array.of(1, 2, 3), { D: 3 }), 1e-5) },
      { x: data },
    );
    expect(y).toEqual(alone.y);
  }
  session.dispose();
});
