/** @file What a backend lacks, written otherwise: the same numbers as with it. */
import { readFileSync } from "node:fs";
import { describe, expect, it, test } from "vitest";
import type { Slots } from "../../../src/backend/backend.ts";
import { Session } from "../../../src/backend/ort-node.ts";
import { LOWERINGS } from "../../../src/graph/lower.ts";
import { type Program, writeOnnx } from "../../../src/graph/onnx.ts";
import { cachedAttention, layerNorm, logSoftmax, quantizedLinear } from "../../../src/graph/ops/index.ts";
import { operations } from "../../../src/graph/ops/registry.ts";
import { apply, constant, type Dim, dims, input, type Op, stored } from "../../../src/graph/tensor.ts";
import { compileCase, type OperationCase } from "../../support/operations.ts";
import { lacksAll } from "../../support/processor.ts";

const everyCase: OperationCase[] = ["ops.json", "ops-llama.json", "ops-export.json"]
  .flatMap((file) => JSON.parse(readFileSync(new URL(`../../golden/${file}`, import.meta.url), "utf8")))
  .filter((c) => operations.has(c.op));
/** `com.microsoft.Gelu` -> `Gelu` */
const opType = (name: string) => name.slice(name.lastIndexOf(".") + 1);

/** What a program gives, by output; `lacks` are done without. `sizes` are those of its free axes. */
function results(program: Program, feeds: Slots, lacks?: string[], sizes: Readonly<Record<string, number>> = {}) {
  const session = new Session(program, { threads: 1, lacks: lacks && new Set(lacks) });
  const told = ({ name, size }: Dim) => (program.free?.includes(name) ? sizes[name] : size);
  const fetches = Object.fromEntries(
    [...session.outputs].map(([name, { shape }]) => [name, new Float32Array(shape.reduce((n, d) => n * told(d), 1))]),
  );
  session.run(feeds, fetches, sizes);
  session.dispose();
  return fetches;
}

function close(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number) {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < want.length; i++)
    if (!(Math.abs(got[i] - want[i]) <= tolerance * (1 + Math.abs(want[i]))))
      expect.fail(`element ${i}: got ${got[i]}, want ${want[i]}`);
}

/** No operation emits it; its test is below. */
const OWN_TESTS = ["Round"];

/** Products of integers, which only ONNX Runtime's own rewriting makes exact on processors without VNNI: it is off where something is lacking. */
const INTEGER_PRODUCTS = ["MatMulInteger", "MatMulIntegerToFloat"];
const CUT_OFF = lacksAll("avx512_vnni", "avx_vnni");

describe("without", () => {
  const everything = [...LOWERINGS.keys()];
  const sets: [string, string[]][] = [
    ...everything.map((name): [string, string[]] => [name, [name]]),
    ["any", everything],
  ];
  it.each(sets)("%s every operation gives what torch gives", (name, lacks) => {
    let concerned = 0;
    for (const c of everyCase) {
      const { program, feeds } = compileCase(c);
      const direct = writeOnnx(program).opTypes;
      if (!lacks.some((one) => direct.has(opType(one)))) continue;
      concerned++;
      const { opTypes } = writeOnnx(program, { lacks: new Set(lacks) });
      for (const one of lacks) expect(opTypes).not.toContain(opType(one));
      if (CUT_OFF && INTEGER_PRODUCTS.some((one) => opTypes.has(one))) continue;
      const got = results(program, feeds, lacks);
      const same = results(program, feeds);
      for (const [i, { data }] of c.outputs.entries()) {
        close(got[`y${i}`], data, 2e-6);
        close(got[`y${i}`], same[`y${i}`], 2e-6);
      }
    }
    if (!OWN_TESTS.includes(name)) expect(concerned).toBeGreaterThan(0);
  });
});

/** An ONNX operator as it is, with results shaped like some of its inputs, or like what is given. */
const operator = (name: string, like: (number | { shape: readonly Dim[] })[], attrs = {}, domain = ""): Op => ({
  name,
  light: true,
  infer: (inputs) => like.map((of) => ({ dtype: "float32", shape: (typeof of === "number" ? inputs[of] : of).shape })),
  emit: (e, inputs, outputs) => e.node(name, inputs, outputs, attrs, domain),
});

