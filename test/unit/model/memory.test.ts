import { expect, it } from "vitest";
import { countParameters, samplingMemory, trainingMemory } from "../../../src/model/memory.ts";
import { gpt2Of } from "../../support/gpt2.ts";

it("counts GPT-2's 124,439,808 parameters and the value head's 769", () => {
  const counts = countParameters(gpt2Of());
  expect(counts.total).toBe(124_439_808 + 769);
  expect(counts.embeddings).toBe((50257 + 1024) * 768);
  expect(counts.embeddings + counts.blocks + counts.head).toBe(counts.total);
});

it("counts a language-model head of its own in the head", () => {
  const [tied, own] = [true, false].map((tieWordEmbeddings) => countParameters(gpt2Of({ tieWordEmbeddings })));
  expect(own.head - tied.head).toBe(50257 * 768);
});

const sizes = {
  rolloutBatchSize: 16,
  miniBatchSize: 8,
  microBatchSize: 0,
  maxNewTokens: 24,
  minNewTokens: 24,
  promptTokens: 32,
  gradientCheckpointing: false,
};

it("adds up to its parts, and training holds five times the weights", () => {
  const config = gpt2Of();
  const sampling = samplingMemory(config, { rows: 16, length: 56 });
  const training = trainingMemory(config, sizes);
  for (const { total, parts } of [sampling, training])
    expect(total).toBeCloseTo(
      Object.values(parts).reduce((a, b) => a + b, 0),
      0,
    );
  const weights = 4 * countParameters(config).total;
  expect(sampling.parts.weights).toBe(weights);
  const { weights: w, gradients, moments, reference } = training.parts;
  expect(w + gradients + moments + reference).toBe(5 * weights);
  // Keys and values: 2 x 12 layers x 768 x 4 bytes = 73,728 bytes a token.
  expect(sampling.parts.cache).toBe(16 * 56 * 73_728);
  // 12 x (3 + 1 + 4 + 4) x 768 x 768 weights.
  expect(sampling.parts.transposed).toBe(4 * 84_934_656);
});

it("frozen layers have no gradients, no moments and no copy: 4 of 12 layers of GPT-2 and its embeddings", () => {
  const { parts } = trainingMemory(gpt2Of(), { ...sizes, frozenLayers: 4 });
  // A block of GPT-2 has 7,087,872 parameters (12 C^2 + 13 C), the last layer norm 1,536, the value head 769.
  const trained = 4 * (8 * 7_087_872 + 1536 + 769);
  expect(parts.gradients).toBe(trained);
  expect(parts.moments).toBe(2 * trained);
  expect(parts.reference).toBe(trained);
});
