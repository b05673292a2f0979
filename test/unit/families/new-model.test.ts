/** @file New models of every family from a config. */
import { expect, test } from "vitest";
import { type GPT2Config, makeConfig } from "../../../src/families/gpt2.ts";
import { modelFromConfig } from "../../../src/families/index.ts";
import { makeLlamaConfig } from "../../../src/families/llama.ts";

const shape = {
  vocabSize: 50,
  hiddenSize: 16,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  numKeyValueHeads: 2,
  intermediateSize: 24,
};
const configs = [
  makeConfig({ vocabSize: 50, nPositions: 16, nEmbd: 16, nLayer: 1, nHead: 2 }),
  ...(["llama", "qwen2", "qwen3"] as const).map((modelType) =>
    makeLlamaConfig({ modelType, maxPositionEmbeddings: 16, ...shape }),
  ),
];

test.each(configs.map((config) => [config.modelType, config] as const))(
  "%s: weights by the seed",
  async (_, config) => {
    const [one, same, other] = [1, 1, 2].map((seed) => modelFromConfig(config, { seed, threads: 1 }));
    expect(one.config).toBe(config);
    expect(same.parameters.data).toEqual(one.parameters.data);
    expect(other.parameters.data).not.toEqual(one.parameters.data);
    const embedding = one.getOutputEmbeddings().data;
    const deviation = Math.sqrt(embedding.reduce((sum, x) => sum + x * x, 0) / embedding.length);
    expect(deviation / config.initializerRange).toBeCloseTo(1, 0); // transformers: N(0, initializer_range)
    const { logits, values } = await one.forward({ inputIds: [[1, 2, 3]] });
    expect([logits.shape, values.shape]).toEqual([
      [1, 3, 50],
      [1, 3],
    ]);
    for (const model of [one, same, other]) model.dispose();
  },
);

test("a config of no family is refused", () => {
  const config = { ...configs[0], modelType: "mistral" } as unknown as GPT2Config;
  expect(() => modelFromConfig(config)).toThrow(
    /modelFromConfig: found model_type = "mistral", expected one of "gpt2"/,
  );
});