test("rounding: halves go to the even number, and nothing near a half does", () => {
  const numbers = [];
  for (let i = -6; i <= 6; i++)
    for (const half of [i + 0.5, i])
      for (const step of [0, 2 ** -24, -(2 ** -24), 2 ** -22, -(2 ** -22), 0.25]) numbers.push(half + step);
  const x = Float32Array.from(numbers);
  const program = { name: "round", outputs: { y: apply(operator("Round", [0]), [input("x", { N: x.length })])[0] } };
  // Math.round takes halves up; of an odd result that came from a half the even one is below.
  const want = x.map((v) => (Math.abs(v % 1) === 0.5 && Math.round(v) % 2 !== 0 ? Math.round(v) - 1 : Math.round(v)));
  for (const lacks of [[], ["Round"]])
    expect(results(program, { x }, lacks).y.map((v) => v + 0)).toEqual(want.map((v) => v + 0));
});

test("products of rounded numbers are the same to the last bit but for their sum", () => {
  const [N, K] = [3, 40];
  const weights = Int8Array.from({ length: K * 2 }, (_, i) => ((i * 37) % 255) - 127);
  const scales = Float32Array.of(0.01, 0.5);
  const y = quantizedLinear(input("x", { N, K }), stored(weights, { K, M: 2 }), stored(scales, { M: 2 }));
  const program = { name: "product", free: ["N"], outputs: { y } };
  // The largest of each row is 127, so that a step is 1 and halves are halves.
  const x = Float32Array.from({ length: N * K }, (_, i) => (i % K === 0 ? 127 : ((i * 53) % 250) - 124.5));
  const want = Float32Array.from({ length: N * 2 }, (_, i) => {
    const [n, m] = [Math.floor(i / 2), i % 2];
    let sum = 0;
    for (let k = 0; k < K; k++) {
      const v = x[n * K + k];
      const even = Math.abs(v % 1) === 0.5 && Math.round(v) % 2 !== 0 ? Math.round(v) - 1 : Math.round(v);
      sum += even * weights[k * 2 + m];
    }
    return sum * scales[m];
  });
  const lacks = ["com.microsoft.MatMulIntegerToFloat", "QuantizeLinear", "Round"];
  const session = new Session(program, { threads: 1, lacks: new Set(lacks) });
  const got = new Float32Array(N * 2);
  session.run({ x }, { y: got }, { N });
  session.dispose();
  close(got, want, 1e-6);
});

test("log-probs of masked tokens stay far down, and of large logits finite", () => {
  const x = input("x", { N: 2, V: 3 });
  const feeds = { x: Float32Array.of(1, -1e9, 2, 3000, 0, -3000) };
  const program = { name: "p", outputs: { y: logSoftmax(x) } };
  const { y } = results(program, feeds, ["LogSoftmax"]);
  close(y, [-1.3132616875182228, -1e9, -0.31326168751822286, 0, -3000, -6000], 1e-6);
});

test("a norm gives its mean and its root too", () => {
  const x = input("x", { N: 1, C: 6 });
  const [, mean, r] = layerNorm(x, constant(1, dims({ C: 6 })), constant(0, dims({ C: 6 })), 0).node.outputs;
  const got = results({ name: "p", outputs: { mean, r } }, { x: Float32Array.of(1, 2, 3, 4, 5, 6) }, [
    "LayerNormalization",
  ]);
  expect(got.mean[0]).toBeCloseTo(3.5, 6); // of 1 .. 6 the variance is 35/12
  expect(got.r[0]).toBeCloseTo(Math.sqrt(12 / 35), 6);
});

test("a norm without a mean, and its root", () => {
  const row = { shape: dims({ N: 2, one: 1 }) };
  const norm = operator("SimplifiedLayerNormalization", [0, row], { axis: -1, epsilon: { float: 1e-5 } });
  const [y, r] = apply(norm, [input("x", { N: 2, C: 3 }), input("gamma", { C: 3 })]);
  const feeds = { x: Float32Array.of(1, 2, 3, -4, 0, 0.5), gamma: Float32Array.of(1, -2, 0.5) };
  const program = { name: "p", outputs: { y, r } };
  const got = results(program, feeds, ["SimplifiedLayerNormalization"]);
  close(got.r, [1 / Math.sqrt(14 / 3 + 1e-5), 1 / Math.sqrt(16.25 / 3 + 1e-5)], 1e-6);
  for (const [name, same] of Object.entries(results(program, feeds))) close(got[name], same, 1e-6);
});

