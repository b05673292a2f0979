/**
 * @file What reading and writing any family's config.json shares: kinds of fields, aliases, errors, notes. A field has
 * transformers' name in the file (`n_embd`) and the same in camelCase here (`nEmbd`).
 */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { brief } from "../base/text.ts";

/** A parsed config.json. */
export type JsonObject = Record<string, unknown>;

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
/** The name of an activation, one of {@link SUPPORTED_ACTIVATIONS}. */
export type Activation = (typeof SUPPORTED_ACTIVATIONS)[number];

/** A number for which `ok` holds; `error` is what errors say was expected. */
const numberWhere = (error: string, ok: (x: number) => boolean) => z.number({ error }).refine(ok, { error });
/** One of a few names. */
const nameAmong = <const T extends readonly string[]>(names: T) =>
  z.enum(names, { error: `one of ${names.map((name) => JSON.stringify(name)).join(", ")}` });
const isTokenId = (x: unknown) => Number.isInteger(x) && (x as number) >= 0 && (x as number) < 2 ** 31;

/** Kinds of fields. */
export const field = {
  nameAmong,
  /** The limits only keep out what no machine can hold. */
  size: (max: number, orNull = "") =>
    numberWhere(`a whole number from 1 to ${max}${orNull}`, (x) => Number.isInteger(x) && x >= 1 && x <= max),
  flag: z.boolean({ error: "true or false" }),
  dropout: numberWhere("a probability from 0 up to but not including 1", (x) => x >= 0 && x < 1),
  // transformers 5 refuses a whole number for these, and JSON written by JavaScript has no 1.0.
  fraction: numberWhere("a number above 0 and below 1", (x) => x > 0 && x < 1),
  positive: numberWhere("a number above 0", (x) => x > 0),
  activation: nameAmong(SUPPORTED_ACTIVATIONS),
  /** `eos_token_id` in config.json and generation_config.json. */
  eosTokenId: z.custom<number | number[] | null>(
    (x) => x === null || isTokenId(x) || (Array.isArray(x) && x.length > 0 && x.every(isTokenId)),
    { error: "a token id (a whole number from 0), a list of them, or null" },
  ),
  /** `bos_token_id` and `pad_token_id`, on which nothing here depends. Some configs write -1 for none. */
  tokenIdOrNull: z.number({ error: "a token id (a whole number) or null" }).int().nullable(),
};

/** Fields with one default in all families. */
export const sharedFields = {
  initializer_range: field.fraction.default(0.02),
  pad_token_id: field.tokenIdOrNull.default(null),
  summary_use_proj: field.flag.default(true),
  summary_activation: z.string({ error: '"tanh", another name, or null' }).nullable().default(null),
  summary_proj_to_labels: field.flag.default(true),
  summary_first_dropout: field.dropout.default(0.1),
  summary_last_dropout: field.dropout.default(0),
};

/** A field that must say nothing that would have to be computed. */
export interface Refusal {
  harmless(value: unknown, json: JsonObject): boolean;
  readonly expected: string;
  /** Where the default is the wrong advice. */
  readonly fix?: string;
}

/** What no family computes. */
export const sharedRefusals: Readonly<Record<string, Refusal>> = {
  quantization_config: {
    harmless: (value) => value == null,
    expected: "none: quantised weights are not supported",
    fix: "use the checkpoint that was quantised, in F32, F16 or BF16",
  },
};

/** How one family's config.json is read. */
export interface Rules<S extends z.ZodObject = z.ZodObject> {
  /** One line per field, with transformers' default. */
  readonly fields: S;
  readonly refusals: Readonly<Record<string, Refusal>>;
  /** Other names of fields, which win where both are there. */
  readonly aliases?: Readonly<Record<string, string>>;
}

type CamelCase<S extends string> = S extends `${infer A}_${infer B}` ? `${A}${Capitalize<CamelCase<B>>}` : S;
type CamelCased<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [K in keyof T as K extends string ? CamelCase<K> : K]: CamelCased<T[K]> }
    : T;

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** `nEmbd` for `n_embd`, in objects inside too. */
const camelCased = (fields: object): JsonObject =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      isObject(value) ? camelCased(value) : value,
    ]),
  );
