/** @file Penalties, biases, banned and forced tokens, min-p and the user's own: transformers, naive code, chi-squared. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import type { Bias } from "../../../src/model/distribution.ts";
import { type SamplingOptions, TokenSampler } from "../../../src/sample/token-sampler.ts";
import type { Transform } from "../../../src/sample/transforms.ts";
import { pValue } from "../../support/chi-squared.ts";
import { goldenPath } from "../../support/golden.ts";

interface Case {
  row: number;
  prompt: number[];
  response: number[];
  repetitionPenalty: number;
  bias: { ids: number[]; values: number[] };
  bannedTokens: number[];
  /** -1: none. */
  forced: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  kept: number[];
  keptMass: number;
  logprobs: number[];
}
const golden: { logits: number[][]; rawLogprobs: number[][]; adjusted: Case[] } = JSON.parse(
  readFileSync(goldenPath("warpers.json"), "utf8"),
);
const V = 101;
const all = Array.from({ length: V }, (_, v) => v);
const toBias = ({ ids, values }: { ids: number[]; values: number[] }): Bias => ({
  ids: Int32Array.from(ids),
  values: Float32Array.from(values),
});
const contextOf = (c: { prompt: number[]; response: number[] }) => ({
  prompt: Int32Array.from(c.prompt),
  response: Int32Array.from(c.response),
});

describe.each(golden.adjusted.map((c, i) => ({ ...c, i })))(
  "transformers' processors $i: penalty $repetitionPenalty, banned $bannedTokens, forced $forced, min-p $minP",
  (c) => {
    const logits = Float32Array.from(golden.logits[c.row]);
    const { forced, bias, kept, logprobs, keptMass, ...options } = c;
    const sampling: Partial<SamplingOptions> = {
      ...options,
      bias: bias.ids.length > 0 ? toBias(bias) : undefined,
      forcedTokens: forced < 0 ? undefined : { [c.response.length]: forced },
    };
    // The bias given as a user's transform, of either declaration, is the same thing.
    const own = (dependsOnTokens: boolean): Partial<SamplingOptions> => ({
      ...sampling,
      bias: undefined,
      transforms: [{ kind: "adjust", name: "own", dependsOnTokens, bias: () => toBias(bias) }],
    });

    test.each([sampling, own(true), own(false)])("kept set, mass and log-probs %#", (given) => {
      const sampler = new TokenSampler(V, given);
      for (let seed = 0; seed < 10; seed++) {
        const draw = sampler.draw(logits, new RNG(seed), [], contextOf(c));
        expect(Array.from(draw.kept?.ids() ?? all)).toEqual(kept);
        expect(draw.logprob).toBeCloseTo(logprobs[kept.indexOf(draw.id)], 5); // adjusted logits are float32
        expect(draw.keptMass).toBeCloseTo(keptMass, 5);
        expect(draw.rawLogprob).toBeCloseTo(golden.rawLogprobs[c.row][draw.id], 7);
      }
    });
  },
);

