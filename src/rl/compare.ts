/** @file Before against after on the same prompts. */
import { fail } from "../base/errors.ts";
import { meanAndStandardError } from "./kl.ts";

/**
 * The mean of after[i] - before[i] and its standard error. Pairing takes out what both have in common, such as how
 * easy a prompt is, so the error is that of the difference and not of two independent means.
 * @throws shape - lists of different lengths
 */
export function pairedDifference(
  before: ArrayLike<number>,
  after: ArrayLike<number>,
): { mean: number; standardError: number } {
  if (before.length !== after.length)
    fail("shape", {
      where: "pairedDifference",
      found: `${before.length} numbers before and ${after.length} after`,
      expected: "as many of both, in the same order",
      fix: "compare responses to the same prompts",
    });
  return meanAndStandardError(Float64Array.from(after, (x, i) => x - before[i]));
}
