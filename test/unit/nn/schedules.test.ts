/** @file Learning-rate schedules against torch's LinearLR and CosineAnnealingLR, with SequentialLR for the warm-up. */
import { expect, test } from "vitest";
import { scheduleFactor } from "../../../src/nn/schedules.ts";
import { golden } from "./golden.ts";

test.each(golden.schedules)("$name, warm-up $warmup, final $final", ({ name, total, warmup, final, factors }) => {
  expect(factors.length).toBe(total + 1);
  factors.forEach((want, step) => {
    expect(scheduleFactor(name, step, total, warmup, final)).toBeCloseTo(want, 9);
  });
});

test.each(["linear", "cosine"] as const)("%s stays at its final value after the last step", (name) => {
  for (const step of [10, 11, 1000]) expect(scheduleFactor(name, step, 10, 2, 0.1)).toBeCloseTo(0.1, 12);
});

test("a warm-up as long as the run, or longer, never divides by zero", () => {
  const factors = [0, 1, 2, 3, 4].map((step) => scheduleFactor("linear", step, 4, 4));
  expect(factors).toEqual([0.25, 0.5, 0.75, 1, 1]);
  expect(scheduleFactor("cosine", 2, 4, 10)).toBeCloseTo(0.3, 12);
});
