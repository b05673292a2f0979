/** @file A run does not grow. The long form, with resident memory and the embedded model, is `npm run memory-test`. */
import v8 from "node:v8";
import vm from "node:vm";
import { expect, test } from "vitest";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { packagePath } from "../../src/platform/files.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";

v8.setFlagsFromString("--expose-gc");
const collectGarbage = vm.runInNewContext("gc") as () => void;

test("what JavaScript holds after 30 steps is what it held after 10", async () => {
  const shape = { vocabSize: 8192, nEmbd: 16, nLayer: 2, nHead: 2, nPositions: 48, bosTokenId: 8191, eosTokenId: 8191 };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { threads: 1, seed: 5 });
  const tokenizer = await loadTokenizer(packagePath("models", "tiny"));
  const config = {
    steps: 30,
    batchSize: 4,
    miniBatchSize: 2,
    ppoEpochs: 2,
    maxNewTokens: 8,
    seed: 3,
  };
  const trainer = new PPOTrainer({ model, tokenizer, reward: builtInRewards.length, config });
  const held: Record<number, { buffers: number; heap: number }> = {};
  for await (const event of trainer.train(["This movie", "The acting in this film was", "I"])) {
    if (event.type !== "step" || event.step % 10 !== 0) continue;
    collectGarbage();
    collectGarbage(); // buffers are freed by finalizers of the first
    const { arrayBuffers, heapUsed } = process.memoryUsage();
    held[event.step] = { buffers: arrayBuffers, heap: heapUsed };
  }
  model.dispose();
  // One sequence length that was not seen before is a buffer of B T C floats: 24 kB here, and pooled.
  expect(held[30].buffers - held[10].buffers).toBeLessThan(0.02 * held[10].buffers);
  expect(held[30].heap - held[10].heap).toBeLessThan(0.05 * held[10].heap);
});
