import { describe, expect, it, test } from "vitest";
import { ppoConfig } from "../../../src/algorithms/options/config.ts";
import type { PPOConfig } from "../../../src/algorithms/options/ppo-options.ts";
import { type SFTConfig, sftConfig } from "../../../src/algorithms/options/sft-options.ts";
import { PPOTrainer } from "../../../src/algorithms/ppo.ts";
import { SFTTrainer } from "../../../src/algorithms/sft.ts";
import type { Engine } from "../../../src/backend/engine.ts";
import { tokenizeCorpus } from "../../../src/data/corpus.ts";
import { HELD_OUT_SCORED } from "../../../src/data/packing.ts";
import { builtInRewards } from "../../../src/experience/reward-functions.ts";
import { type GPT2Config, makeConfig } from "../../../src/families/gpt2.ts";
import { modelFromConfig } from "../../../src/families/index.ts";
import { type LlamaConfig, makeLlamaConfig } from "../../../src/families/llama.ts";
import { writeOnnx } from "../../../src/graph/onnx.ts";
import { workingBytes } from "../../../src/graph/work.ts";
import type { LoRAConfig } from "../../../src/model/adapter.ts";
import { countParameters, pretrainingMemory } from "../../../src/model/memory.ts";
import type { CausalLMWithValueHead } from "../../../src/model/model.ts";
import { packagePath } from "../../../src/platform/files.ts";
import { checkMemory, fittingOptions, runMemory } from "../../../src/run/memory.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { gpt2Of } from "../../support/gpt2.ts";

const tokenizer = await loadTokenizer(packagePath("models", "tiny"));

/** Bytes that all different programs an engine compiles from now on work with, but for those that sample. */
function programsOf(engine: Engine): () => number {
  const seen = new Map<string, { name: string; bytes: number }>();
  const compile = engine.compile.bind(engine);
  engine.compile = (program) => {
    const { name, bytes } = writeOnnx(program);
    seen.set(Buffer.from(bytes).toString("latin1"), { name, bytes: workingBytes(program) });
    return compile(program);
  };
  const sampling = /^(cached|logits|int8)/;
  return () => [...seen.values()].reduce((sum, { name, bytes }) => sum + (sampling.test(name) ? 0 : bytes), 0);
}

