/**
 * @file Llama (Touvron et al. 2023) and its relatives Qwen2 and Qwen3, as transformers' LlamaForCausalLM, Qwen2ForCausalLM and
 * Qwen3ForCausalLM compute them: norms without a mean, rotary positions, keys and values shared by groups of heads, a gated
 * feed-forward block. Fields and defaults of config.json: transformers' LlamaConfig, Qwen2Config and Qwen3Config.
 */
import { z } from "zod";
import {
  type Activation,
  field,
  fieldsToJson,
  type JsonObject,
  jsonObject,
  keptJson,
  notesOn,
  type Refusal,
  readFields,
  sharedFields,
  sharedRefusals,
  wrongField,
} from "../checkpoint/config-json.ts";
import { add, mul, reshape, rmsNorm } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { Family, ModelConfig, ParameterRow } from "../model/family.ts";
import { activations } from "../nn/activations.ts";
import { inverseFrequencies, type Rope } from "../nn/rotary.ts";
import { ROPE_ALIASES, ropeFields, ropeRefusals, ropeToJson, withRope } from "./rope-json.ts";

/** What `model_type` in config.json may say. */
export type LlamaType = "llama" | "qwen2" | "qwen3";

/** The config of a Llama, Qwen2 or Qwen3: fields of its config.json in camelCase, with transformers' defaults. */
export interface LlamaConfig extends ModelConfig {
  /** Qwen2 has biases of queries, keys and values; Qwen3 has norms of queries and keys, head by head. */
  readonly modelType: LlamaType;
  /** V: rows of the token embedding. */
  vocabSize: number;
  /** C: width of the residual stream. */
  hiddenSize: number;
  /** I: width of the feed-forward block. */
  intermediateSize: number;
  /** Blocks. Default 32. */
  numHiddenLayers: number;
  /** H: query heads. */
  numAttentionHeads: number;
  /** K: key and value heads; divides H, and each serves H / K query heads. */
  numKeyValueHeads: number;
  /** D: numbers per head, even. H D may differ from C. */
  headDim: number;
  /** Activation of the gate in the feed-forward block. Default "silu". */
  hiddenAct: Activation;
  /** Added to the mean square in norms; above 0 and below 1. Default 1e-6. */
  rmsNormEps: number;
  /** Longest sequence, in tokens. */
  maxPositionEmbeddings: number;
  /** How fast rotary positions turn. */
  ropeParameters: Rope;
  /** Biases of queries, keys, values and what attention gives. Not for Qwen2, whose biases are fixed. */
  attentionBias: boolean;
  /** Biases of the feed-forward block. Llama only. */
  mlpBias: boolean;
}

const CLASS = { llama: "Llama", qwen2: "Qwen2", qwen3: "Qwen3" } as const;
const QWEN = { vocab_size: 151936, intermediate_size: 22016, num_key_value_heads: 32, max_position_embeddings: 32768 };
/** Where the defaults differ. */
const DEFAULTS: Readonly<Record<LlamaType, JsonObject>> = {
  llama: {
    ...{ vocab_size: 32000, intermediate_size: 11008, max_position_embeddings: 2048 },
    ...{ bos_token_id: 1, eos_token_id: 2 },
  },
  qwen2: QWEN,
  qwen3: { ...QWEN, head_dim: 128 },
};

const fields = z.object({
  ...sharedFields,
  vocab_size: field.size(10_000_000),
  hidden_size: field.size(100_000).default(4096),
  intermediate_size: field.size(1_000_000),
  num_hidden_layers: field.size(1000).default(32),
  num_attention_heads: field.size(10_000).default(32),
  num_key_value_heads: field.size(10_000, " or null").nullable().default(null),
  head_dim: field.size(10_000, " or null").nullable().default(null),
  hidden_act: field.activation.default("silu"),
  rms_norm_eps: field.fraction.default(1e-6),
  max_position_embeddings: field.size(100_000_000),
  ...ropeFields,
  attention_bias: field.flag.default(false),
  mlp_bias: field.flag.default(false),
  tie_word_embeddings: field.flag.default(false),
  bos_token_id: field.tokenIdOrNull.default(null),
  eos_token_id: field.eosTokenId.default(null),
});

