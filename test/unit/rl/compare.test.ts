/** @file Paired differences, their intervals, and how varied texts are: against published numbers and counts by hand. */
import { describe, expect, it } from "vitest";
import { distinctNgrams, intervalOf, jackknife, tQuantile } from "../../../src/rl/compare.ts";
import { meanAndStandardError, pairedDifference } from "../../../src/rl/kl.ts";

// Student's sleep data (Biometrika 1908).
const drug1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
const drug2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];

it("gives the paired t statistic of Student's sleep data (R: t.test(paired = TRUE), t = -4.0621)", () => {
  const { mean, standardError } = pairedDifference(drug1, drug2);
  expect(mean).toBeCloseTo(1.58, 12);
  expect(mean / standardError).toBeCloseTo(4.0621, 4);
});

it("refuses lists of different lengths", () => {
  expect(() => pairedDifference([1, 2], [1])).toThrow("pairedDifference: found 2 numbers before and 1 after");
});

describe("intervals", () => {
  it("are R's for Student's sleep data: 0.7001142 to 2.4598858", () => {
    const { low, high } = intervalOf(pairedDifference(drug1, drug2), 10);
    expect(low).toBeCloseTo(0.7001142, 4);
    expect(high).toBeCloseTo(2.4598858, 4);
  });

  it("have the quantiles of the tables of Student's t", () => {
    const table = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    table.forEach((quantile, i) => {
      expect(Math.abs(tQuantile(i + 1) / quantile - 1)).toBeLessThan(2e-3);
    });
    expect(tQuantile(30)).toBeCloseTo(2.0423, 4);
    expect(tQuantile(1e6)).toBeCloseTo(1.96, 4);
  });

  it("of one number are the whole line, of equal numbers a point", () => {
    expect(intervalOf(meanAndStandardError([3]), 1)).toMatchObject({
      low: Number.NEGATIVE_INFINITY,
      high: Number.POSITIVE_INFINITY,
    });
    expect(intervalOf(meanAndStandardError([2, 2, 2]), 3)).toMatchObject({ mean: 2, low: 2, high: 2 });
  });
});

describe("distinct-n", () => {
  const groups = [["the cat sat", "The cat ran!"], ["a dog ran"]];

  it("counts by hand", () => {
    // Words: the cat sat the cat ran ! | a dog ran: 10, of which 7 differ: the cat sat ran ! a dog
    expect(distinctNgrams(groups, 1)).toEqual({ value: 7 / 10, without: [3 / 3, 5 / 7] });
    // Pairs: the-cat cat-sat the-cat cat-ran ran-! | a-dog dog-ran: 7, of which 6 differ
    expect(distinctNgrams(groups, 2)).toEqual({ value: 6 / 7, without: [2 / 2, 4 / 5] });
  });

  it("is 1 where nothing comes twice and near 0 where all is the same; texts too short for one have none", () => {
    expect(distinctNgrams([["a b c"], ["d e f"]], 2).value).toBe(1);
    expect(distinctNgrams([new Array(50).fill("so so so")], 1).value).toBeCloseTo(1 / 150, 12);
    expect(distinctNgrams([["one"], [""]], 2).value).toBeNaN();
  });
});

it("the jackknife of a mean is the standard error of that mean", () => {
  const { mean, standardError } = meanAndStandardError(drug2);
  const sum = drug2.reduce((a, b) => a + b, 0);
  const without = drug2.map((x) => (sum - x) / (drug2.length - 1));
  expect(jackknife(mean, without).standardError).toBeCloseTo(standardError, 12);
});
