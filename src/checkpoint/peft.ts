/**
 * @file LoRA adapters in PEFT's layout (https://huggingface.co/docs/peft/developer_guides/checkpoint): adapter_config.json says what is
 * adapted and of which base, adapter_model.safetensors has A and B. What this library does not compute is refused by its name. A
 * value head lies beside them in v_head.safetensors, which PEFT does not look at.
 */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { shellQuote } from "../base/shell.ts";
import { joinPath, listDirectory, readJson, writeTextAtomic } from "../platform/files.ts";
import { isObject, type JsonObject } from "./config-json.ts";
import { pickledAdapterAdvice } from "./no-weights.ts";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from "./weights.ts";

/** What an adapter_config.json says, under this library's names. */
export interface AdapterSettings {
  readonly rank: number;
  readonly alpha: number;
  /** undefined: PEFT's default for the model; the tensors say which. */
  readonly targets?: string | readonly string[];
  readonly rankStabilized: boolean;
  readonly layers?: readonly number[];
  /** Regular expressions for the name of the list the blocks are in. */
  readonly layersPattern?: readonly string[];
  readonly excluded?: string | readonly string[];
  readonly rankPattern?: Readonly<Record<string, number>>;
  readonly alphaPattern?: Readonly<Record<string, number>>;
}

/** A read adapter_config.json. */
export interface AdapterConfig {
  /** The path of the file. */
  readonly where: string;
  readonly settings: AdapterSettings;
  /** What it calls its base model: a path or a hub id, with `@revision` where it names one; undefined: it does not say. */
  readonly base?: string;
  /** What is odd, in words. */
  readonly notes: readonly string[];
}

const nothing = (value: unknown): boolean =>
  value == null ||
  value === false ||
  (Array.isArray(value) && value.length === 0) ||
  (isObject(value) && Object.keys(value).length === 0);

interface Refused {
  /** What the field means when it says something. */
  readonly what: string;
  readonly harmless?: (value: unknown) => boolean;
  /** Why merging in PEFT does not help, and what does. */
  readonly fix?: string;
}

/** Ways to draw A and B that leave the base as it is. The others change it, and PEFT changes it again when it loads. */
const INNOCENT_INITS = ["gaussian", "eva", "orthogonal", "mica"];

/** What PEFT's LoRA can be beside W + s B A. */
const REFUSED: Readonly<Record<string, Refused>> = {
  use_dora: { what: "DoRA" },
  use_qalora: { what: "QA-LoRA" },
  use_bdlora: { what: "BD-LoRA" },
  lora_bias: { what: "a bias beside B" },
  arrow_config: { what: "Arrow routing", fix: "give one of its adapters" },
  kasa_config: { what: "KaSA" },
  monteclora_config: { what: "MonteCLoRA" },
  alora_invocation_tokens: { what: "activated LoRA", fix: "use it in PEFT: it cannot be merged" },
  layer_replication: { what: "replicated layers" },
  trainable_token_indices: { what: "trained token embeddings" },
  target_parameters: { what: "adapted parameters that are no modules" },
  megatron_config: { what: "Megatron's parallel layers" },
  bias: {
    what: "trained biases",
    harmless: (value) => value === undefined || value === "none",
  },
  modules_to_save: {
    what: "whole modules trained beside the adapter",
    harmless: (value) => nothing(value) || (Array.isArray(value) && value.every(isOfValueHead)),
  },
  init_lora_weights: {
    what: "an adapter of a base that was changed before training",
    harmless: (value) => value == null || typeof value === "boolean" || INNOCENT_INITS.includes(value as string),
    fix:
      "save it in PEFT as plain LoRA (save_pretrained with path_initial_model_for_weight_conversion); for loftq, give the base that " +
      "LoftQ wrote and set init_lora_weights to true",
  },
};

const isOfValueHead = (name: unknown) => typeof name === "string" && /^(v_head|value_head)(\.summary)?$/.test(name);

/** Known fields that change nothing here. */
const IDLE =
  "alpha_pattern auto_mapping base_model_name_or_path corda_config ensure_weight_tying eva_config exclude_modules fan_in_fan_out " +
  "inference_mode layers_pattern layers_to_transform loftq_config lora_alpha lora_dropout lora_ga_config megatron_core peft_type " +
  "peft_version qalora_group_size r rank_pattern revision runtime_config target_modules task_type use_rslora velora_config";
const KNOWN = new Set([...IDLE.split(" "), ...Object.keys(REFUSED)]);

/** What tasks leave the model a causal language model. */
const TASKS = [undefined, null, "CAUSAL_LM", "FEATURE_EXTRACTION"];

