/** @file The estimators of the KL against the KL itself, over the vocabulary, under every kind of sampling. */
import { afterAll, describe, expect, test } from "vitest";
import { RNG } from "../../src/base/rng.ts";
import { ask } from "../../src/experience/ask.ts";
import { experience } from "../../src/experience/experience.ts";
import { scoreReference } from "../../src/experience/reference.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { klEstimates, meanAndStandardError } from "../../src/rl/kl.ts";
import { generate, type Rollout } from "../../src/sample/generate.ts";
import type { SamplingOptions } from "../../src/sample/token-sampler.ts";
import { maxDifference, tinyDir } from "../support/golden.ts";

const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 2 });
const V = model.config.vocabSize;
const reference = model.frozenCopy();
const rng = new RNG(17);
for (let i = 0; i < reference.parameters.data.length; i++) reference.parameters.data[i] *= 1 + 0.15 * rng.normal();
const queries = Array.from({ length: 64 }, (_, b) => Int32Array.from({ length: 1 + (b % 5) }, () => rng.int(V)));
const MAX = 12;

afterAll(() => model.dispose());

const grid: Partial<SamplingOptions>[] = [
  {},
  { temperature: 0.7 },
  { topP: 0.8 },
  { temperature: 1.2, topK: 20, minP: 0.02, repetitionPenalty: 1.2, bannedTokens: [1, 2, 3] },
  { repetitionPenalty: 0.9, bias: { ids: Int32Array.of(4, 60), values: Float32Array.of(2, -1) } },
];

/** log p [V] in float64 the naive way, from the logits of a whole forward pass. -Infinity for what is not kept. */
async function naive(of: GPT2HeadWithValueModel, sequence: number[], place: number, rollout: Rollout, b: number) {
  const { adjustments, queries, responses } = rollout;
  const t = place - queries[b].length;
  const { logits } = await of.forward({ inputIds: [sequence] });
  const z = Array.from(logits.data.subarray((place - 1) * V, place * V));
  const context = { prompt: queries[b], response: responses[b].tokens.subarray(0, t) };
  const p = adjustments.repetitionPenalty;
  const adjustment = adjustments.at(context);
  for (const id of adjustment?.penalised ?? []) z[id] = z[id] > 0 ? z[id] / p : z[id] * p;
  for (const { ids, values } of adjustment?.biases ?? [])
    ids.forEach((id, i) => {
      z[id] += values[i];
    });
  const kept = responses[b].kept[t];
  const tempered = z.map((x, v) => (kept && !kept.has(v) ? Number.NEGATIVE_INFINITY : x / adjustments.temperature));
  const max = Math.max(...tempered);
  const logTotal = Math.log(tempered.reduce((sum, x) => sum + Math.exp(x - max), 0));
  return tempered.map((x) => x - max - logTotal);
}

