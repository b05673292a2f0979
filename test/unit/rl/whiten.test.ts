import { describe, expect, it } from "vitest";
import { maskedMean, maskedVariance, whiten } from "../../../src/rl/whiten.ts";
import { expectClose } from "./close.ts";

const all = (n: number) => new Uint8Array(n).fill(1);

describe("whiten", () => {
  // Golden vectors of "The N Implementation Details of RLHF with PPO" (huggingface/blog:
  // the_n_implementation_details_of_rlhf_with_ppo.md), printed there with four decimals.
  const published = [1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0];
  it("the published vectors, unbiased (torch)", () => {
    expectClose(
      whiten(published, all(9), { shiftMean: false }),
      [0.1394, 0.5046, 0.8697, 1.2349, 1.6, 1.9651, 2.3303, 2.6954, 3.0606],
      6e-5,
    );
  });
  it("the published vectors, biased (TensorFlow)", () => {
    expectClose(
      whiten(published, all(9), { shiftMean: false, unbiased: false }),
      [0.0508, 0.4381, 0.8254, 1.2127, 1.6, 1.9873, 2.3746, 2.7619, 3.1492],
      6e-5,
    );
  });

  it("shifted: mean 0 and variance 1; kept: the old mean", () => {
    const mask = Uint8Array.of(1, 1, 0, 1, 1);
    const x = [5, 7, Number.NaN, 8, 2];
    const shifted = whiten(x, mask);
    expect(maskedMean(shifted, mask)).toBeCloseTo(0, 6);
    expect(maskedVariance(shifted, mask)).toBeCloseTo(1, 6);
    expect(shifted[2]).toBe(0);
    const kept = whiten(x, mask, { shiftMean: false });
    expect(maskedMean(kept, mask)).toBeCloseTo(5.5, 6);
    expect(kept[2]).toBe(0);
  });

  it("a single element is only shifted", () => {
    const mask = Uint8Array.of(0, 1, 0);
    for (const unbiased of [true, false]) {
      expect([...whiten([9, 3, 9], mask, { unbiased })]).toEqual([0, 0, 0]);
      expect([...whiten([9, 3, 9], mask, { shiftMean: false, unbiased })]).toEqual([0, 3, 0]);
    }
  });

  it("equal elements stay finite", () => {
    expect([...whiten([2, 2, 2], all(3))]).toEqual([0, 0, 0]);
  });
});

describe("maskedMean and maskedVariance", () => {
  it("of 1, 2, 6 beside padding: 3, 7 and 14/3", () => {
    const mask = Uint8Array.of(1, 0, 1, 1);
    expect(maskedMean([1, 100, 2, 6], mask)).toBe(3);
    expect(maskedVariance([1, 100, 2, 6], mask)).toBe(7);
    expect(maskedVariance([1, 100, 2, 6], mask, { unbiased: false })).toBeCloseTo(14 / 3, 12);
  });

  it("of one element: variance 0, not NaN", () => {
    expect(maskedVariance([4, 5], Uint8Array.of(0, 1))).toBe(0);
  });

  it("rejects a mask without tokens and a wrong length", () => {
    expect(() => whiten([1, 2], Uint8Array.of(0, 0))).toThrow(
      "maskedMean: found a mask of 2 positions without a 1, expected at least one existing token. " +
        "Fix: leave empty responses out of the batch",
    );
    expect(() => maskedMean([1, 2, 3], Uint8Array.of(1, 1))).toThrow(
      "maskedMean, values: found 3 elements, expected 2 for mask [2]",
    );
  });
});
