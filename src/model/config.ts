/**
 * @file The configuration of a GPT-2, read from and written to Hugging Face's config.json.
 * Field meanings and defaults: transformers' GPT2Config (https://huggingface.co/docs/transformers/model_doc/gpt2).
 */
import { z } from "zod";
import { fail } from "../base/errors.ts";

/** Activations of the feed-forward block, by the names transformers gives them. */
export const SUPPORTED_ACTIVATIONS = [
  "gelu_new",
  "gelu",
  "gelu_fast",
  "gelu_accurate",
  "gelu_python",
  "gelu_python_tanh",
  "gelu_pytorch_tanh",
  "quick_gelu",
  "relu",
  "tanh",
  "silu",
  "swish",
  "sigmoid",
] as const;
export type Activation = (typeof SUPPORTED_ACTIVATIONS)[number];

/** How a sequence summary head picks hidden states. `attn` exists in name only, here as in transformers. */
export const SUPPORTED_SUMMARY_TYPES = ["cls_index", "last", "first", "mean"] as const;
export type SummaryType = (typeof SUPPORTED_SUMMARY_TYPES)[number];

export interface GPT2Config {
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
  /** Standard deviation of the normal distribution new weights are drawn from. */
  initializerRange: number;
  /** Divide attention scores by the square root of the head size. */
  scaleAttnWeights: boolean;
  /** Divide attention scores of layer i by i + 1 as well. */
  scaleAttnByInverseLayerIdx: boolean;
  reorderAndUpcastAttn: boolean;
  /** The language-model head is the token embedding. */
  tieWordEmbeddings: boolean;
  summaryType: SummaryType;
  summaryUseProj: boolean;
  /** Only "tanh" does anything; any other name means no activation, as in the notebook. */
  summaryActivation: string | null;
  summaryProjToLabels: boolean;
  summaryFirstDropout: number;
  /** Not in transformers' GPT2Config, but read by its summary head: dropout after the projection. */
  summaryLastDropout: number;
  /** Outputs of the value head: one number per position. */
  numLabels: 1;
  /** Dropouts of the body. Read and written, never applied: only the value head has dropout. */
  embdPdrop: number;
  attnPdrop: number;
  residPdrop: number;
  bosTokenId: number | null;
  /** What ends a text: a token, several, or none. {@link endTokens} gives a list. */
  eosTokenId: number | readonly number[] | null;
  padTokenId: number | null;
  /** The JSON this came from, so that fields unknown here survive a save. */
  raw: Record<string, unknown>;
}

/** Other names of four fields. transformers' GPT2Config reads them too, and where both are there this name wins. */
const ALIASES: Readonly<Record<string, string>> = {
  hidden_size: "n_embd",
  max_position_embeddings: "n_positions",
  num_attention_heads: "n_head",
  num_hidden_layers: "n_layer",
};

const orOf = (names: readonly string[]) => names.map((name) => JSON.stringify(name)).join(", ");

/** A number for which `ok` holds; `error` is what errors say was expected. */
const numberWhere = (error: string, ok: (x: number) => boolean) => z.number({ error }).refine(ok, { error });
const size = (max: number, orNull = "") =>
  numberWhere(`a whole number from 1 to ${max}${orNull}`, (x) => Number.isInteger(x) && x >= 1 && x <= max);
const flag = z.boolean({ error: "true or false" });
const dropout = numberWhere("a probability from 0 up to but not including 1", (x) => x >= 0 && x < 1);
const activation = z.enum(SUPPORTED_ACTIVATIONS, { error: `one of ${orOf(SUPPORTED_ACTIVATIONS)}` });
const isTokenId = (x: unknown) => Number.isInteger(x) && (x as number) >= 0 && (x as number) < 2 ** 31;
/** `eos_token_id` in config.json and generation_config.json. @internal */
export const eosTokenIdSchema = z.custom<number | number[] | null>(
  (x) => x === null || isTokenId(x) || (Array.isArray(x) && x.length > 0 && x.every(isTokenId)),
  { error: "a token id (a whole number from 0), a list of them, or null" },
);
// Nothing here depends on these two. Some configs write -1 for none.
const tokenIdOrNull = z.number({ error: "a token id (a whole number) or null" }).int().nullable();

