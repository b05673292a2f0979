/**
 * @file GPT-2 (Radford et al. 2019), as transformers' GPT2LMHeadModel computes it. Fields and defaults of config.json: transformers'
 * GPT2Config (https://huggingface.co/docs/transformers/model_doc/gpt2).
 */
import { z } from "zod";
import {
  type Activation,
  architecturesOf,
  field,
  fieldsToJson,
  type JsonObject,
  jsonObject,
  keptJson,
  nameIn,
  notesOn,
  readFields,
  sharedFields,
  sharedRefusals,
  withoutAliases,
  wrongField,
} from "../checkpoint/config-json.ts";
import { add, layerNorm, split } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { Family, ModelConfig, ParameterRow } from "../model/family.ts";
import { activations } from "../nn/activations.ts";

/** How a sequence summary head picks hidden states. `attn` exists in name only, here as in transformers. */
export const SUPPORTED_SUMMARY_TYPES = ["cls_index", "last", "first", "mean"] as const;
/** One of {@link SUPPORTED_SUMMARY_TYPES}. Read and written, never applied: the value head is at every position. */
export type SummaryType = (typeof SUPPORTED_SUMMARY_TYPES)[number];

/** The config of a GPT-2: fields of its config.json in camelCase, with transformers' defaults. */
export interface GPT2Config extends ModelConfig {
  /** Always "gpt2". */
  readonly modelType: "gpt2";
  /** V: rows of the token embedding. */
  vocabSize: number;
  /** Longest sequence: rows of the position embedding. */
  nPositions: number;
  /** C: width of the residual stream. */
  nEmbd: number;
  /** Blocks. Default 12. */
  nLayer: number;
  /** Attention heads; divides nEmbd. */
  nHead: number;
  /** Width of the feed-forward block, resolved: 4 * nEmbd where the file says null. */
  nInner: number;
  /** Activation of the feed-forward block. Default "gelu_new". */
  activationFunction: Activation;
  /** Added to the variance in layer norms; above 0 and below 1. Default 1e-5. */
  layerNormEpsilon: number;
  /** Divide attention scores by the square root of the head size. */
  scaleAttnWeights: boolean;
  /** Divide attention scores of layer i by i + 1 as well. */
  scaleAttnByInverseLayerIdx: boolean;
  /** Read and written, never applied: attention is computed in fp32 as it is. Default false. */
  reorderAndUpcastAttn: boolean;
  /** Read and written, never applied: the value head is at every position. Default "cls_index". */
  summaryType: SummaryType;
  /** Outputs of the value head: one number per position. */
  numLabels: 1;
  /** Dropouts of the body. Read and written, never applied: only the value head has dropout. */
  embdPdrop: number;
  /** Dropout of attention probabilities, from 0 to below 1; never applied. Default 0.1. */
  attnPdrop: number;
  /** Dropout before each addition to the stream, from 0 to below 1; never applied. Default 0.1. */
  residPdrop: number;
}

/** Other names of four fields. transformers' GPT2Config reads them too, and where both are there these win. */
const aliases: Readonly<Record<string, string>> = {
  hidden_size: "n_embd",
  max_position_embeddings: "n_positions",
  num_attention_heads: "n_head",
  num_hidden_layers: "n_layer",
};

const fields = z.object({
  ...sharedFields,
  vocab_size: field.size(10_000_000).default(50257),
  n_positions: field.size(1_000_000).default(1024),
  n_embd: field.size(100_000).default(768),
  n_layer: field.size(1000).default(12),
  n_head: field.size(10_000).default(12),
  n_inner: field.size(1_000_000, " or null").nullable().default(null),
  activation_function: field.activation.default("gelu_new"),
  layer_norm_epsilon: field.fraction.default(1e-5),
  scale_attn_weights: field.flag.default(true),
  scale_attn_by_inverse_layer_idx: field.flag.default(false),
  reorder_and_upcast_attn: field.flag.default(false),
  tie_word_embeddings: field.flag.default(true),
  summary_type: field.nameAmong(SUPPORTED_SUMMARY_TYPES).default("cls_index"),
  embd_pdrop: field.dropout.default(0.1),
  attn_pdrop: field.dropout.default(0.1),
  resid_pdrop: field.dropout.default(0.1),
  bos_token_id: field.tokenIdOrNull.default(50256),
  eos_token_id: field.eosTokenId.default(50256),
});

