/** @file Matrices in int8, against the definition: whole multiples of a column's largest entry over 127, the nearest ones. */
import { expect, test } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { quantize, quantizeTransposed } from "../../../src/nn/quantized.ts";

const rng = new RNG(8);
const K = 70; // more than one of the squares that are transposed at a time
const N = 131;
const w = Float32Array.from({ length: K * N }, (_, i) => rng.normal() * 10 ** ((i % N) % 5));
for (let k = 0; k < K; k++) w[k * N + 7] = 0;

test("every weight is within half a scale of its column, and the largest is exact", () => {
  const { data, scales } = quantize(w, K, N);
  for (let n = 0; n < N; n++) {
    const column = Array.from({ length: K }, (_, k) => w[k * N + n]);
    const largest = Math.max(...column.map(Math.abs));
    expect(scales[n]).toBe(largest === 0 ? 1 : Math.fround(largest / 127));
    const q = column.map((_, k) => data[k * N + n]);
    expect(Math.max(...q.map(Math.abs))).toBe(largest === 0 ? 0 : 127);
    column.forEach((x, k) => {
      expect(Math.abs(x - q[k] * scales[n])).toBeLessThanOrEqual(0.5 * scales[n] * (1 + 1e-5));
    });
  }
});

test("a matrix that is stored transposed gives the same numbers", () => {
  const transposed = Float32Array.from({ length: N * K }, (_, i) => w[(i % K) * N + Math.floor(i / K)]);
  expect(quantizeTransposed(transposed, N, K)).toEqual(quantize(w, K, N));
});

test("halves and ends are rounded to the nearest, not beyond 127", () => {
  const { data, scales } = quantize(Float32Array.of(127, -127, 126.4, -126.6, 0.4, -0.6, 0.6, -0.4), 8, 1);
  expect(scales[0]).toBe(1);
  expect([...data]).toEqual([127, -127, 126, -127, 0, -1, 1, 0]);
});
