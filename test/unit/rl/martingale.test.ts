/** @file The audit's test: a martingale exactly, for every alternative; its bound holds and is not idle. */
import { describe, expect, test } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import {
  endFactors,
  familyOf,
  mixtureFactors,
  saysFewer,
  TILTS,
  tiltFactor,
  tiltName,
  WEIGHTS,
} from "../../../src/rl/alternatives.ts";
import {
  advance,
  FALSE_STOPS,
  LOG_BOUND,
  type LogFactors,
  logShares,
  logSum,
  NO_STEPS,
  ROUNDING,
} from "../../../src/rl/martingale.ts";
import { honestRun, KINDS } from "../../../tools/honest-runs.ts";

const POLICY = [0.6, 0.3, 0.0995, 0.0005];
const REFERENCE = [0.2, 0.3, 0.4999, 0.0001];
const logs = POLICY.map(Math.log);
/** What every alternative gains when token x is drawn. Token 1 is the end of text. */
const factorsOf = (x: number): LogFactors => {
  const ratio = Math.log(REFERENCE[x] / POLICY[x]);
  const tilts = TILTS.map((tilt) => {
    const { slope, below } = tilt;
    const sum = POLICY.reduce((s, p, v) => s + p * Math.exp(slope * Math.min(logs[v], Math.log(below))), 0);
    return [tiltName(tilt), tiltFactor(tilt, logs[x], sum)];
  });
  const mixtures = { ...mixtureFactors("reference", [ratio]), ...mixtureFactors("importance", [ratio]) };
  return { ...mixtures, ...Object.fromEntries(tilts), ...endFactors([x === 1], [POLICY[1]]) };
};