describe("frequencies", () => {
  const DRAWS = 20_000;
  const rng = new RNG(7);
  const logits = Float32Array.from(all, () => 2 * rng.normal());
  const ranked = all.toSorted((a, b) => logits[b] - logits[a]);
  const context = { prompt: Int32Array.from(ranked.slice(0, 5)), response: Int32Array.from(ranked.slice(3, 9)) };
  const seen = new Set([...context.prompt, ...context.response]);

  /** Naive probabilities of adjusted logits over the tokens that stay. */
  function probabilities(adjust: (z: number, v: number) => number, stays = (_v: number, _share: number) => true) {
    const z = Array.from(logits, adjust);
    const max = Math.max(...z);
    const w = z.map((x, v) => (stays(v, Math.exp(x - max)) ? Math.exp(x - max) : 0));
    const total = w.reduce((a, b) => a + b);
    return w.map((x) => x / total);
  }
  const same = (z: number) => z;
  const penalised = (p: number) => (z: number, v: number) => (!seen.has(v) ? z : z > 0 ? z / p : z * p);
  const biasIds = [ranked[0], ranked[4], ranked[20]];
  const biasValues = [-1, 0.75, 2];
  const biased = (z: number, v: number) => z + (biasIds.includes(v) ? biasValues[biasIds.indexOf(v)] : 0);
  const even = (v: number) => v % 2 === 0;
  const evenOnly: Transform = {
    kind: "truncate",
    name: "even",
    dependsOnTokens: false,
    keep: ({ candidates }) => (candidates ?? Int32Array.from(all)).filter(even),
  };
  const lastPlus: Transform = {
    kind: "adjust",
    name: "after the last",
    dependsOnTokens: true,
    bias: ({ response }) => toBias({ ids: [(response.at(-1) as number) + 1], values: [3] }),
  };
  const after = (context.response.at(-1) as number) + 1;

  const cases: { name: string; options: Partial<SamplingOptions>; p: number[] }[] = [
    { name: "min-p", options: { minP: 0.1 }, p: probabilities(same, (_, share) => share >= 0.1) },
    { name: "penalty 1.2", options: { repetitionPenalty: 1.2 }, p: probabilities(penalised(1.2)) },
    { name: "penalty 0.8", options: { repetitionPenalty: 0.8 }, p: probabilities(penalised(0.8)) },
    {
      name: "bias",
      options: { bias: toBias({ ids: biasIds, values: biasValues }) },
      p: probabilities(biased),
    },
    {
      name: "banned tokens",
      options: { bannedTokens: [ranked[1], ranked[6]] },
      p: probabilities(same, (v) => v !== ranked[1] && v !== ranked[6]),
    },
    { name: "a user's truncation", options: { transforms: [evenOnly] }, p: probabilities(same, even) },
    {
      name: "a user's bias of earlier tokens",
      options: { transforms: [lastPlus] },
      p: probabilities((z, v) => z + (v === after ? 3 : 0)),
    },
    {
      name: "penalty, bias and min-p",
      options: { repetitionPenalty: 1.2, bias: toBias({ ids: biasIds, values: biasValues }), minP: 0.1 },
      p: probabilities(
        (z, v) => biased(penalised(1.2)(z, v), v),
        (_, share) => share >= 0.1,
      ),
    },
  ];
  test.each(cases)("$name: as often as the probabilities say, and not as without it", ({ options, p }) => {
    const sampler = new TokenSampler(V, options);
    const rng = new RNG(11, 5);
    const counts = new Array(V).fill(0);
    for (let i = 0; i < DRAWS; i++) {
      const { id, logprob } = sampler.draw(logits, rng, [], context);
      counts[id]++;
      if (i < 50) expect(logprob).toBeCloseTo(Math.log(p[id]), 5);
    }
    expect(pValue(counts, p)).toBeGreaterThan(1e-4);
    expect(pValue(counts, probabilities(same))).toBeLessThan(1e-4); // broken on purpose: the transform left out
    const best = p.indexOf(Math.max(...p));
    const raised = p.map((x, v) => (v === best ? 1.4 * x : x));
    const total = raised.reduce((a, b) => a + b);
    expect(
      pValue(
        counts,
        raised.map((x) => x / total),
      ),
    ).toBeLessThan(1e-4);
  });

  test("a forced token, banned or not, is the only one, at its place alone", () => {
    const forced = ranked[60];
    const sampler = new TokenSampler(V, { forcedTokens: { 6: forced }, bannedTokens: [forced] });
    const p = probabilities(same)[forced];
    for (let seed = 0; seed < 20; seed++) {
      const { id, logprob, kept, keptMass } = sampler.draw(logits, new RNG(seed), [forced], context);
      expect([id, logprob, Array.from(kept?.ids() ?? [])]).toEqual([forced, 0, [forced]]);
      expect(keptMass).toBeCloseTo(p, 9);
      expect(sampler.draw(logits, new RNG(seed)).id).not.toBe(forced); // place 0
    }
  });
});

