/** @file Honest runs that the audit of 0.1.0 stopped go on, the test is carried along a run, and a gap still ends one. */
import { expect, test } from "vitest";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { packagePath } from "../../src/platform/files.ts";
import { generate } from "../../src/sample/generate.ts";
import { tokenizer } from "../support/ppo.ts";

const tiny = packagePath("models", "tiny");
const newTrainer = async (config: Partial<PPOConfig>) => {
  const model = await GPT2HeadWithValueModel.fromPretrained(tiny, { threads: 2, seed: config.seed });
  return new PPOTrainer({ model, tokenizer, reward: builtInRewards.positive, config });
};
const issue: Partial<PPOConfig> = {
  batchSize: 8,
  miniBatchSize: 8,
  maxNewTokens: 2,
  temperature: 0.3,
  klController: "fixed",
};

// Seed 0 was stopped at step 15 with "mean KL of -0.1191 with a standard error of 0.0000"; the exact KL was +0.167.
test("one prompt, two tokens, temperature 0.3: nothing stops it", async () => {
  const trainer = await newTrainer({ ...issue, steps: 18, seed: 0 });
  const logs: number[] = [];
  for await (const event of trainer.train(["The movie was very"])) {
    expect(event.type).not.toBe("warning");
    if (event.type === "step") logs.push(event.metrics["audit/log_martingale"] as number);
  }
  expect(logs).toHaveLength(18);
  expect(Math.max(...logs)).toBeLessThan(5);
  trainer.model.dispose();
});

test("the test goes on from a saved state, bit for bit, and begins anew when it is reset", async () => {
  const config = { ...issue, steps: 3, seed: 5 };
  const whole = await newTrainer(config);
  for await (const _ of whole.train(["The movie was very"]));
  const state = JSON.parse(JSON.stringify(whole.getState()));
  expect(state.audit.steps).toBe(3);
  const resumed = await newTrainer(config);
  expect(resumed.getState().audit).toBeUndefined();
  resumed.setState(state);
  expect(resumed.getState()).toEqual(whole.getState());
  resumed.resetAudit();
  expect(resumed.getState().audit).toBeUndefined();
  whole.model.dispose();
  resumed.model.dispose();
});

const ENDINGS = ["I recommend it.", "Highly recommended.", "Don't waste your time.", "Not worth seeing."];
// 0.1.0 stopped 38 of 72 such runs, these after 2 to 5 steps: at a low temperature nearly every draw is the common token.
test.each([
  [0.1, ENDINGS, 0],
  [0.15, ENDINGS, 1],
  [0.2, ENDINGS, 3],
  [0.15, ["The movie was very"], 1],
  [0.2, ["The movie was very"], 1],
])("token ids drawn at temperature %d, honestly: nothing stops it", async (temperature, prompts, seed) => {
  const rows = 8;
  const sizes = { batchSize: rows, miniBatchSize: rows, ppoEpochs: 1, maxNewTokens: 4, learningRate: 1e-5 };
  const trainer = await newTrainer({ ...sizes, temperature, seed });
  const queries = Array.from({ length: rows }, (_, i) => tokenizer.encode(prompts[i % prompts.length]));
  for (let step = 1; step <= 6; step++) {
    const streams = queries.map((_, i) => step * rows + i);
    const { responses } = await generate(trainer.model, queries, { maxNewTokens: 4, temperature, streams, seed });
    const scores = responses.map((_, i) => i % 2);
    const given = responses.map(({ tokens }) => tokens);
    const { metrics, warnings } = await trainer.step(queries, given, scores);
    expect(warnings).toEqual([]);
    expect(metrics["audit/log_martingale"]).toBeLessThan(5);
  }
  trainer.model.dispose();
});