/** One line per field of config.json, with transformers' default. The limits only keep out sizes no machine can hold. */
const schema = z.object({
  vocab_size: size(10_000_000).default(50257),
  n_positions: size(1_000_000).default(1024),
  n_embd: size(100_000).default(768),
  n_layer: size(1000).default(12),
  n_head: size(10_000).default(12),
  n_inner: size(1_000_000, " or null").nullable().default(null),
  activation_function: activation.default("gelu_new"),
  layer_norm_epsilon: numberWhere("a number above 0 and below 1", (x) => x > 0 && x < 1).default(1e-5),
  // transformers 5 refuses a whole number here, and JSON written by JavaScript has no 1.0.
  initializer_range: numberWhere("a number above 0 and below 1", (x) => x > 0 && x < 1).default(0.02),
  scale_attn_weights: flag.default(true),
  scale_attn_by_inverse_layer_idx: flag.default(false),
  reorder_and_upcast_attn: flag.default(false),
  tie_word_embeddings: flag.default(true),
  summary_type: z
    .enum(SUPPORTED_SUMMARY_TYPES, { error: `one of ${orOf(SUPPORTED_SUMMARY_TYPES)}` })
    .default("cls_index"),
  summary_use_proj: flag.default(true),
  summary_activation: z.string({ error: '"tanh", another name, or null' }).nullable().default(null),
  summary_proj_to_labels: flag.default(true),
  summary_first_dropout: dropout.default(0.1),
  summary_last_dropout: dropout.default(0),
  embd_pdrop: dropout.default(0.1),
  attn_pdrop: dropout.default(0.1),
  resid_pdrop: dropout.default(0.1),
  bos_token_id: tokenIdOrNull.default(50256),
  eos_token_id: eosTokenIdSchema.default(50256),
  pad_token_id: tokenIdOrNull.default(null),
  add_cross_attention: z.literal(false, { error: "false: cross-attention is not supported" }).default(false),
  pruned_heads: z
    .custom((x) => x == null || (typeof x === "object" && Object.keys(x).length === 0), {
      error: "none: pruned attention heads are not supported",
    })
    .optional(),
  quantization_config: z.null({ error: "none: quantised weights are not supported" }).optional(),
});

/** Advice for fields whose default would be the wrong fix. */
const FIXES: Readonly<Record<string, string>> = {
  pruned_heads: "use the checkpoint as it was before its heads were pruned",
  quantization_config: "use the checkpoint that was quantised, in F32, F16 or BF16",
};

/** A value for an error message, cut short. */
function show(value: unknown): string {
  const text = value === undefined ? "nothing" : typeof value === "number" ? String(value) : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function wrongField(where: string, field: string, value: unknown, expected: string, fix?: string): never {
  fail("config", {
    where,
    found: `${field} = ${show(value)}`,
    expected,
    fix: fix ?? `correct ${field}; leave it out for the default`,
  });
}

const architecturesOf = ({ architectures }: Record<string, unknown>): string[] =>
  Array.isArray(architectures) ? architectures.map(String) : [];
const isGpt2 = (architecture: string) => /GPT2|ValueHead/.test(architecture);

function checkArchitecture(json: Record<string, unknown>, where: string): void {
  // The oldest GPT-2 configs carry no model_type; n_embd is GPT's own name for the width. GPT-1 has that too, and afn.
  const old = "n_embd" in json && !("afn" in json) && architecturesOf(json).every(isGpt2);
  const type = json.model_type ?? (old ? "gpt2" : undefined);
  if (type === "gpt2") return;
  const fix = "use a GPT-2 checkpoint, such as openai-community/gpt2 or distilbert/distilgpt2";
  wrongField(where, "model_type", type, '"gpt2", the one supported architecture', fix);
}

/**
 * Checks a parsed config.json and fills in transformers' defaults.
 * @param where what errors call it, usually the path of the file
 */
export function parseConfig(json: unknown, where: string): GPT2Config {
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    const fix = "give the config.json of a GPT-2 checkpoint";
    fail("config", { where, found: show(json), expected: "a JSON object", fix });
  }
  const raw = json as Record<string, unknown>;
  checkArchitecture(raw, where);
  const parsed = schema.safeParse(withoutAliases(raw));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = nameIn(raw, String(issue.path[0]));
    wrongField(where, field, raw[field], issue.message, FIXES[field]);
  }
  const c = parsed.data;
  if (c.n_embd % c.n_head !== 0) {
    const [heads, width] = [nameIn(raw, "n_head"), nameIn(raw, "n_embd")];
    const expected = `a divisor of ${width} = ${c.n_embd}, so that every head has the same whole size`;
    wrongField(where, heads, c.n_head, expected, `correct ${heads} or ${width}`);
  }
  return {
    vocabSize: c.vocab_size,
    nPositions: c.n_positions,
    nEmbd: c.n_embd,
    nLayer: c.n_layer,
    nHead: c.n_head,
    nInner: c.n_inner ?? 4 * c.n_embd,
    activationFunction: c.activation_function,
    layerNormEpsilon: c.layer_norm_epsilon,
    initializerRange: c.initializer_range,
    scaleAttnWeights: c.scale_attn_weights,
    scaleAttnByInverseLayerIdx: c.scale_attn_by_inverse_layer_idx,
    reorderAndUpcastAttn: c.reorder_and_upcast_attn,
    tieWordEmbeddings: c.tie_word_embeddings,
    summaryType: c.summary_type,
    summaryUseProj: c.summary_use_proj,
    summaryActivation: c.summary_activation,
    summaryProjToLabels: c.summary_proj_to_labels,
    summaryFirstDropout: c.summary_first_dropout,
    summaryLastDropout: c.summary_last_dropout,
    numLabels: 1,
    embdPdrop: c.embd_pdrop,
    attnPdrop: c.attn_pdrop,
    residPdrop: c.resid_pdrop,
    bosTokenId: c.bos_token_id,
    eosTokenId: c.eos_token_id,
    padTokenId: c.pad_token_id,
    raw,
  };
}

