/** @file Before against after on the same prompts. */

/** A mean and where it lies with 95 % confidence. */
export interface Interval {
  /** The estimate. */
  mean: number;
  /** Its standard error. */
  standardError: number;
  /** mean - t s and mean + t s, t the 0.975 quantile of Student's distribution with n - 1 degrees of freedom. -Infinity for n = 1. */
  low: number;
  /** The upper end; Infinity for n = 1. */
  high: number;
}

/** The interval of a mean of n numbers, or of an estimate from n parts. */
export function intervalOf({ mean, standardError }: { mean: number; standardError: number }, n: number): Interval {
  if (n < 2) return { mean, standardError, low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY };
  const reach = standardError === 0 ? 0 : tQuantile(n - 1) * standardError;
  return { mean, standardError, low: mean - reach, high: mean + reach };
}

/**
 * The 0.975 quantile of Student's t: exact for 1 and 2 degrees of freedom, from 3 on the series of Fisher and Cornish (Abramowitz and
 * Stegun 26.7.5), which is off by less than 0.2 %.
 */
export function tQuantile(degrees: number): number {
  if (degrees === 1) return Math.tan(0.475 * Math.PI);
  if (degrees === 2) return 0.95 * Math.sqrt(2 / (1 - 0.95 ** 2));
  const z = 1.959963984540054;
  const v = degrees;
  const terms = [
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ];
  return terms.reduce((sum, term, i) => sum + term / v ** (i + 1), z);
}

/** Words and signs, in lower case: what n-grams are made of, whatever the tokenizer. */
const wordsOf = (text: string): string[] => text.toLowerCase().match(/[\p{L}\p{M}\p{N}]+|[^\s\p{L}\p{M}\p{N}]/gu) ?? [];

/**
 * distinct-n (Li et al. 2016, arXiv 1510.03055): different n-grams of words in all texts, divided by all n-grams in them. 1: nothing is
 * ever said twice; near 0: it is always the same. It falls with the number and the length of texts, so compare like with like.
 * @param groups texts by the prompt they answer
 * @returns the number, and what it is without each of the groups in turn: for {@link jackknife}
 */
export function distinctNgrams(
  groups: readonly (readonly string[])[],
  n: number,
): { value: number; without: number[] } {
  const groupsWith = new Map<string, Set<number>>();
  const counts = groups.map((texts, group) => {
    let count = 0;
    for (const text of texts) {
      const words = wordsOf(text);
      for (let i = 0; i + n <= words.length; i++, count++) {
        const gram = words.slice(i, i + n).join(" ");
        const known = groupsWith.get(gram) ?? new Set();
        groupsWith.set(gram, known.add(group));
      }
    }
    return count;
  });
  const own = new Array<number>(groups.length).fill(0); // n-grams that no other group has
  for (const known of groupsWith.values()) if (known.size === 1) own[[...known][0]]++;
  const total = counts.reduce((a, b) => a + b, 0);
  const share = (different: number, all: number) => (all === 0 ? Number.NaN : different / all);
  return {
    value: share(groupsWith.size, total),
    without: counts.map((count, group) => share(groupsWith.size - own[group], total - count)),
  };
}

/**
 * An estimate that is no mean, with its standard error from what it is without each part in turn (Efron's jackknife):
 * √((n − 1) / n · Σ (x₋ᵢ − mean)²).
 */
export function jackknife(value: number, without: readonly number[]): { mean: number; standardError: number } {
  const n = without.length;
  const mean = without.reduce((a, b) => a + b, 0) / n;
  const squares = without.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean: value, standardError: n > 1 ? Math.sqrt(((n - 1) / n) * squares) : Number.POSITIVE_INFINITY };
}
