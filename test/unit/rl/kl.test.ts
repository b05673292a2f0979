import { describe, expect, it } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { klEstimates, klPenalty, klPerToken, meanAndStandardError } from "../../../src/rl/kl.ts";
import { expectClose } from "./close.ts";

describe("klPenalty", () => {
  // By hand: d = ln 2 and d = −ln 2, so exp(−d) is ½ and 2.
  it("k1, abs, k2, k3 at ±ln 2", () => {
    const d = Math.LN2;
    expectClose([klPenalty("k1")(d), klPenalty("k1")(-d)], [d, -d], 1e-15);
    expectClose([klPenalty("abs")(d), klPenalty("abs")(-d)], [d, d], 1e-15);
    expectClose([klPenalty("k2")(d), klPenalty("k2")(-d)], [(d * d) / 2, (d * d) / 2], 1e-15);
    expectClose([klPenalty("k3")(d), klPenalty("k3")(-d)], [d - 0.5, 1 - d], 1e-15);
  });

  it("k3 keeps its digits near 0: d²/2 − d³/6 + …", () => {
    const d = 1e-7;
    expect(klPenalty("k3")(d) / (d ** 2 / 2 - d ** 3 / 6)).toBeCloseTo(1, 5);
  });

  it("rejects an unknown kind", () => {
    expect(() => klPenalty("mse" as "k2")).toThrow(
      'klPenalty: found "mse", expected one of k1, abs, k2, k3. Fix: choose one of these; k1 is the default',
    );
  });
});

describe("klEstimates", () => {
  it("means over draws are the exact KL for k1 and k3, within 4 standard errors; k2 is near it", () => {
    const p = [0.5, 0.3, 0.2];
    const q = [0.4, 0.35, 0.25];
    const exact = p.reduce((sum, pi, i) => sum + pi * Math.log(pi / q[i]), 0);
    const rng = new RNG(1);
    const [rows, width] = [4000, 5];
    const draws = Array.from({ length: rows * width }, () => {
      const u = rng.uniform();
      return u < p[0] ? 0 : u < p[0] + p[1] ? 1 : 2;
    });
    const ours = klEstimates(
      draws.map((x) => Math.log(p[x])),
      draws.map((x) => Math.log(q[x])),
      { rows, width, mask: new Uint8Array(rows * width).fill(1) },
    );
    for (const k of [ours.k1, ours.k3]) {
      expect(Math.abs(k.mean - width * exact)).toBeLessThan(4 * k.standardError);
      expect(k.standardError).toBeLessThan(0.3 * width * exact);
    }
    expect(ours.k2.mean).toBeCloseTo(width * exact, 2);
  });

  it("does not read padding and writes 0 there", () => {
    const batch = { rows: 2, width: 2, mask: Uint8Array.of(1, 0, 1, 1) };
    const { k1 } = klEstimates([-1, Number.NaN, -2, -3], [-1.5, 7, -2.25, -2], batch);
    expect([...k1.perToken]).toEqual([0.5, 0, 0.25, -1]);
    expect([...k1.perSequence]).toEqual([0.5, -0.75]);
    expect(k1.mean).toBe(-0.125);
  });

  it("rejects arrays that do not fit the mask", () => {
    const batch = { rows: 2, width: 2, mask: Uint8Array.of(1, 1, 1, 1) };
    expect(() => klEstimates([1, 2, 3, 4], [1, 2, 3], batch)).toThrow(
      "klEstimates, refLogprobs: found 3 elements, expected 4 for [2, 2]. Fix: pass refLogprobs in the same layout as the mask",
    );
    expect(() => klEstimates([1], [1], { ...batch, mask: new Uint8Array(3) })).toThrow("klEstimates, mask: found 3");
  });
});

describe("the exact KL", () => {
  const batch = { rows: 2, width: 2, mask: Uint8Array.of(1, 0, 1, 1) };

  it("is summed per sequence as the estimates are, where it is given", () => {
    const { exact, k1 } = klEstimates([-1, 0, -2, -3], [-1.5, 0, -2.25, -2], batch, [0.25, 99, 0.5, 1]);
    expect([...(exact?.perToken ?? [])]).toEqual([0.25, 0, 0.5, 1]);
    expect([...(exact?.perSequence ?? [])]).toEqual([0.25, 1.5]);
    expect([exact?.mean, exact?.standardError]).toEqual([0.875, 0.625]);
    expect([...k1.perSequence]).toEqual([0.5, -0.75]);
    expect(klEstimates([-1, 0, -2, -3], [-1, 0, -2, -3], batch)).not.toHaveProperty("exact");
  });

  it("must be given where it is asked, and fit the mask", () => {
    expect(() => klPerToken("exact", { logprobs: [-1], refLogprobs: [-1] })).toThrow(
      'klPenalty: found "exact" without the exact KL of each token, expected exactKl, one number for each token. Fix: pass exactKl, or choose k1',
    );
    expect(() => klEstimates([1, 1, 1, 1], [1, 1, 1, 1], batch, [1])).toThrow("klEstimates, exactKl: found 1 elements");
  });
});

describe("meanAndStandardError", () => {
  it("of 1, 2, 3, 6: mean 3, s² = 14/3, √(14/12)", () => {
    const { mean, standardError } = meanAndStandardError([1, 2, 3, 6]);
    expect(mean).toBeCloseTo(3, 12);
    expect(standardError).toBeCloseTo(Math.sqrt(14 / 12), 12);
  });

  it("is unknown, Infinity, for one sequence", () => {
    expect(meanAndStandardError([5])).toEqual({ mean: 5, standardError: Number.POSITIVE_INFINITY });
  });
});
