/** @file What is kept, how often each token is drawn and with which log-prob: transformers, naive code, chi-squared. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { KeptSet } from "../../../src/model/kept-set.ts";
import { type SamplingOptions, samplingOptions, TokenSampler } from "../../../src/sample/token-sampler.ts";
import { pValue, tail } from "../../support/chi-squared.ts";
import { goldenPath } from "../../support/golden.ts";

interface Case extends Partial<SamplingOptions> {
  row: number;
  banned: number;
  kept: number[];
  logprobs: number[];
}
const golden: { logits: number[][]; cases: Case[] } = JSON.parse(readFileSync(goldenPath("warpers.json"), "utf8"));

/**
 * The probabilities of every token, float64, the straightforward way: sort upwards, drop from the bottom while the sum
 * stays within 1 - p. `margin` is how far the nearest sum is from 1 - p. Of equal tokens the last ids are dropped first.
 */
function exact(logits: ArrayLike<number>, options: Partial<SamplingOptions>, banned = -1) {
  const { temperature, topK, topP } = samplingOptions(options);
  const scores = Array.from(logits, (x, v) => (v === banned ? Number.NEGATIVE_INFINITY : x / temperature));
  const softmax = () => {
    const max = Math.max(...scores);
    const total = scores.reduce((sum, x) => sum + Math.exp(x - max), 0);
    return scores.map((x) => Math.exp(x - max) / total);
  };
  if (topK > 0 && topK < scores.length) {
    const kth = scores.toSorted((a, b) => b - a)[topK - 1];
    scores.forEach((x, v) => {
      if (x < kth) scores[v] = Number.NEGATIVE_INFINITY;
    });
  }
  let margin = Number.POSITIVE_INFINITY;
  if (topP < 1) {
    const p = softmax();
    const upwards = p.map((_, v) => v).sort((a, b) => p[a] - p[b] || b - a);
    let sum = 0;
    for (const v of upwards.slice(0, -1)) {
      sum += p[v];
      if (p[v] > 0) margin = Math.min(margin, Math.abs(sum - (1 - topP)));
      if (sum <= 1 - topP) scores[v] = Number.NEGATIVE_INFINITY;
    }
  }
  return { p: softmax(), margin };
}

const positive = (p: number[]) => p.flatMap((x, v) => (x > 0 ? [v] : []));
const normals = (n: number, sd: number, rng: RNG) => Float32Array.from({ length: n }, () => sd * rng.normal());
const all = (n: number) => Array.from({ length: n }, (_, v) => v);
/** What the golden file and the naive code call -1: nothing. */
const without = (banned: number) => (banned < 0 ? [] : [banned]);