const refusals = {
  ...sharedRefusals,
  add_cross_attention: {
    harmless: (value: unknown) => value === undefined || value === false,
    expected: "false: cross-attention is not supported",
  },
  pruned_heads: {
    harmless: (value: unknown) => value == null || (typeof value === "object" && Object.keys(value).length === 0),
    expected: "none: pruned attention heads are not supported",
    fix: "use the checkpoint as it was before its heads were pruned",
  },
};

const own = /GPT2|ValueHead/;

function checkModelType(json: JsonObject, where: string): void {
  // The oldest GPT-2 configs carry no model_type; n_embd is GPT's own name for the width. GPT-1 has that too, and afn.
  const old = "n_embd" in json && !("afn" in json) && architecturesOf(json).every((name) => own.test(name));
  const type = json.model_type ?? (old ? "gpt2" : undefined);
  if (type === "gpt2") return;
  const fix = "use a GPT-2 checkpoint, such as openai-community/gpt2; loadModel opens other families";
  wrongField(where, "model_type", type, '"gpt2"', fix);
}

/**
 * Checks a parsed config.json and fills in transformers' defaults.
 * @param where what errors call it, usually the path of the file
 * @throws config - another family, or a field with a value that is impossible or not supported
 */
export function parseConfig(json: unknown, where: string): GPT2Config {
  const raw = jsonObject(json, where, "GPT-2");
  checkModelType(raw, where);
  const config = readFields(raw, where, { fields, refusals, aliases });
  if (config.nEmbd % config.nHead !== 0) {
    const [heads, width] = ["n_head", "n_embd"].map((name) => nameIn(raw, name, aliases));
    const expected = `a divisor of ${width} = ${config.nEmbd}, so that every head has the same whole size`;
    wrongField(where, heads, config.nHead, expected, `correct ${heads} or ${width}`);
  }
  return { ...config, nInner: config.nInner ?? 4 * config.nEmbd, numLabels: 1, modelType: "gpt2", raw };
}

/**
 * A config for a new model: what `partial` leaves out is transformers' default, nInner is 4 * nEmbd.
 * @throws config - a field with a value that is impossible or not supported
 */
export function makeConfig(partial: Partial<GPT2Config> = {}): GPT2Config {
  const { raw = {}, numLabels: _, ...given } = partial;
  const json = { ...withoutAliases(raw, aliases), model_type: "gpt2", ...fieldsToJson(given) };
  return { ...parseConfig(json, "makeConfig"), raw };
}

function writeConfig({ raw, numLabels: _, ...config }: GPT2Config): JsonObject {
  return {
    ...keptJson(raw, aliases),
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    ...fieldsToJson(config),
    n_inner: config.nInner === 4 * config.nEmbd ? null : config.nInner,
    torch_dtype: "float32",
  };
}

type Init = "normal" | "residual";
const weight = (name: string, axes: string, init: Init = "normal"): ParameterRow => ({ name, axes, init, decay: true });
/** Stored [in, out]: transformers' Conv1D. */
const matrix = (name: string, axes: string, init?: Init): ParameterRow => ({
  ...weight(name, axes, init),
  matrix: "in,out",
});
const gain = (name: string): ParameterRow => ({ name, axes: "C", init: "ones", decay: false });
const bias = (name: string, axes = "C"): ParameterRow => ({ name, axes, init: "zeros", decay: false });

