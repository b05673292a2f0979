/** @file A finite reward that makes other numbers overflow is named; other causes are not blamed on rewards. */
import { expect, test } from "vitest";
import { PPOTrainer } from "../../../src/algorithms/ppo.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { small, tokenizer, trainSmall } from "../../support/ppo.ts";

const shape = { vocabSize: tokenizer.vocabSize, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 32, eosTokenId: 8191 };
const newModel = () => GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { seed: 1, threads: 1 });
const train = (size: number, config = {}) =>
  trainSmall(newModel(), ["One film"], { ...small, steps: 1, ...config }, (batch) =>
    batch.map((_, i) => (i === 2 ? size : i)),
  ).then(
    () => "done",
    (error: Error) => error.message,
  );

test.each([1e20, -1e20, 1e38, 3e38])("a reward of %d", async (size) => {
  const message = await train(size);
  expect(message).toContain(`found a reward of ${size} for response `);
  expect(message).toMatch(/\(prompt "One film", response ".*"\), which leads to /);
  expect(message).toMatch(/Fix: scale the reward down or set scoreClip; learningRate does not help$/);
});

test("clipped, it is no trouble", async () => {
  expect(await train(1e20, { scoreClip: 5 })).toBe("done");
});

test("weights that have gone bad are not blamed on the reward", async () => {
  const model = newModel();
  const config = { ...small, steps: 1 };
  const trainer = new PPOTrainer({ model, tokenizer, config, reward: (batch) => batch.map(() => 3) });
  model.parameters.view("v_head.summary.bias")[0] = Number.NaN;
  const run = async () => {
    for await (const _ of trainer.train(["One film"]));
  };
  await expect(run()).rejects.toThrow(/found NaN in values/);
});
