/** @file Importance weights against their definition. */
import { expect, test } from "vitest";
import { importanceWeights, sequenceWeights } from "../../../src/rl/importance.ts";

const batch = { rows: 2, width: 3, mask: Uint8Array.of(1, 1, 1, 1, 0, 0) };
const rollout = [0.5, 0.25, 0.2, 0.8, 1, 1].map(Math.log);
const old = [0.5, 0.5, 0.1, 0.2, 0, 1].map(Math.log); // ratios 1, 2, 0.5, 0.25; nothing where there is no token

test("ratios, truncated weights and what is said of them", () => {
  const w = importanceWeights(old, rollout, batch, 1.5);
  const close = (got: ArrayLike<number>, want: number[]) =>
    want.forEach((x, i) => {
      expect(got[i]).toBeCloseTo(x, 6);
    });
  close(w.ratios, [1, 2, 0.5, 0.25, 1, 1]);
  close(w.weights, [1, 1.5, 0.5, 0.25, 1, 1]);
  expect(w).toMatchObject({ tokens: 4, clipped: 0.25 });
  close([w.mean, w.min, w.max], [3.75 / 4, 0.25, 2]);
  // squares of 1, 2, 0.5, 0.25 add up to 5.3125
  expect(w.std).toBeCloseTo(Math.sqrt((5.3125 - 3.75 ** 2 / 4) / 3), 6);
  // k3 = ratio - 1 - log ratio, summed over tokens, by response
  expect(w.kl).toBeCloseTo((3.75 - 4 - Math.log(1 * 2 * 0.5 * 0.25)) / 2, 6);
});

test("a cap of 0 switches the correction off, not the numbers", () => {
  const w = importanceWeights(old, rollout, batch, 0);
  expect([...w.weights]).toEqual([1, 1, 1, 1, 1, 1]);
  expect(w.mean).toBeCloseTo(3.75 / 4, 6);
  expect(w.clipped).toBe(0);
});

test("of whole responses: products, truncated", () => {
  const of = (cap: number) => Array.from(sequenceWeights(importanceWeights(old, rollout, batch, 1.5), batch, cap));
  const close = (got: number[], want: number[]) => {
    for (const [i, x] of want.entries()) expect(got[i]).toBeCloseTo(x, 6);
  };
  close(of(10), [1 * 2 * 0.5, 0.25]);
  close(of(0.9), [0.9, 0.25]);
  close(of(0), [1, 1]);
});

test("over all tokens, weighted by the rollout policy, the mean is 1 and k3 is the KL", () => {
  const p = [0.6, 0.3, 0.1];
  const q = [0.5, 0.2, 0.3];
  const all = { rows: 1, width: 3, mask: Uint8Array.of(1, 1, 1) };
  const { ratios } = importanceWeights(q.map(Math.log), p.map(Math.log), all, 2);
  const mean = p.reduce((sum, x, i) => sum + x * ratios[i], 0);
  expect(mean).toBeCloseTo(1, 6);
  const k3 = p.reduce((sum, x, i) => sum + x * (ratios[i] - 1 - Math.log(ratios[i])), 0);
  expect(k3).toBeCloseTo(
    p.reduce((sum, x, i) => sum + x * Math.log(x / q[i]), 0),
    6,
  );
});

test("lengths that differ are refused", () => {
  expect(() => importanceWeights([0], rollout, batch, 2)).toThrow(/importanceWeights/);
});
