/** @file Responses sampled by the caller: a step on them is a step of `train`, and one that cannot be a draw is found. */
import { expect, test } from "vitest";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { PromptSampler } from "../../src/data/prompts.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { packagePath } from "../../src/platform/files.ts";
import { type GenerateOptions, generate, type SampledResponse } from "../../src/sample/generate.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";

const tiny = packagePath("models", "tiny");
const tokenizer = await loadTokenizer(tiny);
const reward = builtInRewards.length;
const scoresOf = async (responses: readonly SampledResponse[]) =>
  await reward(responses.map((r) => ({ prompt: "", response: tokenizer.decode(r.tokens), text: "", row: {} })));

test("a step on what generate returned is the step that train takes", async () => {
  const prompts = ["This movie", "The acting in this film was", "I", "Well"];
  const config = { steps: 1, batchSize: 6, miniBatchSize: 4, maxNewTokens: 9, topP: 0.7, learningRate: 1e-3, seed: 4 };
  const newTrainer = () => {
    const shape = { vocabSize: 8192, nEmbd: 16, nLayer: 1, nHead: 2, nPositions: 32, eosTokenId: 8191 };
    const model = GPT2HeadWithValueModel.fromConfig(makeConfig({ ...shape, initializerRange: 0.2 }), { seed: 5 });
    return new PPOTrainer({ model, tokenizer, reward, config });
  };
  const trained = newTrainer();
  const before = trained.model.parameters.data.slice();
  for await (const event of trained.train(prompts)) expect(event.type).not.toBe("warning");

  const stepped = newTrainer();
  const chosen = Array.from(new PromptSampler(prompts.length, config.seed).next(config.batchSize));
  const queries = chosen.map((i) => tokenizer.encode(prompts[i]));
  const options = { ...stepped.sampling(), seed: config.seed };
  const { responses } = await generate(stepped.model, queries, options);
  const result = await stepped.step(queries, responses, await scoresOf(responses));
  expect(result).toMatchObject({ type: "step", step: 1, warnings: [] });
  expect(result.samples[0].prompt).toBe(prompts[chosen[0]]);
  const weights = trained.model.parameters.data;
  expect(stepped.model.parameters.data.every((w, i) => w === weights[i])).toBe(true);
  expect(weights.every((w, i) => w === before[i])).toBe(false);
});

/** The last words of a review: the embedded model ends the text soon after them, or writes on. */
const PROMPTS = ["I recommend it.", "Highly recommended.", "Don't waste your time.", "Not worth seeing."];
const ROWS = 64;
const NEW_TOKENS = 16;

/** Up to 3 steps of sampling, passing on token ids alone, and learning. */
async function threeSteps(
  sampling: Partial<GenerateOptions>,
  change = (tokens: Int32Array, _eos: number) => tokens,
  config: Partial<PPOConfig> = {},
) {
  const model = await GPT2HeadWithValueModel.fromPretrained(tiny, { threads: 2 });
  const options = { batchSize: ROWS, miniBatchSize: ROWS, ppoEpochs: 1, maxNewTokens: NEW_TOKENS, learningRate: 1e-4 };
  const trainer = new PPOTrainer({ model, tokenizer, reward, config: { ...options, ...config } });
  const queries = Array.from({ length: ROWS }, (_, i) => tokenizer.encode(PROMPTS[i % PROMPTS.length]));
  try {
    for (let step = 0; step < 3; step++) {
      const streams = queries.map((_, i) => step * ROWS + i);
      const asked = { maxNewTokens: NEW_TOKENS, temperature: config.temperature, streams, ...sampling };
      const { responses } = await generate(model, queries, asked);
      const given = responses.map((r) => change(r.tokens, tokenizer.eosTokenId as number));
      await trainer.step(queries, given, await scoresOf(responses));
    }
  } finally {
    model.dispose();
  }
}

test.each([{}, { temperature: 0.7 }])("draws from the whole policy pass, with %o", async (config) => {
  await threeSteps({}, undefined, config);
});

test.each([
  ["padding after the end of text", {}, /\d+ tokens counted after the end of text \(response \d+, token \d+\)/],
  ["padding where nothing ends a response", {}, /\d+ ends of text where about .* were due.*padding does/, false],
  ["a minimum length", { minNewTokens: NEW_TOKENS }, /; in this one 0 ends of text where .*banned when sampling/],
  ["top-p", { topP: 0.95 }, /surprise is \d\.\d+ nats below the entropy.* Fix: they are likelier/],
  ["top-k", { topK: 50 }, /surprise is \d\.\d+ nats below the entropy.* Fix: they are likelier/],
  ["a lower temperature", { temperature: 0.9 }, /surprise is \d\.\d+ nats below the entropy.* Fix: they are likelier/],
  [
    "a higher temperature",
    { temperature: 1.1 },
    /surprise is \d\.\d+ nats above the entropy.* Fix: they are less likely/,
  ],
])(
  "%s, not scored as it was sampled, stops the run within 3 steps",
  async (gap, sampling, message, stopAtEos = true) => {
    const pad = (tokens: Int32Array, eos: number) => {
      const padded = new Int32Array(NEW_TOKENS).fill(eos);
      padded.set(tokens);
      return padded;
    };
    const given = gap.startsWith("padding") ? pad : undefined;
    await expect(threeSteps(sampling, given, { stopAtEos })).rejects.toThrow(message);
  },
);

test.each([
  ["not as many scores", [Int32Array.of(1)], [Int32Array.of(2)], [], "step: found 1 queries, 1 responses and 0 scores"],
  ["nothing at all", [], [], [], "step: found 0 queries, 0 responses and 0 scores"],
  ["an empty response", [Int32Array.of(1)], [new Int32Array(0)], [1], "step, response 0: found no tokens"],
  ["a score that is not a number", [Int32Array.of(1)], [Int32Array.of(2)], [Number.NaN], "step, score 0: found NaN"],
])("%s is refused", async (_, queries, responses, scores, message) => {
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig({ vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1 }));
  const trainer = new PPOTrainer({ model, tokenizer, reward });
  await expect(trainer.step(queries, responses, scores)).rejects.toThrow(message);
});