const names = z.union([z.string().min(1), z.array(z.string().min(1))], {
  error: "a list of module names, a regular expression, or null",
});
const above = (error: string) => z.record(z.string(), z.number().positive(), { error }).nullish();
const schema = z.object({
  r: z
    .custom<number>((x) => Number.isSafeInteger(x) && (x as number) >= 1, { error: "a rank: a whole number from 1" })
    .default(8),
  lora_alpha: z.number({ error: "a number above 0" }).positive("a number above 0").default(8),
  target_modules: names.nullish(),
  exclude_modules: names.nullish(),
  use_rslora: z.boolean({ error: "true or false" }).nullish(),
  layers_to_transform: z
    .union([z.number().int().min(0), z.array(z.number().int().min(0))], {
      error: "a block or a list of blocks, counted from 0",
    })
    .nullish(),
  layers_pattern: names.nullish(),
  rank_pattern: above("ranks by module name"),
  alpha_pattern: above("numbers above 0 by module name"),
  base_model_name_or_path: z.string({ error: "the base model's path or hub id" }).nullish(),
  revision: z.string({ error: "a revision of the base model on the hub" }).nullish(),
  lora_dropout: z.number({ error: "a number" }).nullish(),
});

/** The command that merges an adapter in PEFT, whatever it is. */
const mergeInPeft = (directory: string) =>
  `merge it in PEFT and give the merged model: python -c "import sys; from peft import AutoPeftModelForCausalLM as M; ` +
  `M.from_pretrained(sys.argv[1]).merge_and_unload().save_pretrained(sys.argv[2])" ${shellQuote(directory)} MERGED`;

/**
 * The adapter_config.json of a directory.
 * @throws config - what is no LoRA, a variant that is not computed here, fields that make no sense
 */
export async function readAdapterConfig(directory: string): Promise<AdapterConfig> {
  const where = joinPath(directory, ADAPTER_CONFIG);
  const json = await readJson(where);
  if (!isObject(json))
    return fail("config", {
      where,
      found: brief(json),
      expected: "a JSON object",
      fix: "save or download the adapter again",
    });
  const merge = mergeInPeft(directory);
  const wrong = (field: string, expected: string, fix: string): never =>
    fail("config", { where, found: `${field} = ${brief(json[field])}`, expected, fix });
  if (json.peft_type !== "LORA") wrong("peft_type", '"LORA": no other kind of adapter is supported', merge);
  if (!TASKS.includes(json.task_type as string))
    wrong("task_type", "CAUSAL_LM: an adapter of a language model", "use an adapter of a causal language model");
  for (const [field, { what, harmless = nothing, fix }] of Object.entries(REFUSED))
    if (!harmless(json[field])) wrong(field, `none: ${what}: not supported`, fix ?? merge);
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    return wrong(String(path[0]), message, `correct ${String(path[0])}, or save the adapter again`);
  }
  const { r, lora_alpha, use_rslora, target_modules, exclude_modules, layers_pattern, lora_dropout, ...rest } =
    parsed.data;
  for (const field of ["target_modules", "exclude_modules"] as const) refuseOtherRegExps(json, field, where);
  for (const field of ["rank_pattern", "alpha_pattern"] as const)
    for (const pattern of Object.keys(rest[field] ?? {})) refuseOtherRegExps({ [field]: pattern }, field, where);
  const layers = rest.layers_to_transform == null ? [] : [rest.layers_to_transform].flat();
  const targets = target_modules ?? undefined;
  if (typeof targets === "string" && !isAllLinear(targets) && layers.length > 0)
    wrong(
      "layers_to_transform",
      "none: PEFT has it for lists of target_modules only",
      "write the layers into the expression",
    );
  return {
    where,
    base: baseOf(rest),
    settings: {
      rank: r,
      alpha: lora_alpha,
      targets: typeof targets === "string" ? (isAllLinear(targets) ? "all-linear" : jsRegExp(targets)) : targets,
      rankStabilized: use_rslora ?? false,
      layers: layers.length > 0 ? layers : undefined,
      layersPattern: layers_pattern == null || layers_pattern.length === 0 ? undefined : [layers_pattern].flat(),
      excluded: nothing(exclude_modules) ? undefined : mapped(exclude_modules as string | string[]),
      rankPattern: byRegExp(rest.rank_pattern),
      alphaPattern: byRegExp(rest.alpha_pattern),
    },
    notes: notesOn(json, where, lora_dropout),
  };
}

function notesOn(json: JsonObject, where: string, dropout: number | null | undefined): string[] {
  const unknown = Object.keys(json).filter((name) => !KNOWN.has(name) && !nothing(json[name]));
  return [
    ...(dropout ? [`${where}: lora_dropout = ${dropout} is not applied: only the value head has dropout`] : []),
    ...unknown.map((name) => `${where}: ${name} = ${brief(json[name])} is not known here and changes nothing`),
  ];
}

