/** @file Sampling from the softmax of the logits as they are: most tokens of a PPO run are drawn so. */
import { fail } from "../base/errors.ts";
import type { RNG } from "../base/rng.ts";
import type { KeptSet } from "../model/kept-set.ts";

/** A token, and what it was drawn from. */
export interface Draw {
  id: number;
  /** Natural log of the probability it was drawn with: over the kept set, adjusted, at the temperature. */
  logprob: number;
  /** Natural log of its probability under the model alone: temperature 1, all tokens, no adjustments. NaN if not asked. */
  rawLogprob: number;
  /** Ids that could have been drawn; undefined: all. */
  kept: KeptSet | undefined;
  /** Probability of the kept set before the others were left out, adjusted, at the temperature. In (0, 1]. */
  keptMass: number;
}

/** A draw from probabilities as they are: the sum is taken in float64, so rounding of their float32 scale does not matter. */
export function drawPlain(p: Float32Array, rng: RNG, wantsRaw: boolean): Draw {
  const n = p.length;
  const whole = n - (n % 4);
  let [a, b, c, d] = [0, 0, 0, 0]; // four sums side by side: one would wait for itself
  for (let i = 0; i < whole; i += 4) {
    a += p[i];
    b += p[i + 1];
    c += p[i + 2];
    d += p[i + 3];
  }
  for (let i = whole; i < n; i++) a += p[i];
  const sum = a + b + c + d;
  if (!(sum > 0)) badLogits("NaN or infinity");
  const id = drawIndex(p, n, sum, rng);
  const logprob = Math.log(p[id] / sum);
  return { id, logprob, rawLogprob: wantsRaw ? logprob : Number.NaN, kept: undefined, keptMass: 1 };
}

/** An index below n with probability w[i] / sum; `sum` is that of the first n. */
export function drawIndex(w: Float32Array | Float64Array, n: number, sum: number, rng: RNG): number {
  let left = rng.uniform() * sum;
  let pick = 0;
  for (let i = 0; i < n; i++) {
    if (w[i] === 0) continue;
    pick = i; // rounding may leave a little over: then the last one
    left -= w[i];
    if (left < 0) break;
  }
  return pick;
}

export function badLogits(found: string): never {
  return fail("numbers", {
    where: "logits of the next token",
    found,
    expected: "finite numbers",
    fix: "the weights have gone bad: go back to an earlier checkpoint, lower the learning rate",
  });
}
