/**
 * @file Honest runs, simulated: tokens are drawn from the very policy they are scored under, and the audit's test is computed as the
 * trainer computes it. How often does it stop one? Policies are small tables instead of a language model, chosen to be hard on a
 * test: two tokens of which one is rare, batches of a few, low temperatures, policies that move after what was drawn.
 */
import type { RNG } from "../src/base/rng.ts";
import { endFactors, mixtureFactors, TILTS, tiltFactor, tiltName, WEIGHTS } from "../src/rl/alternatives.ts";
import { advance, type LogFactors, logShares, logSum, NO_STEPS } from "../src/rl/martingale.ts";

/** The distributions of one step over a small vocabulary; token 0 is the end of text. */
export interface World {
  /** What tokens are drawn from and scored under. */
  policy: number[];
  reference: number[];
  /** The policy in full precision, where a quantised copy of it draws. */
  old?: number[];
}

export interface Kind {
  name: string;
  steps: number;
  /** Tokens drawn in a step. */
  tokens: number;
  /** The world of a step, from that of the step before and how often each token was drawn there. */
  next(before: World | undefined, drawn: readonly number[], rng: RNG): World;
}

const normalised = (weights: readonly number[]) => {
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
};
const tempered = (p: readonly number[], temperature: number) =>
  normalised(p.map((x) => (x > 0 ? Math.exp(Math.log(x) / temperature) : 0)));

const SKEWED: World = { policy: [0.04, 0.96], reference: [0.02, 0.98] };

/** The rare token has 0.04 under the policy and 0.02 under the reference, and nothing moves: the kind that stopped runs of 0.1.0. */
const skewed = (tokens: number): Kind => ({
  name: `reference 0.02, policy 0.04 for the rare token, ${tokens} tokens a step`,
  steps: 40,
  tokens,
  next: () => SKEWED,
});

/** After each step a token becomes likelier or less likely by how often it was drawn, as under a reward. */
const learning = (vocabulary: number, tokens: number, temperature: number): Kind => ({
  name: `${vocabulary} tokens, policy that learns, temperature ${temperature}, ${tokens} a step`,
  steps: 40,
  tokens,
  next(before, drawn, rng) {
    if (!before) {
      const start = tempered(
        normalised(Array.from({ length: vocabulary }, () => Math.exp(2 * rng.normal()))),
        temperature,
      );
      return { policy: start, reference: start };
    }
    const total = Math.max(
      1,
      drawn.reduce((a, b) => a + b, 0),
    );
    const moved = before.policy.map((p, v) => p * Math.exp(0.5 * (drawn[v] / total - p) + 0.02 * rng.normal()));
    return { policy: normalised(moved), reference: before.reference };
  },
});

/** A quantised copy draws: π_old is near to it, and moves. */
const quantised = (vocabulary: number, tokens: number): Kind => ({
  name: `${vocabulary} tokens, drawn by a quantised copy, ${tokens} a step`,
  steps: 40,
  tokens,
  next(before, _drawn, rng) {
    const noise = (p: readonly number[], by: number) => normalised(p.map((x) => x * Math.exp(by * rng.normal())));
    const reference =
      before?.reference ?? normalised(Array.from({ length: vocabulary }, () => Math.exp(2 * rng.normal())));
    const old = noise(before?.old ?? reference, 0.05);
    return { policy: noise(old, 0.2), reference, old };
  },
});

export const KINDS: readonly Kind[] = [
  ...[8, 32, 128].map(skewed),
  ...[8, 32, 128].map((tokens) => learning(2, tokens, 0.3)),
  learning(6, 32, 1),
  learning(6, 128, 0.15),
  quantised(6, 32),
];

/** What each alternative gains from each token of a world. */
function factorsOf(world: World): readonly LogFactors[] {
  const known = tables.get(world);
  if (known) return known;
  const { policy, reference, old } = world;
  const logs = policy.map((p) => Math.log(p));
  const sums = TILTS.map(({ slope, below }) =>
    policy.reduce((sum, p, v) => (p > 0 ? sum + p * Math.exp(slope * Math.min(logs[v], Math.log(below))) : sum), 0),
  );
  const table = policy.map((_, v) => ({
    ...mixtureFactors("reference", [Math.log(reference[v]) - logs[v]]),
    ...(old && mixtureFactors("importance", [Math.log(old[v]) - logs[v]])),
    ...Object.fromEntries(TILTS.map((tilt, i) => [tiltName(tilt), tiltFactor(tilt, logs[v], sums[i])])),
    ...endFactors([v === 0], [policy[0]]),
  }));
  tables.set(world, table);
  return table;
}

const tables = new WeakMap<World, readonly LogFactors[]>();

/** One honest run: the largest log M of it. */
export function honestRun(kind: Kind, rng: RNG): number {
  let state = NO_STEPS;
  let world: World | undefined;
  let drawn: number[] = [];
  let highest = 0;
  for (let step = 0; step < kind.steps; step++) {
    world = kind.next(world, drawn, rng);
    drawn = draw(world.policy, kind.tokens, rng);
    const total: Record<string, number> = {};
    const table = factorsOf(world);
    for (const name of Object.keys(table[0]))
      total[name] = drawn.reduce((sum, count, token) => (count > 0 ? sum + count * table[token][name] : sum), 0);
    state = advance(state, total, WEIGHTS, kind.tokens);
    highest = Math.max(highest, logSum(Object.values(logShares(state, WEIGHTS))));
  }
  return highest;
}

/** How often each token comes in n draws. */
function draw(p: readonly number[], n: number, rng: RNG): number[] {
  const counts = p.map(() => 0);
  for (let i = 0; i < n; i++) {
    let left = rng.uniform();
    let token = 0;
    for (let v = 0; v < p.length; v++) {
      if (p[v] === 0) continue;
      token = v; // rounding may leave a little over: then the last one
      left -= p[v];
      if (left < 0) break;
    }
    counts[token]++;
  }
  return counts;
}
