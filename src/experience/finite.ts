/** @file NaN and infinity: found where they first appear, and named. */
import { fail } from "../base/errors.ts";
import type { ParameterBuffer } from "../model/parameters.ts";
import { sumOfSquares } from "../nn/adamw-kernel.ts";
import type { Experience } from "./experience.ts";

export const isBad = (x: number) => !Number.isFinite(x);

/**
 * Every number of a batch is finite.
 * @param arrays per-token arrays [B, W] by what errors call them, in the order they were computed; undefined: it was not
 * @throws numbers - the first that is not, with its response
 */
export function checkFinite(
  step: number,
  { batch, queries, responses }: Experience,
  prompts: readonly string[],
  arrays: Readonly<Record<string, Float32Array | undefined>>,
  algorithm = "PPO",
): void {
  for (const [name, array] of Object.entries(arrays)) {
    const i = array?.findIndex((x, j) => batch.mask[j] === 1 && isBad(x)) ?? -1;
    if (!array || i < 0) continue;
    const [b, t] = [Math.floor(i / batch.width), i % batch.width];
    fail("numbers", {
      where: `${algorithm} step ${step}, response ${b} of ${queries.length}, to ${JSON.stringify(prompts[b].slice(0, 60))}`,
      found: `${array[i]} in ${name}, token ${t} of ${responses[b].length}`,
      expected: "finite numbers",
      fix: FINITE_FIX,
    });
  }
}

/**
 * Every weight of a model is finite before it is trained, or measured against.
 * @param what the model's part in the run: "policy", "reference"
 * @throws numbers - the first parameter with a number that is not
 */
export function checkWeights(what: string, weights: ParameterBuffer): void {
  const bad = firstBadParameter(weights);
  if (bad === undefined) return;
  const i = weights.numbers(bad).findIndex(isBad);
  fail("numbers", {
    where: `the ${what}, parameter ${bad}, element ${i}`,
    found: String(weights.numbers(bad)[i]),
    expected: "finite weights to begin with",
    fix: "load another checkpoint: this one was spoiled before it was saved, or damaged since",
  });
}

/** The first parameter with a number that is not finite. In float64 the squares of float32 cannot overflow, so their sum tells. */
export function firstBadParameter(buffer: ParameterBuffer): string | undefined {
  return buffer.table.find(({ name }) => buffer.has(name) && isBad(sumOfSquares(buffer.numbers(name))))?.name;
}

/** What may keep numbers finite. */
export const FINITE_FIX =
  "resume from the last checkpoint (--resume) with a lower learningRate or a smaller maxGradNorm";

/**
 * Ends training where a step met a number that is not finite.
 * @param bad   what is not finite, in words; undefined: all is well
 * @param where what errors call the step
 * @throws numbers
 */
export function failUnlessFinite(bad: string | undefined, where: string): void {
  if (bad === undefined) return;
  fail("numbers", {
    where,
    found: `a number that is not finite in ${bad}`,
    expected: "finite numbers",
    fix: FINITE_FIX,
  });
}
