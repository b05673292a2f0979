/** @file A small model of each family, for what must hold whatever the family. */
import { DEFAULT_DEVICE } from "../../src/backend/devices.ts";
import { RNG } from "../../src/base/rng.ts";
import { gpt2, makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { type LlamaConfig, llama, makeLlamaConfig } from "../../src/families/llama.ts";
import type { Family, ModelConfig } from "../../src/model/family.ts";
import { type ModelOptions, newModel } from "../../src/model/load.ts";
import { CausalLMWithValueHead } from "../../src/model/model.ts";
import { tinyDir } from "./golden.ts";

export type Model = CausalLMWithValueHead<ModelConfig>;

interface Shape {
  vocabSize: number;
  context: number;
  /** Ends a text and begins one. Default: none does. */
  eosTokenId?: number | null;
  initializerRange?: number;
}

const rope = {
  ropeType: "llama3",
  ropeTheta: 1e4,
  factor: 4,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 16,
} as const;

/** What sets each apart: shared keys, scaled positions, biases, norms of heads, heads wider than the model, tied or not. */
const variants: Readonly<Record<string, Partial<LlamaConfig>>> = {
  llama: { modelType: "llama", hiddenSize: 32, numAttentionHeads: 4, numKeyValueHeads: 2, ropeParameters: rope },
  qwen2: { modelType: "qwen2", hiddenSize: 48, numAttentionHeads: 6, numKeyValueHeads: 2, tieWordEmbeddings: true },
  qwen3: { modelType: "qwen3", hiddenSize: 24, numAttentionHeads: 4, numKeyValueHeads: 1, headDim: 16 },
};

/** Weights that tell tokens apart, and logits whose rounding stays far below 1e-5. */
const RANGES: Readonly<Record<string, number>> = { gpt2: 0.2, llama: 0.3, qwen2: 0.2, qwen3: 0.3 };

const LORA = " with LoRA";
const INT8 = `${LORA} in int8`;

/** Those whose directories hold whole models: an adapter in a directory names a base, which a model made here has not got. */
export const wholeFamilyNames = ["gpt2", ...Object.keys(variants)];

/** All; of them a tab (suites.test.ts) takes those whose products differ. */
export const familyNames =
  DEFAULT_DEVICE === "cpu"
    ? [...wholeFamilyNames, `gpt2${LORA}`, `llama${LORA}`, `llama${INT8}`]
    : ["gpt2", "llama", `llama${INT8}`];

/** A model with an adapter that changes what it computes, of other matrices in each block. */
function withAdapter(model: Model): Model {
  model.addAdapter({ rank: 3, alpha: 4, excluded: "(.*\\.0\\..*(c_fc|q_proj))|(.*\\.1\\..*(c_attn|down_proj))" });
  const rng = new RNG(13);
  for (const { name, adapts } of model.parameters.table)
    if (adapts) {
      const view = model.parameters.view(name);
      for (let i = 0; i < view.length; i++) view[i] = 0.2 * rng.normal();
    }
  return model;
}

/** A new model with 2 layers, random weights, and biases and norms that are not 0 and 1. */
export function smallModel(name: string, shape: Shape, options: ModelOptions): Model {
  if (name.endsWith(INT8)) return withAdapter(smallModel(name.slice(0, -INT8.length), shape, options)).roundBase();
  if (name.endsWith(LORA)) return withAdapter(smallModel(name.slice(0, -LORA.length), shape, options));
  const { vocabSize, context, eosTokenId = null, initializerRange = RANGES[name] } = shape;
  const shared = { vocabSize, initializerRange, eosTokenId, bosTokenId: eosTokenId };
  const [family, config] =
    name === "gpt2"
      ? [gpt2, makeConfig({ ...shared, nPositions: context, nEmbd: 32, nLayer: 2, nHead: 4, nInner: 64 })]
      : [
          llama,
          makeLlamaConfig({
            ...{ ...shared, numHiddenLayers: 2, intermediateSize: 40, maxPositionEmbeddings: context },
            ...variants[name],
          }),
        ];
  const loaded = newModel(family as unknown as Family, config, options);
  const rng = new RNG(7);
  if (name !== "gpt2")
    for (const { name: row, init } of loaded.parameters.table)
      if (init === "ones" || init === "zeros") {
        const view = loaded.parameters.view(row);
        for (let i = 0; i < view.length; i++) view[i] += 0.3 * rng.normal();
      }
  return new CausalLMWithValueHead(loaded, options);
}

/** The tiny GPT-2 of the references, and a small one of each other family. */
export const tinyModel = async (name: string, options: ModelOptions): Promise<Model> =>
  name.endsWith(LORA) && name.startsWith("gpt2")
    ? withAdapter(await tinyModel(name.slice(0, -LORA.length), options))
    : name === "gpt2"
      ? ((await GPT2HeadWithValueModel.fromPretrained(tinyDir, options)) as unknown as Model)
      : smallModel(name, { vocabSize: 101, context: 64 }, { seed: 11, ...options });