/** `n_embd` for `nEmbd`. */
const snakeCase = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** The fields of `json` that the rules know, checked, defaults filled in, in camelCase. */
export function readFields<S extends z.ZodObject>(
  json: JsonObject,
  where: string,
  { fields, refusals, aliases = {} }: Rules<S>,
): CamelCased<z.output<S>> {
  for (const [field, { harmless, expected, fix }] of Object.entries(refusals))
    if (!harmless(json[field], json)) wrongField(where, field, json[field], expected, fix);
  const parsed = fields.safeParse(withoutAliases(json, aliases));
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    const [field, ...inner] = [nameIn(json, String(path[0]), aliases), ...path.slice(1).map(String)];
    const value = inner.reduce((x: unknown, name) => (x as JsonObject | undefined)?.[name], json[field]);
    wrongField(where, [field, ...inner].join("."), value, message);
  }
  return camelCased(parsed.data) as CamelCased<z.output<S>>;
}

/** The same as JSON: names in snake_case, objects inside too; what is undefined is left out. */
export function fieldsToJson(fields: object): JsonObject {
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [snakeCase(name), isObject(value) ? fieldsToJson(value) : value]),
  );
}

/** What a saved config keeps of the one that was read: all but the type of its weights, which are saved in fp32. */
export function keptJson(raw: JsonObject, aliases: Rules["aliases"] = {}): JsonObject {
  const { dtype: _dtype, torch_dtype: _torchDtype, ...kept } = withoutAliases(raw, aliases);
  return kept;
}

/** @throws config - no JSON object */
export function jsonObject(json: unknown, where: string, checkpoint: string): JsonObject {
  if (isObject(json)) return json;
  const fix = `give the config.json of a ${checkpoint} checkpoint`;
  return fail("config", { where, found: show(json), expected: "a JSON object", fix });
}

/** A value for an error message, cut short. */
function show(value: unknown): string {
  const text = value === undefined ? "nothing" : typeof value === "number" ? String(value) : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

export function wrongField(where: string, field: string, value: unknown, expected: string, fix?: string): never {
  fail("config", {
    where,
    found: `${field} = ${show(value)}`,
    expected,
    fix: fix ?? `correct ${field}; leave it out for the default`,
  });
}

/** The aliases that `json` has, with the names they stand for. */
const aliasesIn = (json: JsonObject, aliases: Readonly<Record<string, string>>) =>
  Object.entries(aliases).filter(([alias]) => Object.hasOwn(json, alias));

/** What `json` calls a field. */
export const nameIn = (json: JsonObject, field: string, aliases: Readonly<Record<string, string>>) =>
  aliasesIn(json, aliases).find(([, name]) => name === field)?.[0] ?? field;

/** The same with each field under its own name. */
export function withoutAliases(json: JsonObject, aliases: Readonly<Record<string, string>>): JsonObject {
  const renamed = { ...json };
  for (const [alias, name] of aliasesIn(json, aliases)) {
    renamed[name] = json[alias];
    delete renamed[alias];
  }
  return renamed;
}

/** The classes a config.json says it is of. */
export const architecturesOf = ({ architectures }: JsonObject): string[] =>
  Array.isArray(architectures) ? architectures.map((name) => (typeof name === "string" ? name : brief(name))) : [];

/**
 * What is contradictory or misleading in a config.json.
 * @param kind what it is computed as: `a GPT-2`
 * @param own  which of its `architectures` are of that kind
 */
export function notesOn(
  raw: JsonObject,
  where: string,
  { kind, own, aliases = {} }: { kind: string; own: RegExp; aliases?: Rules["aliases"] },
): string[] {
  const twice = aliasesIn(raw, aliases)
    .filter(([alias, name]) => Object.hasOwn(raw, name) && raw[name] !== raw[alias])
    .map(([alias, name]) => `${where}: ${alias} = ${show(raw[alias])} counts, not ${name} = ${show(raw[name])}`);
  const others = architecturesOf(raw).filter((name) => !own.test(name));
  const other =
    others.length > 0 ? [`${where}: computed as ${kind}, though architectures is ${others.join(", ")}`] : [];
  const code = raw.auto_map ? [`${where}: the code that auto_map names is not run: computed as ${kind}`] : [];
  return [...twice, ...other, ...code];
}

/** What ends a text: a token, several, or none. */
export type EosTokenId = number | readonly number[] | null;

/** The ids in an `eosTokenId`, each once. */
export const endTokens = (eosTokenId: EosTokenId): readonly number[] =>
  eosTokenId === null ? [] : [...new Set([eosTokenId].flat() as number[])];
