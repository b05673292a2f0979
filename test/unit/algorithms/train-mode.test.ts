/** @file PPO refuses a model whose dropout is on. */
import { expect, test } from "vitest";
import { PPOTrainer } from "../../../src/algorithms/ppo.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { packagePath } from "../../../src/platform/files.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";

const tokenizer = await loadTokenizer(packagePath("models", "tiny"));
const message =
  "PPOTrainer, model: found a model in train mode, expected eval mode: PPO compares with earlier values, and with dropout " +
  "the same weights do not give them again. Fix: call model.eval()";

test("PPO refuses a model in train mode, when it is given and at every step", async () => {
  const config = makeConfig({ vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 32, eosTokenId: 8191 });
  const model = GPT2HeadWithValueModel.fromConfig(config, { threads: 1 });
  const trainer = () =>
    new PPOTrainer({
      model,
      tokenizer,
      reward: () => [0, 1],
      config: { steps: 1, batchSize: 2, miniBatchSize: 2, maxNewTokens: 2 },
    });
  model.train();
  expect(trainer).toThrow(message);
  model.eval();
  const made = trainer();
  model.train();
  await expect(made.train(["This movie", "I"]).next()).rejects.toThrow(message);
  model.eval();
  const events = [];
  for await (const event of made.train(["This movie", "I"])) events.push(event.type);
  expect(events.at(-1)).toBe("done");
  model.dispose();
});