describe("the working memory of a step", () => {
  const shape = { vocabSize: 8192, nEmbd: 32, nLayer: 2, nHead: 4, nInner: 128, nPositions: 160 };
  const words = "This film was not what ".repeat(30);
  const base = {
    steps: 1,
    ppoEpochs: 1,
    batchSize: 4,
    miniBatchSize: 4,
    maxNewTokens: 8,
    minNewTokens: 8,
    audit: "off",
  };
  const llama = {
    modelType: "qwen3",
    hiddenSize: 64,
    numHiddenLayers: 3,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
  } as const;
  const qwen3 = { ...llama, headDim: 24, intermediateSize: 200, maxPositionEmbeddings: 160 };
  const lora = { rank: 4, alpha: 8 };
  const free = { klLog: "none", klCoef: 0 } as const;
  const cases: [string, object, Partial<PPOConfig>, number, Partial<LoRAConfig>?][] = [
    ["short", {}, {}, 8],
    ["long: attention is what counts", {}, {}, 120],
    ["long and recomputed", {}, { gradientCheckpointing: true }, 120],
    ["recomputed", { nEmbd: 128, nInner: 512 }, { gradientCheckpointing: true }, 24],
    ["micro-batches", { nEmbd: 128, nInner: 512 }, { microBatchSize: 1 }, 24],
    ["micro-batches, sampled in int8 and scored again", {}, { microBatchSize: 1, rolloutPrecision: "int8" }, 24],
    ["micro-batches, a value model of its own", {}, { microBatchSize: 1, valueModel: "separate" }, 24],
    ["several chunks of a large vocabulary", { vocabSize: 300_000 }, { miniBatchSize: 8, batchSize: 8 }, 8],
    ["exact KL", {}, { klLog: "exact" }, 8],
    ["no reference", {}, free, 24],
    ["no reference, sampled in int8 and scored again", {}, { ...free, rolloutPrecision: "int8" }, 24],
    ["no reference, LoRA", qwen3, free, 40, lora],
    ["frozen layers", { nEmbd: 128, nInner: 512, nLayer: 4 }, { frozenLayers: 2 }, 24],
    ["another family", qwen3, {}, 40],
    ["another family, recomputed", qwen3, { gradientCheckpointing: true }, 40],
    ["LoRA", { nEmbd: 128, nInner: 512 }, {}, 40, lora],
    ["LoRA, another family, recomputed", qwen3, { gradientCheckpointing: true }, 40, lora],
    ["LoRA, another family, in micro-batches", qwen3, { microBatchSize: 1 }, 40, lora],
    ["LoRA on the last block alone", qwen3, {}, 40, { ...lora, layers: [2] }],
    ["LoRA, sampled in int8", qwen3, { rolloutPrecision: "int8" }, 40, lora],
    ["LoRA, the base in int8", qwen3, { basePrecision: "int8" }, 40, lora],
  ];
  test.each(cases)(
    "%s: what is estimated is what the programs of a step add up to",
    async (_, changes, options, P, adapter) => {
      const given = { vocabSize: shape.vocabSize, eosTokenId: 8191, ...changes };
      const config = "modelType" in changes ? makeLlamaConfig(given) : makeConfig({ ...shape, ...given });
      const model = modelFromConfig<GPT2Config | LlamaConfig>(config, {
        threads: 1,
      }) as unknown as CausalLMWithValueHead;
      if (adapter) model.addAdapter(adapter);
      const compiled = programsOf(model.engine);
      // No two alike: equal prompts would be computed once, and the estimate does not count on that.
      const encode = (text: string) => [Number(text), ...tokenizer.encode(words).slice(1, P)];
      const decoder = { encode, decode: () => "", has: () => true, eosTokenId: null };
      const ppo = { ...base, logSamples: 0, ...options } as Partial<PPOConfig>;
      const prompts = Array.from({ length: ppo.batchSize as number }, (_, i) => String(1000 + i));
      const stub = decoder as unknown as typeof tokenizer;
      const trainer = new PPOTrainer({ model, tokenizer: stub, reward: builtInRewards.length, config: ppo });
      for await (const _ of trainer.train(prompts));
      model.dispose();
      const sum = compiled();
      const { family, sizes } = model;
      const { parts } = runMemory({ family, config: model.config, sizes, adapter: model.adapter }, trainer.config, P);
      const estimated = parts["working memory"] / 1.2;
      expect(estimated / sum).toBeGreaterThan(0.9);
      expect(estimated / sum).toBeLessThan(1.1);
    },
  );
});

test.each<[boolean, Partial<SFTConfig>]>([
  [true, {}],
  [false, {}],
  [false, { packing: "whole" }],
  [false, { microBatchSize: 2 }],
])("language-model training, with an adapter, a held-out text: %s, %j", async (heldOut, more) => {
  const sizes = { hiddenSize: 64, numHiddenLayers: 3, numAttentionHeads: 4, intermediateSize: 200, vocabSize: 8192 };
  const model = modelFromConfig(makeLlamaConfig({ ...sizes, maxPositionEmbeddings: 160 }), { threads: 1 });
  model.addAdapter({ rank: 4, alpha: 8 });
  const compiled = programsOf(model.engine);
  const config = sftConfig({ steps: 1, batchSize: 4, sequenceLength: 48, evalEvery: 1, ...more });
  const learner = model as unknown as CausalLMWithValueHead;
  const train = await tokenizeCorpus(["This film was not what I thought. ".repeat(300)], tokenizer);
  const trainer = new SFTTrainer({ model: learner, tokenizer, config });
  for await (const _ of trainer.train({ train, ...(heldOut ? { heldOut: train } : {}) }));
  model.dispose();
  const estimated =
    pretrainingMemory(learner, {
      ...config,
      packed: config.packing === "whole",
      scored: heldOut ? HELD_OUT_SCORED : [],
    }).parts["working memory"] / 1.2;
  expect(estimated / compiled()).toBeGreaterThan(0.9);
  expect(estimated / compiled()).toBeLessThan(heldOut ? 1.2 : 1.1); // the last windows are taken to be as many as they can be
});

