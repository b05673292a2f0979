import { expect, it } from "vitest";
import { pairedDifference } from "../../../src/rl/compare.ts";

it("gives the paired t statistic of Student's sleep data (Biometrika 1908; R: t.test(paired = TRUE), t = -4.0621)", () => {
  const drug1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
  const drug2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
  const { mean, standardError } = pairedDifference(drug1, drug2);
  expect(mean).toBeCloseTo(1.58, 12);
  expect(mean / standardError).toBeCloseTo(4.0621, 4);
});

it("refuses lists of different lengths", () => {
  expect(() => pairedDifference([1, 2], [1])).toThrow("pairedDifference: found 2 numbers before and 1 after");
});
