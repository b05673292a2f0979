/** @file Decoding with a cache equals the whole forward pass, for every size of an attention head. */
import { afterAll, expect, test } from "vitest";
import { RNG } from "../../src/base/rng.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { llama, makeLlamaConfig } from "../../src/families/llama.ts";
import { newModel } from "../../src/model/load.ts";
import { CausalLMWithValueHead } from "../../src/model/model.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import type { Model } from "../support/families.ts";
import { maxDifference } from "../support/golden.ts";
import { worst } from "../support/worst.ts";

const measured = worst("head sizes");
afterAll(() => measured.print());

const V = 29;
const shared = { vocabSize: V, initializerRange: 0.2 };

/** A GPT-2 with H heads of D numbers. */
const gpt2Of = (D: number, nHead: number): Model =>
  GPT2HeadWithValueModel.fromConfig(
    makeConfig({ ...shared, nPositions: 24, nEmbd: D * nHead, nHead, nLayer: 2, scaleAttnByInverseLayerIdx: true }),
    { threads: 1, seed: D },
  ) as unknown as Model;

/** A Llama of width 24 with H query heads, K key-value heads of D numbers. */
function llamaOf(D: number, numAttentionHeads: number, numKeyValueHeads: number): Model {
  const config = makeLlamaConfig({
    ...{ ...shared, maxPositionEmbeddings: 24, hiddenSize: 24, intermediateSize: 20, numHiddenLayers: 2 },
    ...{ headDim: D, numAttentionHeads, numKeyValueHeads },
  });
  const options = { threads: 1, seed: D };
  return new CausalLMWithValueHead(newModel(llama, config, options), options) as unknown as Model;
}

test.each([
  ...[
    [1, 3],
    [3, 2],
    [4, 2],
    [5, 3],
    [8, 3],
    [16, 2],
    [20, 1],
    [64, 2],
    [80, 2],
  ].map(([D, H]) => [`GPT-2, head size ${D}, ${H} heads`, D, () => gpt2Of(D, H)] as const),
  ...[
    [2, 4, 1],
    [4, 6, 3],
    [8, 2, 2],
    [10, 3, 1],
    [16, 4, 2],
    [64, 2, 1],
    [128, 2, 1],
  ].map(([D, H, K]) => [`Llama, head size ${D}, ${H} heads, ${K} of keys`, D, () => llamaOf(D, H, K)] as const),
])("%s", async (_, D, make) => {
  const model = make();
  const rng = new RNG(D);
  const rows = [9, 4, 1].map((length) => Int32Array.from({ length: length + 12 }, () => rng.int(V)));
  const prompts = rows.map((row) => row.slice(0, row.length - 12));
  const whole = await Promise.all(rows.map((row) => model.forward({ inputIds: [row] })));
  const decoder = new Decoder(model, rows.length, 21);
  await decoder.prefill(prompts);
  for (let step = 0; ; step++) {
    rows.forEach((_, b) => {
      const t = prompts[b].length - 1 + step;
      const want = whole[b].logits.data.subarray(t * V, (t + 1) * V);
      const logits = maxDifference(decoder.logits.subarray(b * V, (b + 1) * V), want);
      const values = Math.abs(decoder.values[b] - whole[b].values.data[t]);
      measured.add("logits", logits);
      measured.add("values", values);
      expect(logits).toBeLessThan(1e-4);
      expect(values).toBeLessThan(1e-4);
    });
    if (step === 12) break;
    await decoder.step(Int32Array.from(rows, (row, b) => row[prompts[b].length + step]));
  }
  decoder.release();
  model.dispose();
});
