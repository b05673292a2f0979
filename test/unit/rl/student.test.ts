/** @file Against Student's t by mpmath: the root t of betainc(n/2, 1/2, 0, n/(n + t^2)) / 2 = erfc(4 / sqrt 2) / 2, n degrees of freedom. */
import { expect, test } from "vitest";
import { studentBound } from "../../../src/rl/student.ts";

test.each([
  [6, 12.281424, 0.03],
  [8, 8.4669251, 0.006],
  [16, 5.4803761, 2e-4],
  [32, 4.6216321, 1e-5],
  [64, 4.2867476, 1e-6],
])("of %i numbers, as unlikely as 4 standard errors of many", (n, t, relative) => {
  expect(Math.abs(studentBound(4, n) / t - 1)).toBeLessThan(relative);
});

test("a handful of numbers says nothing", () => {
  expect(studentBound(4, 5)).toBe(Number.POSITIVE_INFINITY);
});
