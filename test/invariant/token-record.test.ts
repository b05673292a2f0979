/** @file The numbers of a sample's tokens, which the page shows, are those that its step learned from. */
import { expect, test } from "vitest";
import type { Sample } from "../../src/algorithms/events.ts";
import type { RewardFunction } from "../../src/experience/reward-functions.ts";
import type { CausalLMWithValueHead } from "../../src/model/model.ts";
import { algorithms, copies } from "../support/algorithms.ts";
import { smallModel } from "../support/families.ts";
import { tokenizer } from "../support/ppo.ts";

const prompts = ["This movie", "The acting in this film was"];
const open = (seed: number) => smallModel("gpt2", { vocabSize: 8192, context: 48 }, { threads: 1, seed });
const reward: RewardFunction = (batch) => batch.map(({ tokens }) => (tokens[0] % 7) / 3);
const config = { steps: 1, batchSize: 8, miniBatchSize: 8, rolloutBatchSize: 8, logSamples: 8, learningRate: 1e-4 };
const klCoef = 0.3;

/** One step with so many epochs: its samples, and the model after it. */
async function step(algorithm: (typeof algorithms)[number], epochs: number) {
  const [model, reference] = [open(5), open(6)];
  const options = { ...config, epochs, klCoef };
  const trainer = algorithm.make({ model, reference, reward, config: options });
  const samples: Sample[] = [];
  for await (const event of trainer.train(prompts)) if (event.type === "step") samples.push(...event.samples);
  return { samples, model };
}

/** What a model says of a sample's tokens. */
function said(model: CausalLMWithValueHead, { prompt, tokens }: Sample) {
  const query = tokenizer.encode(prompt);
  const ids = Int32Array.of(...query, ...tokens);
  const rows = Int32Array.from(tokens, (_, t) => query.length - 1 + t);
  const asked = {
    tokens: { ids, B: 1, T: ids.length },
    rows,
    ids: Int32Array.from(tokens),
    distribution: { temperature: 1 },
  };
  return model.score(asked);
}

const near = (found: ArrayLike<number>, expected: ArrayLike<number>, bound = 1e-3) => {
  expect(found).toHaveLength(expected.length);
  Array.from(found, (x, i) => expect(Math.abs(x - expected[i])).toBeLessThan(bound));
};

test.each(algorithms.map((algorithm) => [algorithm.name, algorithm] as const))("%s", async (name, algorithm) => {
  const { samples } = await step(algorithm, 2);
  const { model: afterOne } = await step(algorithm, 1);
  expect(samples).toHaveLength(8);
  const [before, reference] = [open(5), open(6)];
  for (const sample of samples) {
    const old = await said(before, sample);
    near(sample.logprobs, old.logprobs);
    const refLogprobs = sample.refLogprobs ?? [];
    near(refLogprobs, (await said(reference, sample)).logprobs);
    expect(sample.pieces.join("")).toBe(sample.responseWithSpecialTokens);
    expect(sample.promptPieces.join("")).toBe(sample.prompt);
    // The last epoch came when one update was made.
    const now = (await said(afterOne, sample)).logprobs;
    near(
      sample.ratios,
      now.map((x, t) => Math.exp(x - old.logprobs[t])),
      2e-3,
    );
    expect(Math.max(...sample.ratios.map((ratio) => Math.abs(ratio - 1)))).toBeGreaterThan(5e-3);
    if (name !== "ppo") continue;
    near(sample.values, old.values);
    const last = sample.tokens.length - 1;
    near(
      sample.rewards ?? [],
      sample.logprobs.map((x, t) => -klCoef * (x - refLogprobs[t]) + (t === last ? sample.score : 0)),
    );
  }
  if (name !== "rloo") return;
  const total = samples.map(({ score, logprobs, refLogprobs = [] }) =>
    logprobs.reduce((sum, x, t) => sum - klCoef * (x - refLogprobs[t]), score),
  );
  samples.forEach(({ advantages, tokens, prompt }, b) => {
    const group = total.filter((_, i) => samples[i].prompt === prompt);
    expect(group).toHaveLength(copies);
    const others = (group.reduce((sum, x) => sum + x, 0) - total[b]) / (copies - 1);
    near(
      advantages,
      tokens.map(() => total[b] - others),
      2e-2,
    );
  });
});