describe("fitting a run", () => {
  const model = gpt2Of();
  const options = ppoConfig({ batchSize: 64, miniBatchSize: 32, rolloutBatchSize: 64, maxNewTokens: 64 });
  const total = (changes: object) => runMemory(model, { ...options, ...changes }, 200).total;
  const fitting = (bytes: number) => fittingOptions(model, options, 200, bytes);

  it("takes the largest micro-batch that fits, before anything that costs time or learning", () => {
    expect(fitting(total({ microBatchSize: 16 }))).toEqual({ microBatchSize: 16 });
    expect(fitting(total({ microBatchSize: 16 }) - 1)).toEqual({ microBatchSize: 8 });
  });

  it("changes several options where one is not enough, then takes an adapter, then freezes layers", () => {
    const most = total({ microBatchSize: 1, rolloutBatchSize: 1, gradientCheckpointing: true });
    const last = fitting(most);
    expect(last).toMatchObject({ gradientCheckpointing: true });
    expect(total(last as object)).toBeLessThanOrEqual(most);
    const adapted = fitting(most - 50e6);
    expect(adapted).toMatchObject({ gradientCheckpointing: true, lora: 16 });
    expect(total(adapted as object)).toBeLessThanOrEqual(most - 50e6);
    const lora = { ...options, lora: 8 };
    const least = runMemory(
      model,
      { ...lora, microBatchSize: 1, rolloutBatchSize: 1, gradientCheckpointing: true },
      200,
    );
    const frozen = fittingOptions(model, lora, 200, least.total - 1e6);
    expect(frozen).toMatchObject({ gradientCheckpointing: true, frozenLayers: expect.any(Number) });
    expect(fitting(600e6)).toBeUndefined(); // the weights alone are 0.5 GB
  });

  it("has no room for a reference that is not kept", () => {
    const parts = (klLog: "k1" | "none") => runMemory(model, { ...options, klLog }, 200).parts;
    expect([parts("k1").reference, parts("none").reference]).toEqual([4 * countParameters(model).total, 0]);
  });

  it("leaves room for either precision where a run is still to choose one", () => {
    for (const lora of [0, 8]) {
      const [fp32, int8, auto] = (["fp32", "int8", "auto"] as const).map((p) => total({ lora, rolloutPrecision: p }));
      expect(fp32).not.toBe(int8);
      expect(auto).toBe(Math.max(fp32, int8));
    }
  });

  it("refuses what does not fit, with parts, limit, option and value", () => {
    const room = { available: total({ microBatchSize: 8 }) - 100e6, resident: 100e6 };
    expect(() => checkMemory(model, options, 200, room)).toThrow(
      /^memory: found a run that takes about \d+\.\d\d GB: weights 498 MB, reference 498 MB, gradients 498 MB, moments 996 MB, activations and cache \d\.\d\d GB, working memory \d\.\d\d GB, process 190 MB, expected at most \d\.\d\d GB, what this process may use now\. Fix: set microBatchSize to 8 \(about \d\.\d\d GB\), or ignoreMemory to try anyway$/,
    );
    expect(() => checkMemory(model, options, 200, { available: 0, resident: 1e9 })).toThrow(
      "Fix: no option makes it fit: take a smaller model or another machine, or set ignoreMemory to try anyway",
    );
    const { available, resident } = { available: total({}), resident: 0 };
    expect(checkMemory(model, options, 200, { available, resident }).total).toBe(available);
  });
});