/** Axes: C width, I feed-forward, V vocabulary, P positions. */
const EMBEDDINGS = [weight("transformer.wte.weight", "V,C"), weight("transformer.wpe.weight", "P,C")];
const BLOCK = [
  gain("transformer.h.{layer}.ln_1.weight"),
  bias("transformer.h.{layer}.ln_1.bias"),
  matrix("transformer.h.{layer}.attn.c_attn.weight", "C,3C"),
  bias("transformer.h.{layer}.attn.c_attn.bias", "3C"),
  matrix("transformer.h.{layer}.attn.c_proj.weight", "C,C", "residual"),
  bias("transformer.h.{layer}.attn.c_proj.bias"),
  gain("transformer.h.{layer}.ln_2.weight"),
  bias("transformer.h.{layer}.ln_2.bias"),
  matrix("transformer.h.{layer}.mlp.c_fc.weight", "C,I"),
  bias("transformer.h.{layer}.mlp.c_fc.bias", "I"),
  matrix("transformer.h.{layer}.mlp.c_proj.weight", "I,C", "residual"),
  bias("transformer.h.{layer}.mlp.c_proj.bias"),
];
const NORM = [gain("transformer.ln_f.weight"), bias("transformer.ln_f.bias")];
/** Unless it is the token embedding. */
const LM_HEAD = [weight("lm_head.weight", "V,C")];

const norm = ({ layerNormEpsilon }: GPT2Config, x: Tensor, p: Readonly<Record<string, Tensor>>, name: string): Tensor =>
  layerNorm(x, p[`${name}.weight`], p[`${name}.bias`], layerNormEpsilon);

export const gpt2: Family<GPT2Config> = {
  modelTypes: ["gpt2"],
  readConfig: parseConfig,
  newConfig: makeConfig,
  writeConfig,
  notes: ({ raw }, where) => notesOn(raw, where, { kind: "a GPT-2", own, aliases }),
  prefix: "transformer.",
  tokenTypes: true,
  table: ({ tieWordEmbeddings }) => [...EMBEDDINGS, ...BLOCK, ...NORM, ...(tieWordEmbeddings ? [] : LM_HEAD)],
  axes: ({ nEmbd: C, nInner: I, vocabSize: V, nPositions: P }) => ({ C, "3C": 3 * C, I, V, P }),
  embeddings: () => [
    { name: "transformer.wte.weight", by: "token" },
    { name: "transformer.wpe.weight", by: "position" },
  ],
  sizes: ({ vocabSize, nPositions, nEmbd, nLayer, nHead, nInner }) => ({
    vocabSize,
    context: nPositions,
    contextName: "n_positions",
    width: nEmbd,
    layers: nLayer,
    heads: nHead,
    kvHeads: nHead,
    headSize: nEmbd / nHead,
    inner: nInner,
    innerMatrices: 1,
  }),
  attentionScale({ nEmbd, nHead, scaleAttnWeights, scaleAttnByInverseLayerIdx }, layer) {
    const perHead = scaleAttnWeights ? 1 / Math.sqrt(nEmbd / nHead) : 1;
    return scaleAttnByInverseLayerIdx ? perHead / (layer + 1) : perHead;
  },
  block(config, x, p, attend, product) {
    const { nEmbd: C, activationFunction } = config;
    const qkv = product(norm(config, x, p, "ln_1"), "attn.c_attn.weight", "attn.c_attn.bias"); // [..., 3C]
    const [q, k, v] = split(qkv, x.rank - 1, [C, C, C]);
    const middle = add(x, product(attend(q, k, v), "attn.c_proj.weight", "attn.c_proj.bias"));
    const wide = product(norm(config, middle, p, "ln_2"), "mlp.c_fc.weight", "mlp.c_fc.bias"); // [..., I]
    const active = activations[activationFunction](wide);
    return add(middle, product(active, "mlp.c_proj.weight", "mlp.c_proj.bias"));
  },
  normed: (config, x, p) => norm(config, x, p, "transformer.ln_f"),
};
