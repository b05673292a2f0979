/** @file The edge of the nucleus, found without sorting a vocabulary. */

/** Where so few are left they are sorted. */
const FEW = 64;
/** Of many equal numbers no halving leaves fewer: then what is left is sorted after all. */
const MOST_HALVINGS = 24;

/** The nucleus: all weights above `edge`, and `atEdge` of those equal to it. */
export interface Nucleus {
  readonly edge: number;
  readonly atEdge: number;
  /** Of all its weights. */
  readonly sum: number;
}

/**
 * The largest weights that together reach a sum: the range that holds the least of them is halved on a log scale, until few are left.
 * @param weights the first `count` of them, above 0 and at most 1; overwritten
 * @param other   room for as many
 * @param target  at most the sum of all
 */
export function nucleusOf(weights: Float64Array, other: Float64Array, count: number, target: number): Nucleus {
  let [inside, outside] = [weights, other];
  let [low, high] = [Number.POSITIVE_INFINITY, 2];
  for (let i = 0; i < count; i++) low = Math.min(low, weights[i]);
  let above = 0; // the sum of all weights from `high` up, less than the target
  for (let halving = 0; count > FEW && halving < MOST_HALVINGS; halving++) {
    const middle = Math.sqrt(low * high);
    let [upper, mass] = [0, 0];
    for (let i = 0; i < count; i++) {
      // Written to both, counted in one: a branch would be guessed wrong every other time.
      const weight = inside[i];
      const isUpper = Number(weight >= middle);
      inside[upper] = weight;
      outside[i - upper] = weight;
      upper += isUpper;
    }
    for (let i = 0; i < upper; i++) mass += inside[i];
    if (above + mass >= target || upper === count) {
      low = middle;
      count = upper;
    } else {
      high = middle;
      above += mass;
      [inside, outside] = [outside, inside];
      count -= upper;
    }
  }
  const sorted = inside.subarray(0, count).sort();
  let first = count;
  let sum = above;
  while (first > 0 && sum < target) sum += sorted[--first];
  const edge = sorted[first];
  let atEdge = 0;
  while (first + atEdge < count && sorted[first + atEdge] === edge) atEdge++;
  return { edge, atEdge, sum };
}
