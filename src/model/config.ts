/**
 * @file The configuration of a GPT-2, read from and written to Hugging Face's config.json.
 * Field meanings and defaults: transformers' GPT2Config (https://huggingface.co/docs/transformers/model_doc/gpt2).
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
} from "./config-json.ts";
import type { ModelConfig } from "./family.ts";

export { type Activation, endTokens, SUPPORTED_ACTIVATIONS } from "./config-json.ts";

/** How a sequence summary head picks hidden states. `attn` exists in name only, here as in transformers. */
export const SUPPORTED_SUMMARY_TYPES = ["cls_index", "last", "first", "mean"] as const;
export type SummaryType = (typeof SUPPORTED_SUMMARY_TYPES)[number];

export interface GPT2Config extends ModelConfig {
  /** V: rows of the token embedding. */
  vocabSize: number;
  /** Longest sequence: rows of the position embedding. */
  nPositions: number;
  /** C: width of the residual stream. */
  nEmbd: number;
  nLayer: number;
  /** Attention heads; divides nEmbd. */
  nHead: number;
  /** Width of the feed-forward block, resolved: 4 * nEmbd where the file says null. */
  nInner: number;
  activationFunction: Activation;
  layerNormEpsilon: number;
  /** Divide attention scores by the square root of the head size. */
  scaleAttnWeights: boolean;
  /** Divide attention scores of layer i by i + 1 as well. */
  scaleAttnByInverseLayerIdx: boolean;
  reorderAndUpcastAttn: boolean;
  summaryType: SummaryType;
  /** Outputs of the value head: one number per position. */
  numLabels: 1;
  /** Dropouts of the body. Read and written, never applied: only the value head has dropout. */
  embdPdrop: number;
  attnPdrop: number;
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
  return { ...config, nInner: config.nInner ?? 4 * config.nEmbd, numLabels: 1, raw };
}

/** Describes what is contradictory or misleading in a config.json; `where` is what the messages call it. */
export const configNotes = ({ raw }: GPT2Config, where: string): string[] =>
  notesOn(raw, where, { kind: "a GPT-2", own, aliases });

/** A config for a new model: what `partial` leaves out is transformers' default, nInner is 4 * nEmbd. */
export function makeConfig(partial: Partial<GPT2Config> = {}): GPT2Config {
  const { raw = {}, numLabels: _, ...given } = partial;
  const json = { ...withoutAliases(raw, aliases), model_type: "gpt2", ...fieldsToJson(given) };
  return { ...parseConfig(json, "makeConfig"), raw };
}

/** The config.json of a saved model: what `raw` held, with the fields known here on top. Loads in transformers. */
export function configToJson({ raw, numLabels: _, ...config }: GPT2Config): JsonObject {
  return {
    ...keptJson(raw, aliases),
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    ...fieldsToJson(config),
    n_inner: config.nInner === 4 * config.nEmbd ? null : config.nInner,
    torch_dtype: "float32",
  };
}
