/** @file Sampling from the softmax of the logits as they are: most tokens of a PPO run are drawn so. */
import { fail } from "../base/errors.ts";
import type { Rng } from "../base/rng.ts";
import type { KeptSet } from "../gpt2/kept-set.ts";

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
export function drawPlain(p: Float32Array, rng: Rng, wantsRaw: boolean): Draw {
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
  let left = rng.uniform() * sum;
  let id = 0;
  for (let i = 0; i < n; i++) {
    if (p[i] === 0) continue;
    id = i; // rounding may leave a little over: then the last one
    left -= p[i];
    if (left < 0) break;
  }
  const logprob = Math.log(p[id] / sum);
  return { id, logprob, rawLogprob: wantsRaw ? logprob : Number.NaN, kept: undefined, keptMass: 1 };
}

export function badLogits(found: string): never {
  return fail("numbers", {
    where: "logits of the next token",
    found,
    expected: "finite numbers",
    fix: "the weights have gone bad: go back to an earlier checkpoint, lower the learning rate",
  });
}