/** The aliases that `json` has, with the names they stand for. */
const aliasesIn = (json: Record<string, unknown>) =>
  Object.entries(ALIASES).filter(([alias]) => Object.hasOwn(json, alias));

/** What `json` calls a field. */
const nameIn = (json: Record<string, unknown>, field: string) =>
  aliasesIn(json).find(([, name]) => name === field)?.[0] ?? field;

/** The same with each field under its own name. */
function withoutAliases(json: Record<string, unknown>): Record<string, unknown> {
  const renamed = { ...json };
  for (const [alias, name] of aliasesIn(json)) {
    renamed[name] = json[alias];
    delete renamed[alias];
  }
  return renamed;
}

/** Describes what is contradictory or misleading in a config.json; `where` is what the messages call it. */
export function configNotes({ raw }: GPT2Config, where: string): string[] {
  const twice = aliasesIn(raw)
    .filter(([alias, name]) => Object.hasOwn(raw, name) && raw[name] !== raw[alias])
    .map(([alias, name]) => `${where}: ${alias} = ${show(raw[alias])} counts, not ${name} = ${show(raw[name])}`);
  const others = architecturesOf(raw).filter((name) => !isGpt2(name));
  const other =
    others.length > 0 ? [`${where}: computed as a GPT-2, though architectures is ${others.join(", ")}`] : [];
  const code = raw.auto_map ? [`${where}: the code that auto_map names is not run: computed as a GPT-2`] : [];
  return [...twice, ...other, ...code];
}

/** The ids in an `eosTokenId`, each once. */
export const endTokens = (eosTokenId: GPT2Config["eosTokenId"]): readonly number[] =>
  eosTokenId === null ? [] : [...new Set([eosTokenId].flat() as number[])];

/** `n_embd` for `nEmbd`: the two names of a field differ in nothing else. */
const jsonName = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** A config for a new model: what `partial` leaves out is transformers' default, nInner is 4 * nEmbd. */
export function makeConfig(partial: Partial<GPT2Config> = {}): GPT2Config {
  const { raw, numLabels: _, ...fields } = partial;
  const json: Record<string, unknown> = { ...withoutAliases(raw ?? {}), model_type: "gpt2" };
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) json[jsonName(name)] = value;
  return { ...parseConfig(json, "makeConfig"), raw: raw ?? {} };
}

/** The config.json of a saved model: what `raw` held, with the fields known here on top. Loads in transformers. */
export function configToJson(config: GPT2Config): Record<string, unknown> {
  const { raw, numLabels: _, nInner, ...fields } = config;
  // Weights are saved in fp32, whatever they were read from: transformers 5 loads what this field says.
  const { dtype: _dtype, torch_dtype: _torchDtype, ...rest } = withoutAliases(raw);
  const json: Record<string, unknown> = { ...rest, architectures: ["GPT2LMHeadModel"], model_type: "gpt2" };
  for (const [name, value] of Object.entries(fields)) json[jsonName(name)] = value;
  json.n_inner = nInner === 4 * config.nEmbd ? null : nInner;
  json.torch_dtype = "float32";
  return json;
}
