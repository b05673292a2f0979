import { describe, expect, it } from "vitest";
import { metrics } from "../../../src/rl/metrics.ts";
import { type PPOInputs, ppoStatistics, sampledEntropy } from "../../../src/rl/stats.ts";

const zeros = [0, 0, 0, 0];
const same: PPOInputs = {
  logprobs: zeros,
  oldLogprobs: zeros,
  values: zeros,
  oldValues: zeros,
  advantages: zeros,
  returns: zeros,
  mask: Uint8Array.of(1, 1, 1, 0),
  clipRange: 0.2,
  clipRangeValue: 0.2,
};

describe("ppoStatistics", () => {
  it("unchanged weights: ratio 1, no clipping, KL 0, the loss is minus the mean advantage", () => {
    const s = ppoStatistics({
      ...same,
      logprobs: [-1, -2, -3, 9],
      oldLogprobs: [-1, -2, -3, 0],
      advantages: [1, 2, 6, 9],
    });
    expect(s).toMatchObject({ ratioMean: 1, ratioMin: 1, ratioMax: 1, ratioVar: 0, policyLoss: -3, clipFraction: 0 });
    expect(s).toMatchObject({ approxKl: 0, advantagesMean: 3, advantagesVar: 7 });
  });

  it("clips the ratio only where that makes the loss larger", () => {
    // ρ = 2, 2, ½ with A = +1, −1, −1: terms −1.2 (clipped), 2 (kept), 0.8 (clipped).
    const l2 = Math.LN2;
    const s = ppoStatistics({ ...same, logprobs: [l2, l2, -l2, 50], advantages: [1, -1, -1, 1] });
    expect(s.policyLoss).toBeCloseTo((-1.2 + 2 + 0.8) / 3, 12);
    expect(s.clipFraction).toBeCloseTo(2 / 3, 12);
    expect(s.ratioMin).toBeCloseTo(0.5, 12);
    expect(s.ratioMax).toBeCloseTo(2, 12);
    expect(s.approxKl).toBeCloseTo((l2 * l2) / 2, 12);
    expect(s.policyKl).toBeCloseTo(-l2 / 3, 12);
  });

  it("clips the value's move only where that makes the loss larger", () => {
    // V moved from 0 by 1, −1, 0.1 with R = 2, 2, 0: clipped V 0.2, −0.2, 0.1; the larger squares are 3.24, 9, 0.01.
    const s = ppoStatistics({ ...same, values: [1, -1, 0.1, 50], returns: [2, 2, 0, 0] });
    expect(s.valueLoss).toBeCloseTo((3.24 + 9 + 0.01) / 6, 12);
    expect(s.valueClipFraction).toBeCloseTo(1 / 3, 12);
    expect(s.valueError).toBeCloseTo((1 + 9 + 0.01) / 3, 12);
    expect(s.varExplained).toBeCloseTo(1 - (1 + 9 + 0.01) / 3 / (4 / 3), 12);
    // The other way round: V moved by −1 towards R = −2, clipped to −0.2, (−0.2 + 2)² = 3.24; the rest is exact.
    const down = ppoStatistics({ ...same, values: [-1, 0, 0, 50], returns: [-2, 0, 0, 0] });
    expect(down.valueLoss).toBeCloseTo(3.24 / 6, 12);
  });

  it("returns that do not vary explain nothing, without NaN", () => {
    expect(ppoStatistics({ ...same, returns: [2, 2, 2, 0] }).varExplained).toBe(0);
  });

  it("does not read padding: any change there leaves every number as it is", () => {
    const spoilt = Object.fromEntries(
      Object.entries(same).map(([name, x]) => [name, Array.isArray(x) ? [...x.slice(0, 3), Number.NaN] : x]),
    ) as unknown as PPOInputs;
    expect(ppoStatistics(spoilt)).toEqual(ppoStatistics(same));
  });

  it("rejects arrays that do not fit the mask, and no token at all", () => {
    expect(() => ppoStatistics({ ...same, returns: [1] })).toThrow(
      "ppoStatistics, returns: found 1 elements, expected 4 for mask [4]",
    );
    expect(() => ppoStatistics({ ...same, mask: new Uint8Array(4) })).toThrow("without a 1");
  });
});

it("sampledEntropy sums −log π over each response and averages over responses", () => {
  const batch = { rows: 2, width: 2, mask: Uint8Array.of(1, 0, 1, 1) };
  expect(sampledEntropy([-1, -50, -2, -4], batch)).toBe(3.5);
});

it("every metric has a definition of one line", () => {
  for (const [name, definition] of Object.entries(metrics)) {
    expect(name).toMatch(/^[a-z]+(\/[a-z0-9_]+)+$/);
    expect(definition).toMatch(/^.{10,140}$/);
  }
});