const baseOf = (json: { base_model_name_or_path?: string | null; revision?: string | null }): string | undefined => {
  const { base_model_name_or_path: base, revision } = json;
  if (!base) return undefined;
  return revision && /^[\w.-]+(\/[\w.-]+)?$/.test(base) ? `${base}@${revision}` : base;
};

const isAllLinear = (targets: string) => targets.toLowerCase() === "all-linear";

/** What Python's regular expressions have and JavaScript's do not, or mean otherwise. */
const PYTHON_ONLY = /\(\?(P|[aiLmsux]+[):-]|#|\()|\\z|\+\+|\*\+|\?\+/;
const jsRegExp = (python: string) => python.replaceAll("\\A", "^").replaceAll("\\Z", "$");
const mapped = (value: string | string[]) => (typeof value === "string" ? jsRegExp(value) : value);
const byRegExp = (patterns: Readonly<Record<string, number>> | null | undefined) =>
  nothing(patterns)
    ? undefined
    : Object.fromEntries(Object.entries(patterns as object).map(([pattern, x]) => [jsRegExp(pattern), x as number]));

/** @throws config - a regular expression that means nothing, or something else, in JavaScript */
function refuseOtherRegExps(json: JsonObject, field: string, where: string): void {
  const text = json[field];
  if (typeof text !== "string" || isAllLinear(text)) return;
  let right = !PYTHON_ONLY.test(text);
  try {
    new RegExp(jsRegExp(text));
  } catch {
    right = false;
  }
  if (right) return;
  const fix = `write it without what only Python's have, or name the modules in a list`;
  fail("config", {
    where,
    found: `${field} = ${brief(text)}`,
    expected: "a regular expression that JavaScript knows",
    fix,
  });
}

const brief = (value: unknown) => {
  const text = value === undefined ? "nothing" : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
};

/** An adapter to write, under this library's names; `modules` are all that it adapts. */
export interface AdapterToWrite {
  readonly rank: number;
  readonly alpha: number;
  readonly targets: string | readonly string[];
  readonly rankStabilized: boolean;
  readonly layers?: readonly number[];
  readonly excluded?: string | readonly string[];
  readonly rankPattern?: Readonly<Record<string, number>>;
  readonly alphaPattern?: Readonly<Record<string, number>>;
}

/**
 * Write adapter_config.json with the fields that every version of PEFT knows.
 * @param base    a path or a hub id; undefined: unknown
 * @param modules whole names of all that it adapts
 * @param all     whole names of all matrices of the blocks
 * @param byInput whether the matrices are stored [in, out]
 */
export async function writeAdapterConfig(
  directory: string,
  adapter: AdapterToWrite,
  {
    base,
    modules,
    all,
    byInput,
  }: { base?: string; modules: readonly string[]; all: readonly string[]; byInput: boolean },
): Promise<void> {
  const { rank, alpha, targets, rankStabilized, layers, excluded, rankPattern = {}, alphaPattern = {} } = adapter;
  const [, name = base, revision = null] = (base && /^([^@]*)@([^@]*)$/.exec(base)) || [];
  // The names of all as far as they differ, where PEFT makes of them what is meant here; all names in full where it might not.
  const ends =
    targets === "all-linear" ? [...new Set(all.map((module) => module.slice(module.lastIndexOf(".") + 1)))] : targets;
  const asNamed =
    excluded === undefined && typeof ends !== "string" && !(layers && ends.some((target) => all.includes(target)));
  const json = {
    alpha_pattern: alphaPattern,
    base_model_name_or_path: name ?? null,
    bias: "none",
    fan_in_fan_out: byInput,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: asNamed && layers ? layers : null,
    lora_alpha: alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: "LORA",
    r: rank,
    rank_pattern: rankPattern,
    revision,
    target_modules: asNamed ? ends : modules,
    task_type: "CAUSAL_LM",
    use_rslora: rankStabilized,
  };
  await writeTextAtomic(joinPath(directory, ADAPTER_CONFIG), `${JSON.stringify(json, null, 2)}\n`);
}

/** @throws checkpoint - an adapter's weights as a pickle, or none */
export async function requireAdapterWeights(directory: string): Promise<string> {
  const files = await listDirectory(directory);
  if (files.includes(ADAPTER_WEIGHTS)) return joinPath(directory, ADAPTER_WEIGHTS);
  const conversion = pickledAdapterAdvice(directory, files);
  return fail("checkpoint", {
    where: directory,
    found: conversion
      ? "only PyTorch's adapter_model.bin, which is not read"
      : `${ADAPTER_CONFIG} without ${ADAPTER_WEIGHTS}`,
    expected: `${ADAPTER_CONFIG} and ${ADAPTER_WEIGHTS}`,
    fix: conversion ?? "save or download the adapter again",
  });
}