describe("kept sets and log-probs", () => {
  test("a truncation of one's own sees the logits divided by the temperature", () => {
    const seen: number[][] = [];
    const looks = {
      kind: "truncate" as const,
      name: "looks",
      dependsOnTokens: false as const,
      keep: ({ logits }: { logits: Float32Array }) => {
        seen.push([...logits]);
        return undefined;
      },
    };
    const sampler = new TokenSampler(4, { temperature: 0.5, transforms: [looks] });
    sampler.draw(Float32Array.of(1, -2, 3, 0.25), new RNG(1), []);
    expect(seen).toEqual([[2, -4, 6, 0.5]]);
  });

  test("ids of the tokenizer that the model has no row for are no candidates", () => {
    const sampler = new TokenSampler(4, { drawable: KeptSet.of(Int32Array.of(1, 2, 4), 5) });
    const { id, logprob } = sampler.draw(Float32Array.of(9, 0, -1000, 9), new RNG(1), []);
    expect([id, logprob]).toEqual([1, 0]);
  });

  test("minP 1 keeps the most likely tokens, all of them: a token exactly at the threshold stays", () => {
    // transformers' MinPLogitsWarper removes what is below min_p times the largest probability.
    const logits = Float32Array.of(2, 5, 5, 1, 5);
    const sampler = new TokenSampler(logits.length, { minP: 1 });
    const draw = sampler.draw(logits, new RNG(1), []);
    expect([...(draw.kept?.ids() ?? [])]).toEqual([1, 2, 4]);
    expect(draw.logprob).toBeCloseTo(-Math.log(3), 6);
  });

  test.each([0, 1, 2])("as transformers, row %s of logits", (row) => {
    const logits = Float32Array.from(golden.logits[row]);
    for (const c of golden.cases.filter((c) => c.row === row)) {
      const name = `temperature ${c.temperature}, top-k ${c.topK}, top-p ${c.topP}, without ${c.banned}`;
      const sampler = new TokenSampler(logits.length, c);
      const want = new Map(c.kept.map((id, i) => [id, c.logprobs[i]]));
      for (let seed = 0; seed < 20; seed++) {
        const { id, logprob, kept } = sampler.draw(logits, new RNG(seed), without(c.banned));
        expect(Array.from(kept?.ids() ?? all(logits.length)), name).toEqual(c.kept);
        expect(logprob, name).toBeCloseTo(want.get(id) ?? Number.NaN, 7);
      }
      expect(positive(exact(logits, c, c.banned).p), name).toEqual(c.kept); // and so does the naive code
    }
    expect(logits).toEqual(Float32Array.from(golden.logits[row])); // never changed
  });

  test("as the naive code, for random rows, one sampler for all of them", () => {
    const rng = new RNG(5);
    let compared = 0;
    for (let i = 0; i < 60; i++) {
      const V = 1 + rng.int(200);
      const options = {
        temperature: 0.3 + 2 * rng.uniform(),
        topK: rng.int(2) * rng.int(V + 3),
        topP: rng.int(3) === 0 ? 1 : 0.02 + 0.979 * rng.uniform(),
      };
      const sampler = new TokenSampler(V, options);
      for (let j = 0; j < 5; j++) {
        const banned = V > 1 && rng.int(2) === 0 ? rng.int(V) : -1;
        const logits = normals(V, 4 * rng.uniform(), rng);
        const { p, margin } = exact(logits, options, banned);
        if (margin < 1e-9) continue;
        const { id, logprob, kept } = sampler.draw(logits, rng, without(banned));
        expect(Array.from(kept?.ids() ?? all(V))).toEqual(positive(p));
        expect(logprob).toBeCloseTo(Math.log(p[id]), 9);
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(250);
  });

  test.each([
    { temperature: 1, topK: 50, topP: 1 },
    { temperature: 0.7, topK: 0, topP: 0.9 },
    { temperature: 1.3, topK: 0, topP: 0.99 },
    { temperature: 1, topK: 2000, topP: 0.5 },
  ])("as the naive code at GPT-2's vocabulary: %o", (options) => {
    const V = 50257;
    const rng = new RNG(9);
    const logits = normals(V, 2, rng);
    const { p, margin } = exact(logits, options, V - 1);
    expect(margin).toBeGreaterThan(1e-10);
    const { id, logprob, kept } = new TokenSampler(V, options).draw(logits, rng, [V - 1]);
    expect(Array.from(kept?.ids() ?? [])).toEqual(positive(p));
    expect(logprob).toBeCloseTo(Math.log(p[id]), 9);
  });

  test("of equal tokens top-k keeps all, top-p the lowest ids", () => {
    const logits = new Float32Array(8);
    const kept = (topK: number, topP: number, banned = -1) => {
      const sampler = new TokenSampler(8, { temperature: 1, topK, topP });
      return Array.from(sampler.draw(logits, new RNG(0), without(banned)).kept?.ids() ?? all(8));
    };
    expect(kept(3, 1)).toEqual(all(8));
    expect(kept(0, 0.6)).toEqual([0, 1, 2, 3, 4]);
    expect(kept(0, 0.01)).toEqual([0]);
    expect(kept(0, 0.01, 0)).toEqual([1]);
    logits[6] = 3; // e^3 of e^3 + 7: 0.74
    expect(kept(0, 0.7)).toEqual([6]);
    expect(kept(0, 0.76)).toEqual([0, 6]);
  });

  test("a p next to 1 keeps every token, one far below any token keeps the best", () => {
    const logits = normals(500, 3, new RNG(2));
    const best = logits.indexOf(Math.max(...logits));
    const kept = (topP: number) =>
      new TokenSampler(500, { temperature: 1, topK: 0, topP }).draw(logits, new RNG(1)).kept?.size;
    expect(kept(1 - 2 ** -53)).toBe(500);
    expect(kept(1e-300)).toBe(1);
    const { id, logprob } = new TokenSampler(500, { temperature: 1, topK: 0, topP: 1e-300 }).draw(logits, new RNG(1));
    expect([id, logprob]).toEqual([best, 0]);
  });

  test("without truncation nothing is recorded, and with one banned token always the same array", () => {
    const logits = normals(20, 1, new RNG(3));
    const sampler = new TokenSampler(20, { temperature: 1, topK: 20, topP: 1 });
    expect(sampler.draw(logits, new RNG(0)).kept).toBeUndefined();
    const first = sampler.draw(logits, new RNG(0), [4]).kept;
    expect(Array.from(first?.ids() ?? [])).toEqual(all(20).filter((v) => v !== 4));
    expect(sampler.draw(logits, new RNG(1), [4]).kept).toBe(first);
    expect(Array.from(sampler.draw(logits, new RNG(1), [5]).kept?.ids() ?? [])).toEqual(all(20).filter((v) => v !== 5));
  });

  test("logits far apart and a tiny temperature", () => {
    const logits = Float32Array.of(-1e4, 5, 1e4, 4);
    for (const options of [
      { topK: 0, topP: 1 },
      { topK: 3, topP: 1 },
      { topK: 0, topP: 0.9 },
    ]) {
      const { id, logprob } = new TokenSampler(4, { temperature: 1e-3, ...options }).draw(logits, new RNG(0));
      expect([id, logprob]).toEqual([2, 0]);
    }
  });
});

describe("frequencies", () => {
  const DRAWS = 20_000;
  const logits = normals(101, 2, new RNG(7));

  test("the tail of chi-squared", () => {
    // torch.special.gammaincc(df / 2, x / 2)
    expect(tail(100, 161.319)).toBeCloseTo(9.999297945685e-5, 10);
    expect(tail(4, 23.513)).toBeCloseTo(9.998813246388e-5, 10);
    expect(tail(7, 7)).toBeCloseTo(0.428879857553, 10);
    expect(tail(1, 0.5)).toBeCloseTo(0.479500122187, 10);
  });

  test.each([
    { name: "plain", temperature: 1, topK: 0, topP: 1, banned: -1 },
    { name: "temperature 0.7", temperature: 0.7, topK: 0, topP: 1, banned: -1 },
    { name: "temperature 1.3", temperature: 1.3, topK: 0, topP: 1, banned: -1 },
    { name: "top-k", temperature: 1, topK: 12, topP: 1, banned: -1 },
    { name: "top-p", temperature: 1, topK: 0, topP: 0.8, banned: -1 },
    { name: "banned eos", temperature: 1, topK: 0, topP: 1, banned: logits.indexOf(Math.max(...logits)) },
    { name: "all of them", temperature: 1.2, topK: 30, topP: 0.9, banned: logits.indexOf(Math.max(...logits)) },
  ])("$name: as often as the probabilities say", ({ banned, ...options }) => {
    const sampler = new TokenSampler(101, options);
    const rng = new RNG(11, 3);
    const counts = new Array(101).fill(0);
    for (let i = 0; i < DRAWS; i++) counts[sampler.draw(logits, rng, without(banned)).id]++;
    const { p } = exact(logits, options, banned);
    expect(pValue(counts, p)).toBeGreaterThan(1e-4);

    // The same counts do not pass for distributions that are a little wrong.
    const best = p.indexOf(Math.max(...p));
    const raised = p.map((x, v) => (v === best ? 1.2 * x : x));
    const total = raised.reduce((a, b) => a + b);
    const wrong = raised.map((x) => x / total);
    expect(pValue(counts, wrong)).toBeLessThan(1e-4);
    const warmer = exact(logits, { ...options, temperature: 1.1 * options.temperature }, banned).p;
    expect(pValue(counts, warmer)).toBeLessThan(1e-4);
  });
});

describe("errors", () => {
  const good = { temperature: 1, topK: 0, topP: 1 };
  test.each([
    [{ temperature: 0 }, "temperature: found 0, expected a number from 0.0001 to 10000. Fix: correct temperature"],
    [{ temperature: -1 }, "temperature: found -1, expected a number from 0.0001 to 10000. Fix: correct temperature"],
    [
      { temperature: Number.NaN },
      "temperature: found NaN, expected a number from 0.0001 to 10000. Fix: correct temperature",
    ],
    [
      { temperature: Number.POSITIVE_INFINITY },
      "temperature: found Infinity, expected a number from 0.0001 to 10000. Fix: correct temperature",
    ],
    [{ topK: -1 }, "topK: found -1, expected a whole number, 0 for all tokens. Fix: correct topK"],
    [{ topK: 2.5 }, "topK: found 2.5, expected a whole number, 0 for all tokens. Fix: correct topK"],
    [{ topP: 0 }, "topP: found 0, expected a number above 0 and at most 1. Fix: correct topP"],
    [{ topP: 1.01 }, "topP: found 1.01, expected a number above 0 and at most 1. Fix: correct topP"],
    [{ topP: Number.NaN }, "topP: found NaN, expected a number above 0 and at most 1. Fix: correct topP"],
  ])("options %o", (bad, message) => {
    expect(() => new TokenSampler(5, { ...good, ...bad })).toThrow(expect.objectContaining({ kind: "usage", message }));
  });

  const fix = "the weights have gone bad: go back to an earlier checkpoint, lower the learning rate";
  test.each([
    [[Number.NaN, Number.NaN], "a largest logit of -Infinity"],
    [[1, Number.NaN], "NaN"],
    [[1, Number.POSITIVE_INFINITY], "a largest logit of Infinity"],
    [[Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY], "a largest logit of -Infinity"],
  ])("logits %o", (bad, found) => {
    for (const options of [good, { ...good, topK: 2 }, { ...good, topP: 0.5 }]) {
      const message = `logits of the next token: found ${found}, expected finite numbers. Fix: ${fix}`;
      const draw = () => new TokenSampler(4, options).draw(Float32Array.of(...bad, ...bad), new RNG(0));
      expect(draw).toThrow(expect.objectContaining({ kind: "numbers", message }));
    }
  });
});

describe("plain sampling from given probabilities", () => {
  const V = 501;
  const rng = new RNG(12);
  const logits = Float32Array.from({ length: V }, () => 3 * rng.normal());
  const max = logits.reduce((a, x) => Math.max(a, x));
  const sum = logits.reduce((a, x) => a + Math.exp(x - max), 0);
  const probabilities = Float32Array.from(logits, (x) => Math.exp(x - max) / sum);

  test("is the draw that the logits give", () => {
    const sampler = new TokenSampler(V, {});
    for (let seed = 0; seed < 200; seed++) {
      const want = sampler.draw(logits, new RNG(seed));
      const got = sampler.draw(logits, new RNG(seed), [], undefined, probabilities);
      expect(got).toEqual({
        ...want,
        logprob: expect.closeTo(want.logprob, 6),
        rawLogprob: expect.closeTo(want.logprob, 6),
      });
    }
    expect(new TokenSampler(V, {}, false).draw(logits, new RNG(0), [], undefined, probabilities).rawLogprob).toBeNaN();
  });

  const changed: Partial<SamplingOptions>[] = [
    { temperature: 0.5 },
    { topK: 3 },
    { topP: 0.5 },
    { minP: 0.5 },
    { bannedTokens: [logits.indexOf(max)] },
    { forcedTokens: { 0: 7 } },
    { bias: { ids: Int32Array.of(7), values: Float32Array.of(30) } },
  ];
  test.each(changed.map((options) => ({ options })))("is not done with $options", ({ options }) => {
    const sampler = new TokenSampler(V, options);
    const uniform = new Float32Array(V).fill(1 / V); // would be seen at once
    for (let seed = 0; seed < 5; seed++)
      expect(sampler.draw(logits, new RNG(seed), [], undefined, uniform)).toEqual(sampler.draw(logits, new RNG(seed)));
  });

  test("a banned token is not drawn", () => {
    const certain = new Float32Array(V);
    certain[9] = 1;
    expect(new TokenSampler(V, {}).draw(logits, new RNG(0), [9], undefined, certain).id).not.toBe(9);
  });

  test("probabilities that are not numbers are an error", () => {
    const bad = new Float32Array(V).fill(Number.NaN);
    expect(() => new TokenSampler(V, {}).draw(logits, new RNG(0), [], undefined, bad)).toThrow(
      "logits of the next token: found NaN or infinity, expected finite numbers",
    );
  });
});