describe.each(grid)("sampled with %o", (sampling) => {
  const rollouts = Promise.all(
    [1, 2, 3, 4, 5, 6, 7, 8].map((seed) =>
      generate(model, queries, { ...sampling, maxNewTokens: MAX, eosTokenId: null, seed }),
    ),
  );

  test("the exact KL is the naive sum over the vocabulary, and so are the log-probs", async () => {
    const rollout = (await rollouts)[0];
    const data = experience([rollout]);
    const rows = [0, 7, 33];
    const { asked, index } = ask(data, rows, model.config.nPositions, rollout.adjustments);
    const got = await model.exactKl(asked, reference);
    for (let i = 0; i < index.length; i += 5) {
      const [b, t] = [Math.floor(index[i] / MAX), index[i] % MAX];
      const sequence = [...rollout.queries[b], ...rollout.responses[b].tokens];
      const place = rollout.queries[b].length + t;
      const p = await naive(model, sequence, place, rollout, b);
      const q = await naive(reference, sequence, place, rollout, b);
      const id = rollout.responses[b].tokens[t];
      const kl = p.reduce((sum, x, v) => (x > Number.NEGATIVE_INFINITY ? sum + Math.exp(x) * (x - q[v]) : sum), 0);
      expect(Math.abs(got.kl[i] - kl)).toBeLessThan(1e-4);
      expect(Math.abs(got.logprobs[i] - p[id])).toBeLessThan(1e-4);
      expect(Math.abs(got.refLogprobs[i] - q[id])).toBeLessThan(1e-4);
      expect(kl).toBeGreaterThan(0);
    }
  });

  test("means of k1 and k3 agree with it within 4 standard errors, per token and per sequence; k2 is near", async () => {
    const data = experience(await rollouts);
    const passes = { adjustments: (await rollouts)[0].adjustments, partSize: 64 };
    const { refLogprobs, exactKl } = await scoreReference(model, reference, data, passes, true);
    const plain = await scoreReference(model, reference, data, passes, false);
    expect(plain.exactKl).toBeUndefined();
    expect(maxDifference(plain.refLogprobs, refLogprobs)).toBeLessThan(1e-5);
    const kl = klEstimates(data.logprobs, refLogprobs, data.batch, exactKl);
    const { exact } = kl;
    if (!exact) throw new Error("no exact KL");
    expect(exact.mean).toBeGreaterThan(20 * 1e-4 * MAX); // the models differ
    expect(exact.perToken.every((x) => x > -1e-5)).toBe(true);
    expect(exact.standardError).toBeLessThan(kl.k1.standardError); // less noise: that is what it costs a head for
    for (const estimate of [kl.k1, kl.k3]) {
      for (const over of ["perToken", "perSequence"] as const) {
        // Given the tokens before, the exact KL is the mean of the estimate: the difference has mean 0.
        const gap = meanAndStandardError(estimate[over].map((x, i) => x - exact[over][i]));
        expect(Math.abs(gap.mean)).toBeLessThan(4 * gap.standardError);
        expect(gap.standardError).toBeLessThan(exact.mean / (over === "perToken" ? MAX : 1) / 4); // the test has power
      }
    }
    expect(kl.k2.mean / exact.mean).toBeGreaterThan(0.5);
    expect(kl.k2.mean / exact.mean).toBeLessThan(2);
  });
});

test("a truncated distribution scored over all tokens biases k1: the test above would see it", async () => {
  const rollout = await generate(model, queries, { topP: 0.8, maxNewTokens: MAX, eosTokenId: null });
  const data = experience([rollout]);
  const bare = experience([rollout], false);
  const passes = { adjustments: rollout.adjustments, partSize: 64 };
  const { exactKl } = await scoreReference(model, reference, data, passes, true);
  const { refLogprobs } = await scoreReference(model, reference, bare, passes, false);
  const kl = klEstimates(data.logprobs, refLogprobs, data.batch, exactKl);
  const gap = meanAndStandardError(kl.k1.perToken.map((x, i) => x - (kl.exact?.perToken[i] as number)));
  expect(gap.mean).toBeGreaterThan(4 * gap.standardError);
});

test("vocabularies that differ are refused", async () => {
  const other = GPT2HeadWithValueModel.fromConfig({ ...model.config, vocabSize: 50 }, { engine: model.engine });
  const rollout = await generate(model, queries.slice(0, 1), { maxNewTokens: 2, eosTokenId: null });
  const { asked } = ask(experience([rollout]), [0], 48, rollout.adjustments);
  await expect(model.exactKl(asked, other)).rejects.toThrow(
    "reference model: found a vocabulary of 50, expected 101, as the policy's. Fix: use a reference with the same tokenizer",
  );
});

test("a reference of another size and kind has its own head", async () => {
  const config = { ...model.config, nEmbd: 16, nHead: 2, nInner: 32, tieWordEmbeddings: false };
  const other = GPT2HeadWithValueModel.fromConfig({ ...config, initializerRange: 0.3 }, { engine: model.engine });
  const rollout = await generate(model, queries.slice(0, 4), { maxNewTokens: 5, eosTokenId: null });
  const { asked } = ask(experience([rollout]), [0, 1, 2, 3], 48, rollout.adjustments);
  const { refLogprobs, kl } = await model.exactKl(asked, other);
  expect(maxDifference(refLogprobs, (await other.score(asked)).logprobs)).toBeLessThan(1e-5);
  expect(kl.every((x) => x > 0)).toBe(true);
});
