/** @file Whether tokens that came without a record can be draws from the policy: what is asked of its log-probs, and what follows. */
import type { RowStatistics } from "../model/distribution.ts";
import { endFactors, TILTS, tiltFactor, tiltName } from "./alternatives.ts";
import type { LogFactors } from "./martingale.ts";

/** Of some tokens. Sums over them. */
export interface Draws {
  readonly tokens: number;
  /** Σ (-log p(x) - H(p)), nats: 0 on average for draws from p. */
  readonly excessSurprise: number;
  /** Ends of text, and Σ of their probabilities. */
  readonly ends: number;
  readonly expectedEnds: number;
  readonly factors: LogFactors;
}

export const NO_DRAWS: Draws = { tokens: 0, excessSurprise: 0, ends: 0, expectedEnds: 0, factors: {} };

/** What is asked of each token's distribution. */
export const drawStatistics = (ends: readonly number[]): RowStatistics => ({ tilts: TILTS, ids: ends });

/**
 * @param ids    the tokens [R]
 * @param scores of them, with the {@link drawStatistics} of the same `ends`
 */
export function drawsOf(
  ids: Int32Array,
  scores: { logprobs: Float32Array; entropies: Float32Array; more: Readonly<Record<string, Float32Array>> },
  ends: readonly number[],
): Draws {
  const { logprobs, entropies, more } = scores;
  const isEnd = Array.from(ids, (id) => ends.includes(id));
  const sum = (of: (i: number) => number) => ids.reduce((total, _, i) => total + of(i), 0);
  const tilts = TILTS.map((tilt, k) => {
    const sums = more[`tilt${k}`];
    return [tiltName(tilt), sum((i) => tiltFactor(tilt, logprobs[i], sums[i]))];
  });
  return {
    tokens: ids.length,
    excessSurprise: sum((i) => -logprobs[i] - entropies[i]),
    ends: isEnd.filter(Boolean).length,
    expectedEnds: sum((i) => more.mass[i]),
    factors: { ...Object.fromEntries(tilts), ...endFactors(isEnd, more.mass) },
  };
}

export function addDraws(a: Draws, b: Draws): Draws {
  const factors = Object.entries(b.factors).map(([name, log]) => [name, log + (a.factors[name] ?? 0)]);
  return {
    tokens: a.tokens + b.tokens,
    excessSurprise: a.excessSurprise + b.excessSurprise,
    ends: a.ends + b.ends,
    expectedEnds: a.expectedEnds + b.expectedEnds,
    factors: Object.fromEntries(factors),
  };
}