describe("attention against a cache", () => {
  const [B, K, M, D, scale] = [3, 2, 8, 8, 0.4];
  const lengths = [4, 1, 3]; // prompts, right-padded to 4

  /**
   * A prompt of 4 and two steps, in a cache full of what is no number; results that exist, one after the other.
   * @param free axes whose sizes the program is not built for
   */
  function decode(heads: number, lacks: string[], free: string[] = []): number[] {
    const got: number[] = [];
    const caches = {
      keys: new Float32Array(B * K * M * D).fill(Number.NaN),
      values: new Float32Array(B * K * M * D).fill(Number.NaN),
    };
    const have = [...lengths];
    for (const T of [4, 1, 1]) {
      const C = heads * D;
      const sizes = { B, T, M, ...Object.fromEntries(free.map((name, i) => [name, 5 + i])) };
      const tokens = (name: string, width: number) => input(name, { B: sizes.B, T: sizes.T, width });
      const past = (name: string) => input(name, { B: sizes.B, K, M: sizes.M, D });
      const places = [input("last", { B: sizes.B }, "int32"), input("total", { one: 1 }, "int32")];
      const [y, keys, values] = cachedAttention(
        [tokens("q", C), tokens("k", K * D), tokens("v", K * D), past("pastKeys"), past("pastValues"), ...places],
        { heads, kvHeads: K, scale },
      );
      if (T === 1) for (let b = 0; b < B; b++) have[b]++;
      const number = (seed: number) => (_: unknown, i: number) => Math.sin(seed * 100 + 7 * i + 31 * have[0]);
      const feeds = {
        q: Float32Array.from({ length: B * T * C }, number(1)),
        k: Float32Array.from({ length: B * T * K * D }, number(2)),
        v: Float32Array.from({ length: B * T * K * D }, number(3)),
        pastKeys: caches.keys,
        pastValues: caches.values,
        last: Int32Array.from(have, (length) => length - 1),
        total: Int32Array.of(Math.max(...have)),
      };
      const result = results({ name: "cached", free, outputs: { y, keys, values } }, feeds, lacks, { B, T, M });
      caches.keys.set(result.keys);
      caches.values.set(result.values);
      for (let b = 0; b < B; b++) {
        const exist = T === 1 ? 1 : lengths[b];
        got.push(...result.y.subarray(b * T * C, (b * T + exist) * C));
        for (const cache of [result.keys, result.values])
          for (let h = 0; h < K; h++) got.push(...cache.subarray((b * K + h) * M * D, ((b * K + h) * M + have[b]) * D));
      }
    }
    return got;
  }

  it.each([1, 3])(
    "equals the operator for prompts of several lengths and the steps after, %i queries for each key",
    (G) => {
      const direct = decode(G * K, []);
      expect(direct.every(Number.isFinite)).toBe(true);
      close(decode(G * K, ["com.microsoft.GroupQueryAttention"]), direct, 2e-6);
    },
  );

  it.each([[["B", "T", "M"]], [["B"]], [["T"]], [["M"]]])("takes sizes that are told at each run: %s", (free) => {
    for (const G of [1, 3]) {
      const direct = decode(G * K, []);
      close(decode(G * K, ["com.microsoft.GroupQueryAttention"], free), direct, 2e-6);
    }
  });
});

test("an operator that is lacking and has no rule is refused by name", () => {
  const program = { name: "p", outputs: { y: apply(operator("Tanh", [0]), [input("x", { N: 2 })])[0] } };
  expect(() => writeOnnx(program, { lacks: new Set(["Tanh"]) })).toThrow(
    "program p: found Tanh, which this backend lacks, expected operators that it has, or that can be written with those. " +
      "Fix: add a rule to src/graph/lower.ts, or take another backend",
  );
});