const refusals: Readonly<Record<string, Refusal>> = {
  ...sharedRefusals,
  ...ropeRefusals,
  layer_types: {
    harmless: (value) => value == null || (Array.isArray(value) && value.every((type) => type === "full_attention")),
    expected: 'only "full_attention": a sliding window is not supported',
    fix: "use a checkpoint whose layers attend to the whole sequence",
  },
  use_sliding_window: {
    harmless: (value, { layer_types, sliding_window, max_window_layers = 28, num_hidden_layers = 32 }) =>
      !value ||
      sliding_window === null ||
      Array.isArray(layer_types) ||
      Number(num_hidden_layers) <= Number(max_window_layers),
    expected: "false: a sliding window is not supported",
    fix: "use a checkpoint whose layers attend to the whole sequence",
  },
  pretraining_tp: {
    harmless: (value) => value == null || value === 1,
    expected: "1: products in slices are not supported",
    fix: "set it to 1: what is computed differs by rounding only",
  },
};

function readConfig(given: unknown, where: string): LlamaConfig {
  const raw = jsonObject(given, where, "Llama");
  const modelType = raw.model_type as LlamaType;
  if (!Object.hasOwn(DEFAULTS, String(modelType))) {
    const fix = "use a checkpoint of Llama, SmolLM2, Qwen2, Qwen2.5 or Qwen3";
    wrongField(where, "model_type", modelType, '"llama", "qwen2" or "qwen3"', fix);
  }
  const json = withRope({ ...DEFAULTS[modelType], ...raw }, where);
  const c = readFields(json, where, { fields, refusals, aliases: ROPE_ALIASES });
  const { hiddenSize, numAttentionHeads } = c;
  const numKeyValueHeads = c.numKeyValueHeads ?? numAttentionHeads;
  const headDim = c.headDim ?? hiddenSize / numAttentionHeads;
  const wrong = (field: string, value: number, expected: string) =>
    wrongField(where, field, value, expected, "correct one of the two");
  // transformers wants the first of a Llama whose head_dim is given, too.
  if (hiddenSize % numAttentionHeads !== 0 && (c.headDim === null || modelType === "llama"))
    wrong("num_attention_heads", numAttentionHeads, `a divisor of hidden_size = ${hiddenSize}`);
  if (numAttentionHeads % numKeyValueHeads !== 0)
    wrong("num_key_value_heads", numKeyValueHeads, `a divisor of num_attention_heads = ${numAttentionHeads}`);
  if (headDim % 2 !== 0)
    wrongField(where, "head_dim", headDim, "an even number: rotary positions turn pairs", "use another checkpoint");
  const attentionBias = modelType !== "qwen2" && c.attentionBias;
  const mlpBias = modelType === "llama" && c.mlpBias;
  return { ...c, modelType, numKeyValueHeads, headDim, attentionBias, mlpBias, raw };
}

function writeConfig({ raw, modelType, ropeParameters, ...config }: LlamaConfig): JsonObject {
  return {
    ...keptJson(raw),
    architectures: [`${CLASS[modelType]}ForCausalLM`],
    model_type: modelType,
    ...fieldsToJson(config),
    ...ropeToJson(ropeParameters),
    dtype: "float32",
  };
}

/**
 * A config for a new model of this family: what `partial` leaves out is transformers' default for its `modelType`, by default
 * "llama". {@link modelFromConfig} makes the model.
 * @throws config - a field with a value that is impossible or not supported
 */
export function makeLlamaConfig(partial: Partial<LlamaConfig> = {}): LlamaConfig {
  const { raw = {}, ropeParameters, ...given } = partial;
  const rope = ropeParameters ? ropeToJson(ropeParameters) : {};
  const json = { model_type: "llama", ...raw, ...fieldsToJson(given), ...rope };
  return { ...readConfig(json, "makeLlamaConfig"), raw };
}

const layer = (name: string) => `model.layers.{layer}.${name}`;
const weight = (name: string): ParameterRow => ({ name, axes: "V,C", init: "normal", decay: true });
const gain = (name: string, axes = "C"): ParameterRow => ({ name: `${name}.weight`, axes, init: "ones", decay: false });
/** Stored [out, in]: torch's Linear. */
const projection = (name: string, out: string, inner: string, biased: boolean): ParameterRow[] => [
  { name: layer(`${name}.weight`), axes: `${out},${inner}`, init: "normal", decay: true, matrix: "out,in" },
  ...(biased ? [{ name: layer(`${name}.bias`), axes: out, init: "zeros", decay: false } as const] : []),
];

