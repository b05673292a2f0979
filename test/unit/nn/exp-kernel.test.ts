/** @file exp in WebAssembly is Math.exp, bit for bit where V8 computes that without fused operations. */
import { expect, test } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { expRow } from "../../../src/nn/exp-kernel.ts";

/** exp((z - max) / temperature) of each, the plain way. */
const plain = (z: ArrayLike<number>, max: number, temperature: number) =>
  Float64Array.from(z, (x) => Math.exp((x - max) / temperature));
const bits = (x: Float64Array) => new BigInt64Array(x.buffer, x.byteOffset, x.length);

/** The largest distance in units of the last place: 0 on x64, and 1 where the engine's own exp fuses multiplications and additions. */
function lastPlaces(z: Float32Array, max: number, temperature: number): number {
  const row = expRow(z.length);
  row.read(z, undefined);
  const total = row.weigh(max, temperature);
  const got = row.weights.slice(0, z.length);
  const want = plain(z, max, temperature);
  expect(total).toBe(got.reduce((sum, x) => sum + x, 0)); // one after the other
  expect(row.sum(max, temperature)).toBe(total);
  const [a, b] = [bits(got), bits(want)];
  return a.reduce((most, x, i) => Math.max(most, Math.abs(Number(x - b[i]))), 0);
}

const allowed = process.arch === "x64" ? 0 : 1;

test("as Math.exp over every range of its argument", () => {
  const rng = new RNG(3);
  for (const most of [1e-9, 1e-6, 0.3, 0.36, 1.1, 30, 700, 800, 1e5])
    for (const temperature of [1, 0.7, 1.3, 40]) {
      const z = Float32Array.from({ length: 2001 }, () => 5 - most * temperature * rng.uniform());
      z[7] = 5;
      expect(lastPlaces(z, 5, temperature), `to ${most}, temperature ${temperature}`).toBeLessThanOrEqual(allowed);
    }
});

test("as Math.exp around each of its limits", () => {
  // ln 2 / 2, 3 ln 2 / 2, 2^-28, where results are denormal, where they are 0
  for (const limit of [Math.LN2 / 2, 1.5 * Math.LN2, 2 ** -28, 708.3964, 709.09, 745.1332, 746]) {
    const near = Math.fround(limit);
    const step = near * 2 ** -23;
    const z = Float32Array.from({ length: 401 }, (_, i) => -near + (i - 200) * step);
    expect(lastPlaces(z, 0, 1), String(limit)).toBeLessThanOrEqual(allowed);
  }
  expect(lastPlaces(Float32Array.of(0, -0, Number.NEGATIVE_INFINITY, -1e30), 0, 1)).toBe(0);
});

test("some of a row, the largest of them, and what is no number", () => {
  const z = Float32Array.of(4, Number.NaN, 3, -2, 9, 1);
  const row = expRow(z.length);
  row.read(z, Int32Array.of(1, 2, 3, 5, 0));
  expect(row.largest()).toBe(4);
  row.read(z, Int32Array.of(2, 3, 5));
  expect([row.largest(), row.weigh(3, 2)]).toEqual([3, Math.exp(0) + Math.exp(-5 / 2) + Math.exp(-1)]);
  row.read(z, undefined);
  expect(row.sum(9, 1)).toBeNaN();
  row.read(z, new Int32Array(0));
  expect([row.largest(), row.sum(1, 1), row.weigh(1, 1)]).toEqual([Number.NEGATIVE_INFINITY, 0, 0]);
});

test("a longer row takes the place of a shorter one", () => {
  const before = expRow(3);
  const after = expRow(100_000);
  after.read(new Float32Array(100_000), undefined);
  expect(after.weigh(0, 1)).toBe(100_000);
  expect(expRow(3)).toBe(after);
  expect(before).not.toBe(after);
});