test("the weights of all alternatives add up to 1, and each has a factor", () => {
  expect(Object.values(WEIGHTS).reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
  expect(Object.keys(factorsOf(0)).sort()).toEqual(Object.keys(WEIGHTS).sort());
  expect(LOG_BOUND).toBeCloseTo(13.8155, 4); // log 10^6
  expect(FALSE_STOPS).toBe(1e-6);
});

test.each(Object.keys(WEIGHTS))("%s is a distribution: Σ p(x) q(x)/p(x) = 1", (name) => {
  const total = POLICY.reduce((sum, p, x) => sum + p * Math.exp(factorsOf(x)[name]), 0);
  expect(total).toBeCloseTo(1, 12);
});

test("factors do not overflow where the policy all but excludes a token", () => {
  for (const log of Object.values(mixtureFactors("reference", [900]))) expect(log).toBeGreaterThan(890);
  for (const [name, log] of Object.entries(mixtureFactors("reference", [-900])))
    expect(log).toBeCloseTo(name.endsWith(" 1") ? -900 : Math.log1p(-Number(name.split(" ")[1])), 10);
});

test("the mean of M over all that can be drawn in four steps is 1, whatever follows from what was drawn", () => {
  // What is bet on in a step may depend on the tokens before: here a step after token 2 has no importance weights.
  let mean = 0;
  const walk = (state = NO_STEPS, chance = 1, before = 0, steps = 4): void => {
    if (steps === 0) {
      mean += chance * Math.exp(logSum(Object.values(logShares(state, WEIGHTS))));
      return;
    }
    POLICY.forEach((p, x) => {
      const all = Object.entries(factorsOf(x));
      const bets = Object.fromEntries(all.filter(([name]) => before !== 2 || familyOf(name) !== "importance"));
      walk(advance(state, bets, WEIGHTS, 0), chance * p, x, steps - 1);
    });
  };
  walk();
  expect(mean).toBeCloseTo(1, 12);
});

test("M is the mixture over alternatives and starting steps that the formula says", () => {
  const weights = { a: 0.25, b: 0.75 };
  const gains = [
    { a: 0.5, b: -1 },
    { a: -2, b: 3 },
    { a: 1.25, b: 0.125 },
  ];
  const tokens = 7;
  const T = gains.length;
  let expected = 0;
  for (const [name, weight] of Object.entries(weights) as ["a" | "b", number][]) {
    for (let s = 1; s <= T; s++) {
      const product = gains.slice(s - 1).reduce((sum, g) => sum + g[name] - ROUNDING * tokens, 0);
      expected += (weight / (s * (s + 1))) * Math.exp(product);
    }
    expected += weight / (T + 1); // Σ_{s > T} 1 / (s (s + 1)): not begun
  }
  const state = gains.reduce((before, g) => advance(before, g, weights, tokens), NO_STEPS);
  expect(logSum(Object.values(logShares(state, weights)))).toBeCloseTo(Math.log(expected), 12);
  expect(state.steps).toBe(3);
});

test("a state survives JSON and goes on as it was, bit for bit; one without some alternative has lost that share", () => {
  const one = advance(NO_STEPS, factorsOf(2), WEIGHTS, 1);
  const restored = JSON.parse(JSON.stringify(one));
  expect(advance(restored, factorsOf(0), WEIGHTS, 1)).toEqual(advance(one, factorsOf(0), WEIGHTS, 1));
  const { "ends 8": _, ...others } = one.logs;
  const fewer = logShares(advance({ ...one, logs: others }, {}, WEIGHTS, 1), WEIGHTS);
  expect(fewer["ends 8"]).toBeLessThan(Math.log(WEIGHTS["ends 8"]));
});

test("a gap that opens after a thousand honest steps is noticed soon all the same", () => {
  let state = NO_STEPS;
  const honest = mixtureFactors("reference", new Array(100).fill(-0.06)); // KL 6 nats a step: exp(-6000) in the end
  for (let step = 0; step < 1000; step++) state = advance(state, honest, WEIGHTS, 100);
  const open = mixtureFactors("reference", new Array(100).fill(0.06));
  let steps = 0;
  for (; logSum(Object.values(logShares(state, WEIGHTS))) < LOG_BOUND; steps++)
    state = advance(state, open, WEIGHTS, 100);
  expect(steps).toBeLessThanOrEqual(6); // 13.8 + log(1001 * 1002) + log 16 = 30.4 nats at 6 a step
  expect(steps).toBeGreaterThanOrEqual(5);
});

describe("Ville's bound over honest runs", () => {
  const ALPHA = 0.05;
  const RUNS = 200;

  test.each([...KINDS])("$name: at most α of them ever reach 1/α", (kind) => {
    let reached = 0;
    for (let run = 0; run < RUNS; run++) if (honestRun(kind, new RNG(11, run)) >= -Math.log(ALPHA)) reached++;
    // With α the true share, 22 or more of 200 are seen with a chance of 0.05 %.
    expect(reached).toBeLessThan(22);
  });

  test("and it is not idle: draws that bet on one alternative alone reach 1/α nearly that often", () => {
    const weights = { "reference 1": 1 };
    const rng = new RNG(3);
    const runs = 2000;
    let reached = 0;
    for (let run = 0; run < runs; run++) {
      let state = NO_STEPS;
      let highest = 0;
      for (let step = 0; step < 60; step++) {
        const drawn = Array.from({ length: 8 }, () => (rng.uniform() < 0.04 ? 0.5 : 0.98 / 0.96));
        state = advance(state, mixtureFactors("reference", drawn.map(Math.log)), weights, 0);
        highest = Math.max(highest, logSum(Object.values(logShares(state, weights))));
      }
      if (highest >= -Math.log(ALPHA)) reached++;
    }
    expect(reached / runs).toBeLessThan(ALPHA);
    expect(reached / runs).toBeGreaterThan(ALPHA / 5);
  });
});

test("what an alternative says is read from its name", () => {
  expect(["surprise 0.1", "surprise 1 below 0.003", "ends 0.5"].map(saysFewer)).toEqual([true, true, true]);
  expect(["surprise -0.1", "ends 8"].map(saysFewer)).toEqual([false, false]);
});
