/** @file Multi-head attention against torch's scaled_dot_product_attention, forwards and backwards. */
import { expect, test } from "vitest";
import { gradients } from "../../../src/graph/gradient.ts";
import { concat, reshape, split, transpose } from "../../../src/graph/ops/index.ts";
import { dims, input, type Tensor } from "../../../src/graph/tensor.ts";
import { attention, causalBias, MASKED } from "../../../src/nn/attention.ts";
import { maxDifference } from "../../support/golden.ts";
import { run } from "../../support/run.ts";
import { golden } from "./golden.ts";

const { B, T, H, D, scale, qkv, seed, output, gradient } = golden.attention;
const C = H * D;

/** Queries, keys and values side by side, [B T, 3 C] -> each [B, H, T, D]. */
function heads(x: Tensor, length: number) {
  const perHead = (part: Tensor) => transpose(reshape(part, dims({ B, T: length, H, D })), [0, 2, 1, 3]);
  return split(x, 1, [C, C, C]).map(perHead);
}

/** [B, H, T, D] -> [B T, C] */
const flat = (x: Tensor) => reshape(transpose(x, [0, 2, 1, 3]), dims({ N: B * x.sizes[2], C }));

/** [T, T] */
const causal = (length: number) => run({ bias: causalBias(length) }).bias;

function graph(biases = 1) {
  const x = input("qkv", { N: B * T, "3C": 3 * C });
  const bias = input("bias", dims({ B: biases, head: 1, T, S: T }));
  const [q, k, v] = heads(x, T);
  return { x, y: flat(attention(q, k, v, bias, scale).mixed) };
}

test("output and gradient equal torch's", () => {
  const { x, y } = graph();
  expect(y.sizes).toEqual([B * T, C]);
  const [dx] = gradients([y], [input("seed", y.shape)], [x]);
  const got = run(
    { y, dx: dx as Tensor },
    { qkv: Float32Array.from(qkv), seed: Float32Array.from(seed), bias: causal(T) },
  );
  expect(maxDifference(got.y, output)).toBeLessThan(2e-6);
  expect(maxDifference(got.dx, gradient)).toBeLessThan(5e-6);
});

test("a bias for each row of the batch: a masked column takes no part, and what stands there does not matter", () => {
  const { y } = graph(B);
  // Row 1 may not look at columns 3 and 4, as if its sequence ended there; row 0 is left causal.
  const bias = new Float32Array(B * T * T);
  bias.set(causal(T));
  bias.set(causal(T), T * T);
  for (let t = 0; t < T; t++) bias.fill(MASKED, T * T + t * T + 3, T * T + t * T + T);
  const data = Float32Array.from(qkv);
  const before = run({ y }, { qkv: data, bias }).y;
  data.fill(1e3, (T + 3) * 3 * C + C, (T + 4) * 3 * C); // keys and values of row 1, position 3
  const after = run({ y }, { qkv: data, bias }).y;
  expect(after).toEqual(before);
  expect(maxDifference(before.slice(0, (T + 3) * C), output.slice(0, (T + 3) * C))).toBeLessThan(2e-6);
});

test("the last two tokens with the keys and values of the first three equal the whole", () => {
  const [P, R] = [3, T - 3];
  const rows = (from: number, count: number) =>
    Float32Array.from(
      Array.from({ length: B }, (_, b) => qkv.slice((b * T + from) * 3 * C, (b * T + from + count) * 3 * C)).flat(),
    );
  const [, pastKeys, pastValues] = heads(input("first", { N: B * P, "3C": 3 * C }), P);
  const [q, k, v] = heads(input("second", { N: B * R, "3C": 3 * C }), R);
  const bias = input("bias", dims({ one: 1, head: 1, T: R, S: T }));
  const rest = attention(q, concat([pastKeys, k], 2), concat([pastValues, v], 2), bias, scale);
  expect(rest.probabilities.sizes).toEqual([B, H, R, T]);
  const { y, probabilities } = run(
    { y: flat(rest.mixed), probabilities: rest.probabilities },
    { first: rows(0, P), second: rows(P, R), bias: causal(T).slice(P * T) },
  );
  const want = Array.from({ length: B }, (_, b) => output.slice((b * T + P) * C, (b + 1) * T * C)).flat();
  expect(maxDifference(y, want)).toBeLessThan(2e-6);
  for (let i = 0; i < probabilities.length; i += T) {
    const row = Array.from(probabilities.slice(i, i + T));
    expect(row.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 6);
  }
});

test("a head mask scales what each head contributes", () => {
  const x = input("qkv", { N: B * T, "3C": 3 * C });
  const bias = input("bias", dims({ B: 1, head: 1, T, S: T }));
  const headMask = input("mask", dims({ H, t: 1, s: 1 }));
  const [q, k, v] = heads(x, T);
  const masked = flat(attention(q, k, v, bias, scale, headMask).mixed);
  const mask = Float32Array.of(1, 0, 0.5);
  const got = run({ masked }, { qkv: Float32Array.from(qkv), bias: causal(T), mask }).masked;
  const want = output.map((v, i) => v * mask[Math.floor((i % C) / D)]);
  expect(maxDifference(got, want)).toBeLessThan(2e-6);
});

test("the causal bias", () => {
  const M = MASKED;
  expect([...causal(3)]).toEqual([0, M, M, 0, 0, M, 0, 0, 0]);
  expect(Math.fround(Math.exp(MASKED + 1e4))).toBe(0);
});