test("the kept mass stays above 0 when what is banned has all the probability", () => {
  const logits = Float32Array.of(0, 1, 5000);
  const { id, logprob, keptMass, rawLogprob } = new TokenSampler(3, { bannedTokens: [2] }).draw(logits, new RNG(1));
  expect(logprob).toBeCloseTo(id === 1 ? -Math.log(1 + Math.exp(-1)) : -1 - Math.log(1 + Math.exp(-1)), 12);
  expect(keptMass).toBe(Number.MIN_VALUE);
  expect(rawLogprob).toBe(logits[id] - 5000);
});

test("a transform that says it does not depend on tokens is not shown any", () => {
  const shown: unknown[][] = [];
  const transforms: Transform[] = [
    {
      kind: "adjust",
      name: "a",
      dependsOnTokens: false,
      // @ts-expect-error: it takes no context
      bias: (context: unknown) => {
        shown.push([context]);
        return toBias({ ids: [], values: [] });
      },
    },
    {
      kind: "truncate",
      name: "t",
      dependsOnTokens: false,
      keep: (input) => {
        // @ts-expect-error: there is no response in it
        shown.push([input.response]);
        return undefined;
      },
    },
  ];
  const sampler = new TokenSampler(3, { transforms });
  sampler.draw(Float32Array.of(1, 2, 3), new RNG(0));
  sampler.draw(Float32Array.of(1, 2, 3), new RNG(0));
  expect(shown).toEqual([[undefined], [undefined], [undefined]]); // the bias was asked once
});

describe("errors", () => {
  const draw = (options: Partial<SamplingOptions>) => () =>
    new TokenSampler(4, options).draw(Float32Array.of(1, 2, 3, Number.NEGATIVE_INFINITY), new RNG(0));
  const adjust = (bias: { ids: number[]; values: number[] }): Partial<SamplingOptions> => ({
    transforms: [{ kind: "adjust", name: "mine", dependsOnTokens: true, bias: () => toBias(bias) }],
  });
  const truncate = (ids: number[]): Partial<SamplingOptions> => ({
    topK: 2,
    transforms: [{ kind: "truncate", name: "mine", dependsOnTokens: true, keep: () => ids }],
  });
  const outside = "expected ids from 0 to 3. Fix: use ids of this model's tokenizer";
  const some = "expected some of the candidates, at least one of them possible. Fix: correct what mine returns";
  test.each<[Partial<SamplingOptions>, string]>([
    [{ minP: -0.1 }, "minP: found -0.1, expected a number from 0 to 1. Fix: correct minP"],
    [{ minP: 1.1 }, "minP: found 1.1, expected a number from 0 to 1. Fix: correct minP"],
    [
      { repetitionPenalty: 0 },
      "repetitionPenalty: found 0, expected a number from 0.0001 to 10000. Fix: correct repetitionPenalty",
    ],
    [{ bannedTokens: [4] }, `bannedTokens: found token 4, ${outside}`],
    [{ forcedTokens: { 0: -1 } }, `forcedTokens: found token -1, ${outside}`],
    [{ bias: toBias({ ids: [9], values: [1] }) }, `transform bias: found token 9, ${outside}`],
    [
      { bannedTokens: [0, 1, 2, 3] },
      "bannedTokens: found every token of the vocabulary, expected at least one that may be drawn. Fix: ban fewer tokens, or lower minNewTokens",
    ],
    [
      adjust({ ids: [1, 2], values: [1] }),
      "transform mine: found 2 ids and 1 values, expected a value for each id. Fix: correct what mine returns",
    ],
    [
      adjust({ ids: [2], values: [Number.NEGATIVE_INFINITY] }),
      "transform mine: found a bias of -Infinity for token 2, expected finite numbers. Fix: to forbid a token, use bannedTokens or a transform of kind truncate: what stays must be recorded",
    ],
    [truncate([4]), `transform mine: found token 4, ${outside}`],
    [truncate([0]), `transform mine: found tokens kept that were not candidates, ${some}`],
    [truncate([]), `transform mine: found no token kept that can be drawn, ${some}`],
  ])("%o", (options, message) => {
    expect(draw(options)).toThrow(expect.objectContaining({ kind: "usage", message }));
  });
});
