/** @file How many standard errors are as unlikely for few numbers as some are for many. */

/**
 * The bound of Student's t with n - 1 degrees of freedom that is exceeded as rarely as `z` by a normal variable.
 *
 * The expansion in 1 / (n - 1) of Abramowitz and Stegun, 26.7.5; at z = 4 it is 2 % low for n = 6 and exact to 0.5 % from
 * n = 8 on. Infinity below n = 6, where so few numbers say nothing at such odds.
 */
export function studentBound(z: number, n: number): number {
  const d = n - 1;
  if (d < 5) return Number.POSITIVE_INFINITY;
  const g1 = (z ** 3 + z) / 4;
  const g2 = (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96;
  const g3 = (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384;
  const g4 = (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92_160;
  return z + g1 / d + g2 / d ** 2 + g3 / d ** 3 + g4 / d ** 4;
}