/** Axes: V vocabulary, C width, H D query heads side by side, K D key or value heads, D one head, I feed-forward. */
function table({ modelType, attentionBias, mlpBias, tieWordEmbeddings }: LlamaConfig): readonly ParameterRow[] {
  const inputBias = attentionBias || modelType === "qwen2";
  return [
    weight("model.embed_tokens.weight"),
    gain(layer("input_layernorm")),
    ...projection("self_attn.q_proj", "HD", "C", inputBias),
    ...projection("self_attn.k_proj", "KD", "C", inputBias),
    ...projection("self_attn.v_proj", "KD", "C", inputBias),
    ...projection("self_attn.o_proj", "C", "HD", attentionBias),
    ...(modelType === "qwen3" ? ["q_norm", "k_norm"].map((name) => gain(layer(`self_attn.${name}`), "D")) : []),
    gain(layer("post_attention_layernorm")),
    ...projection("mlp.gate_proj", "I", "C", mlpBias),
    ...projection("mlp.up_proj", "I", "C", mlpBias),
    ...projection("mlp.down_proj", "C", "I", mlpBias),
    gain("model.norm"),
    ...(tieWordEmbeddings ? [] : [weight("lm_head.weight")]),
  ];
}

export const llama: Family<LlamaConfig> = {
  modelTypes: ["llama", "qwen2", "qwen3"],
  readConfig,
  newConfig: makeLlamaConfig,
  writeConfig,
  notes({ raw, modelType }, where) {
    const name = CLASS[modelType];
    return notesOn(raw, where, { kind: `a ${name}`, own: new RegExp(`^${name}(Model|For)|ValueHead`) });
  },
  prefix: "model.",
  table,
  axes: ({ vocabSize: V, hiddenSize: C, intermediateSize: I, headDim: D, numAttentionHeads, numKeyValueHeads }) => ({
    ...{ V, C, I, D, HD: numAttentionHeads * D, KD: numKeyValueHeads * D },
  }),
  embeddings: () => [{ name: "model.embed_tokens.weight", by: "token" }],
  rotary: ({ headDim, ropeParameters }) => inverseFrequencies(headDim, ropeParameters),
  sizes: (config) => ({
    vocabSize: config.vocabSize,
    context: config.maxPositionEmbeddings,
    contextName: "max_position_embeddings",
    width: config.hiddenSize,
    layers: config.numHiddenLayers,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
    headSize: config.headDim,
    inner: config.intermediateSize,
    innerMatrices: 2,
  }),
  attentionScale: ({ headDim }) => 1 / Math.sqrt(headDim),
  block({ rmsNormEps, hiddenAct, headDim }, x, p, attend, product) {
    const norm = (t: Tensor, name: string) => rmsNorm(t, p[`${name}.weight`], rmsNormEps);
    const times = (t: Tensor, name: string) =>
      product(t, `${name}.weight`, `${name}.bias` in p ? `${name}.bias` : undefined);
    /** Qwen3 norms each head of queries and keys. [..., heads D] -> [..., heads, D] -> [..., heads D] */
    const normedHeads = (t: Tensor, name: string) => {
      if (!(`${name}.weight` in p)) return t;
      const heads = t.shape[t.rank - 1].size / headDim;
      const apart = [...t.shape.slice(0, -1), { name: "heads", size: heads }, { name: "D", size: headDim }];
      return reshape(norm(reshape(t, apart), name), t.shape);
    };
    const before = norm(x, "input_layernorm");
    const q = normedHeads(times(before, "self_attn.q_proj"), "self_attn.q_norm"); // [..., H D]
    const k = normedHeads(times(before, "self_attn.k_proj"), "self_attn.k_norm"); // [..., K D]
    const v = times(before, "self_attn.v_proj"); // [..., K D]
    const middle = add(x, times(attend(q, k, v), "self_attn.o_proj"));
    const normed = norm(middle, "post_attention_layernorm");
    const gate = activations[hiddenAct](times(normed, "mlp.gate_proj")); // [..., I]
    return add(middle, times(mul(gate, times(normed, "mlp.up_proj")), "mlp.down_proj"));
  },
  normed: ({ rmsNormEps }, x, p) => rmsNorm(x, p["model.norm.weight"], rmsNormEps),
};
