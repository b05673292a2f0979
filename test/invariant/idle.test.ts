/** @file Runs in which nothing can be learned say so, once. */
import { expect, test } from "vitest";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { builtInRewards, type RewardFunction } from "../../src/experience/reward-functions.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { small, tokenizer } from "../support/ppo.ts";

const shape = {
  vocabSize: 8192,
  nEmbd: 16,
  nLayer: 1,
  nHead: 2,
  nPositions: 48,
  eosTokenId: 8191,
  initializerRange: 0.2,
};

async function remarks(config: Partial<PPOConfig>, reward: RewardFunction = builtInRewards.length) {
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { threads: 2, seed: 5 });
  const trainer = new PPOTrainer({ model, tokenizer, reward, config: { ...small, steps: 3, ...config } });
  const said: string[] = [];
  for await (const event of trainer.train(["This movie", "The acting"]))
    if (event.type === "warning" || event.type === "note") said.push(event.message);
  model.dispose();
  return said;
}
const constant: RewardFunction = (batch) => batch.map(() => 0.5);

test.each<[string, Partial<PPOConfig>, RewardFunction, RegExp[]]>([
  ["an ordinary run", {}, builtInRewards.length, []],
  ["topK 1", { topK: 1 }, builtInRewards.length, [/^every token had probability 1/]],
  ["a tiny topP", { topP: 1e-9 }, builtInRewards.length, [/^every token had probability 1/]],
  [
    "one token a batch",
    { batchSize: 1, miniBatchSize: 1, maxNewTokens: 1 },
    constant,
    [/a single number less its mean/],
  ],
  [
    "equal scores, no values, no KL, one token each",
    { maxNewTokens: 1, klCoef: 0, vfCoef: 0, valueHeadInit: "zero" },
    constant,
    [/^all advantages are 0.*all 8 scores are 0\.5/],
  ],
  ["a reward that is always the same", {}, constant, [/^all 16 scores so far are 0\.5/]],
  ["a learning rate of 0", { learningRate: 0 }, builtInRewards.length, [/^learningRate is 0/]],
  ["one that float32 cannot hold", { learningRate: 1e-14 }, builtInRewards.length, [/too small for float32/]],
])("%s", async (_, config, reward, messages) => {
  const said = await remarks(config, reward);
  expect(said).toHaveLength(messages.length);
  messages.forEach((message, i) => {
    expect(said[i]).toMatch(message);
  });
});
