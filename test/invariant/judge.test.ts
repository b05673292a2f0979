/** @file What a reward function is shown in a run is what was sampled, special tokens and ends of text in the middle included. */
import { expect, test } from "vitest";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import type { RewardSample } from "../../src/experience/sample.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { tokenizer } from "../support/ppo.ts";

const END = tokenizer.eosTokenId as number;

test("an end of text in the middle, with stopAtEos off", async () => {
  const shape = { vocabSize: tokenizer.vocabSize, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 32, eosTokenId: END };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { seed: 1, threads: 1 });
  const seen: RewardSample[] = [];
  const reward = (batch: RewardSample[]) => {
    seen.push(...batch);
    return batch.map(() => 1);
  };
  const forced = { kind: "adjust", name: "ends", dependsOnTokens: false } as const;
  const bias = () => ({ ids: Int32Array.of(END), values: Float32Array.of(9) }); // about as likely as all others together
  const config = { steps: 1, batchSize: 4, miniBatchSize: 4, maxNewTokens: 6, stopAtEos: false, ppoEpochs: 1 };
  const trainer = new PPOTrainer({ model, tokenizer, reward, config, transforms: [{ ...forced, bias }] });
  for await (const event of trainer.train(["A film"])) if (event.type === "step") expect(event.samples).toHaveLength(4);
  model.dispose();
  expect(seen.map(({ tokens }) => tokens.length)).toEqual([6, 6, 6, 6]);
  const middle = seen.filter(({ tokens }) => tokens.slice(0, -1).includes(END));
  expect(middle.length).toBeGreaterThan(0);
  for (const sample of seen) {
    const ends = sample.tokens.filter((id) => id === END).length;
    expect(sample.responseWithSpecialTokens.split("<|endoftext|>")).toHaveLength(ends + 1);
    expect(sample.response).not.toContain("<|endoftext|>");
    expect(sample.promptTokens).toEqual(Array.from(tokenizer.encode("A film")));
    expect(sample.textWithSpecialTokens).toBe(`A film${sample.responseWithSpecialTokens}`);
  }
});
