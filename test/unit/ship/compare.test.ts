/** @file Two models compared: every number is what the responses themselves say. */
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { builtInRewards } from "../../../src/experience/reward-functions.ts";
import { generate } from "../../../src/sample/generate.ts";
import { type Comparison, compareModels } from "../../../src/ship/compare.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import type { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";
import { root } from "../../support/cli.ts";
import { type Model, smallModel } from "../../support/families.ts";

const prompts = ["This movie is", "I liked", "The plot of this film", "A"];
const options = { maxNewTokens: 6, temperature: 0.8, seed: 4 };
let tokenizer: Tokenizer;
let [a, b]: Model[] = [];
beforeAll(async () => {
  tokenizer = await loadTokenizer(join(root, "models", "tiny"));
  a = smallModel("llama", { vocabSize: 8192, context: 48 }, { seed: 1, threads: 1, tokenizer });
  b = smallModel("llama", { vocabSize: 8192, context: 48 }, { seed: 1, engine: a.engine, tokenizer });
  const head = b.parameters.view("lm_head.weight");
  for (let i = 0; i < head.length; i += 3) head[i] *= 1.3;
});

const compare = (more: object = {}): Promise<Comparison> =>
  compareModels(
    { model: a, tokenizer },
    { model: b, tokenizer },
    { ...options, prompts, reward: builtInRewards.length, ...more },
  );

const mean = (x: readonly number[]) => x.reduce((s, v) => s + v, 0) / x.length;

test("means and paired differences are those of the samples", async () => {
  const { a: first, b: second, difference, samples } = await compare({ num: 2 });
  expect(samples.map(({ prompt }) => prompt)).toEqual(prompts);
  const rewards = (who: "a" | "b") => samples.map((sample) => mean(sample[who].map(({ reward }) => reward)));
  expect(first.reward.mean).toBeCloseTo(mean(rewards("a")), 10);
  expect(second.reward.mean).toBeCloseTo(mean(rewards("b")), 10);
  const apart = rewards("b").map((x, i) => x - rewards("a")[i]);
  const s = Math.sqrt(apart.reduce((sum, x) => sum + (x - mean(apart)) ** 2, 0) / 3 / 4);
  expect(difference.reward.mean).toBeCloseTo(mean(apart), 10);
  expect(difference.reward.standardError).toBeCloseTo(s, 10);
  expect(difference.reward.high - difference.reward.mean).toBeCloseTo(3.182 * s, 1);
  expect(second.distinct2.mean - first.distinct2.mean).toBeCloseTo(difference.distinct2.mean, 10);
  for (const { a: responses } of samples) for (const { length } of responses) expect(length).toBeLessThanOrEqual(6);
});

test("KL is that of the whole distributions at the tokens of the second, by logits of both", async () => {
  const { kl, samples } = await compare();
  let total = 0;
  for (const [i, prompt] of prompts.entries()) {
    const query = tokenizer.encode(prompt);
    const { responses } = await generate(b, [query], { ...options, streams: [[10, i]] });
    const text = tokenizer.decodeAfter(query, responses[0].tokens, { skipSpecialTokens: true });
    expect(samples[i].b[0].text).toBe(text); // its stream is that of evaluations
    const ids = [...query, ...responses[0].tokens];
    const [first, second] = [await a.forward({ inputIds: [ids] }), await b.forward({ inputIds: [ids] })];
    const logs = (logits: Float32Array, t: number) => {
      const row = Array.from(logits.subarray(t * 8192, (t + 1) * 8192), (x, id) =>
        tokenizer.has(id) ? x / options.temperature : Number.NEGATIVE_INFINITY,
      );
      const top = Math.max(...row);
      const sum = Math.log(row.reduce((s, x) => s + Math.exp(x - top), 0)) + top;
      return row.map((x) => x - sum);
    };
    for (let t = query.length - 1; t < ids.length - 1; t++) {
      const [p, q] = [logs(second.logits.data, t), logs(first.logits.data, t)];
      total += p.reduce((s, x, v) => s + (Number.isFinite(x) ? Math.exp(x) * (x - q[v]) : 0), 0);
    }
  }
  expect(kl?.mean).toBeGreaterThan(0.001);
  expect(kl?.mean).toBeCloseTo(total / prompts.length, 4);
});

test("a model beside itself differs in nothing", async () => {
  const { difference, kl } = await compareModels(
    { model: a, tokenizer },
    { model: a, tokenizer },
    { ...options, prompts, reward: builtInRewards.length },
  );
  for (const { mean, low, high } of Object.values(difference)) expect([mean, low, high]).toEqual([0, 0, 0]);
  expect(Math.abs(kl?.mean ?? 1)).toBeLessThan(1e-6);
});

test("other vocabularies have no KL; no prompts are refused; progress counts to the end", async () => {
  const wider = smallModel("qwen2", { vocabSize: 8200, context: 48 }, { seed: 2, threads: 1, tokenizer });
  const heard: string[] = [];
  const onProgress = ({ phase, done, total }: { phase: string; done: number; total: number }) =>
    heard.push(`${phase} ${done}/${total}`);
  const { kl } = await compareModels(
    { model: a, tokenizer },
    { model: wider, tokenizer },
    { ...options, prompts, reward: builtInRewards.length, batchSize: 3, onProgress },
  );
  expect(kl).toBeUndefined();
  expect(heard).toEqual(["a 3/4", "a 4/4", "b 3/4", "b 4/4"]);
  await expect(compare({ prompts: [] })).rejects.toThrow("prompts: found none");
});
