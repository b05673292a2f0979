/**
 * @file The alternatives that the audit bets on: distributions q that tokens may have come from instead of the policy p they are
 * scored under. Each is a proper distribution over the tokens that p could have drawn, fixed before the token is seen, so that
 * rl/martingale.ts has a bound for all of them together. What they differ in is what they notice, and how soon.
 */
import type { Tilt } from "../model/distribution.ts";
import type { LogFactors } from "./martingale.ts";

/**
 * - `reference`: q = (1 - l) p + l π_ref. Grows when tokens are likelier under the reference than chance allows, long before the
 *   mean KL is below zero: whatever earns a reward through the KL penalty.
 * - `importance`: the same with π_old for tokens that a rollout policy drew; grows when the mean importance weight is above 1.
 * - `surprise`: q(x) in proportion to p(x) exp(a min(log p(x), k)): tokens that are likelier than draws from p (top-k, top-p, a
 *   lower temperature, greedy choice), or less likely.
 * - `ends`: the probability of the end of text multiplied by c, the others rescaled: a minimum length, padding.
 */
export type Family = "reference" | "importance" | "surprise" | "ends";

/** l of the mixtures with the policy itself: small ones survive tokens that q would hardly draw. */
const PARTS = [1, 1 / 2, 1 / 8, 1 / 32];

/** Other temperatures, and fewer of the rare tokens, which is how truncation shows. */
export const TILTS: readonly Tilt[] = [
  ...[-0.3, -0.1, -0.03, 0.03, 0.1, 0.3, 1].map((slope) => ({ slope, below: 1 })),
  ...[3e-2, 3e-3, 1e-4].map((below) => ({ slope: 1, below })),
];

/** c. */
const END_FACTORS = [1 / 64, 1 / 2, 2, 8];

export const tiltName = ({ slope, below }: Tilt) => `surprise ${slope}${below < 1 ? ` below ${below}` : ""}`;
const partName = (family: "reference" | "importance", part: number) => `${family} ${part}`;
const endsName = (factor: number) => `ends ${factor}`;

const names: Readonly<Record<Family, readonly string[]>> = {
  reference: PARTS.map((part) => partName("reference", part)),
  importance: PARTS.map((part) => partName("importance", part)),
  surprise: TILTS.map(tiltName),
  ends: END_FACTORS.map(endsName),
};
/** What the families have of M; they add up to 1. Each shares it evenly among its alternatives. */
const FAMILY_WEIGHTS: Readonly<Record<Family, number>> = {
  reference: 1 / 4,
  importance: 1 / 8,
  surprise: 1 / 2,
  ends: 1 / 8,
};

/** π_i of all alternatives. */
export const WEIGHTS: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(FAMILY_WEIGHTS).flatMap(([family, weight]) => {
    const all = names[family as Family];
    return all.map((name) => [name, weight / all.length]);
  }),
);

export const familyOf = (name: string) => name.split(" ")[0] as Family;

/** Whether an alternative of `surprise` or `ends` says that there is less of what it is about than p would have. */
export const saysFewer = (name: string) => {
  const parameter = Number(name.split(" ")[1]);
  return familyOf(name) === "ends" ? parameter < 1 : parameter > 0;
};

/** log((1 - l) + l e^d) without overflow, and not minus infinity for any d. */
function logPart(l: number, d: number): number {
  if (l === 1) return d;
  return d > 0 ? d + Math.log(l + (1 - l) * Math.exp(-d)) : Math.log1p(l * Math.expm1(d));
}

/**
 * The factors of q = (1 - l) p + l q_1.
 * @param logRatios log q_1(x) - log p(x) of each token, with p as it was drawn from, over the same kept set
 */
export function mixtureFactors(family: "reference" | "importance", logRatios: Iterable<number>): LogFactors {
  const sums = PARTS.map(() => 0);
  for (const d of logRatios)
    PARTS.forEach((l, i) => {
      sums[i] += logPart(l, d);
    });
  return Object.fromEntries(PARTS.map((l, i) => [partName(family, l), sums[i]]));
}

/** log q(x) / p(x) of a tilt, from log p(x) and the sum over the vocabulary Σ_v p(v) exp(a min(log p(v), k)). */
export const tiltFactor = ({ slope, below }: Tilt, logprob: number, sum: number) =>
  slope * Math.min(logprob, Math.log(below)) - Math.log(sum);

/**
 * The factors of c p(x) / (1 + (c - 1) e) for an end of text and p(x) / (1 + (c - 1) e) for any other token.
 * @param isEnd          whether each token is an end of text
 * @param endProbability e: what p gives all ends of text together, for each token
 */
export function endFactors(isEnd: ArrayLike<boolean>, endProbability: ArrayLike<number>): LogFactors {
  const sums = END_FACTORS.map(() => 0);
  for (let i = 0; i < isEnd.length; i++)
    END_FACTORS.forEach((c, j) => {
      sums[j] += (isEnd[i] ? Math.log(c) : 0) - Math.log1p((c - 1) * endProbability[i]);
    });
  return Object.fromEntries(END_FACTORS.map((c, j) => [endsName(c), sums[j]]));
}
