/**
 * @file One complete `tokenizer.json` out of all the files that describe a tokenizer, as transformers 5.24 puts them together:
 * tokenization_auto.py, tokenization_utils_base.py (`_from_pretrained`), tokenization_utils_tokenizers.py, tokenization_gpt2.py.
 */
import { fail } from "../base/errors.ts";
import type { AddedToken } from "./added-tokens.ts";
import type { TokenizerJSON } from "./engine.ts";
import { modelType } from "./models.ts";
import type { TokenizerPartJSON } from "./parts.ts";

/** A token in a configuration file: its content, or an object with flags around it. */
export type TokenSetting = string | (Partial<AddedToken> & { content: string; __type?: string });

/** The parts of a `tokenizer_config.json` (or `special_tokens_map.json`) that are used. */
export interface TokenizerConfig {
  /** transformers' class, with or without `Fast`. */
  tokenizer_class?: string | null;
  /** The token that ends a text; null: none. */
  eos_token?: TokenSetting | null;
  /** The token for padding; null: none. */
  pad_token?: TokenSetting | null;
  /** Added tokens, each by its id in decimal. */
  added_tokens_decoder?: Record<string, Partial<AddedToken> & { content: string }>;
  /** Other fields; those that name a token, such as `unk_token`, are read. */
  [key: string]: unknown;
}

/** What was found, each file parsed. */
export interface TokenizerSources {
  /** What errors call the tokenizer. */
  where: string;
  /** `tokenizer.json`, or the parts of one that older files hold. */
  json: TokenizerJSON;
  /** Whether there is a `tokenizer.json`. */
  isFast: boolean;
  /** `tokenizer_config.json`; {} where there is none. */
  config: TokenizerConfig;
  /** `special_tokens_map.json`. */
  specialTokensMap?: TokenizerConfig;
  /** `added_tokens.json`: token to id. */
  addedTokens?: Record<string, number>;
  /** The class that the model's type or its config.json asks for, when `tokenizer_config.json` names none. */
  modelClass?: string;
}

export interface ResolvedTokenizer {
  json: TokenizerJSON;
  /** The named tokens, such as `eos_token`, by content. */
  named: ReadonlyMap<string, string>;
  /** Tokens that only a configuration names, with ids after the vocabulary's. */
  appended: readonly AddedToken[];
}

/** transformers' SPECIAL_TOKENS_ATTRIBUTES. */
const NAMED = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
export const GPT2_END = "<|endoftext|>";

/** What a transformers class sets when no file does. */
const DEFAULTS: Record<string, Record<string, string>> = {
  GPT2Tokenizer: { bos_token: GPT2_END, eos_token: GPT2_END, unk_token: GPT2_END },
  BertTokenizer: {
    unk_token: "[UNK]",
    sep_token: "[SEP]",
    pad_token: "[PAD]",
    cls_token: "[CLS]",
    mask_token: "[MASK]",
  },
};

/** @throws checkpoint - a setting that is no token */
export function resolveTokenizer(sources: TokenizerSources): ResolvedTokenizer {
  const { where, config } = sources;
  const className = (config.tokenizer_class ?? sources.modelClass ?? "").replace(/Fast$/, "");
  const settings = { ...config };
  const decoder = declaredTokens(sources, settings);

  const named = new Map<string, AddedToken | string>(Object.entries(DEFAULTS[className] ?? {}));
  const base = rebuilt(className, sources);
  const vocab = base.model.vocab;
  const has = (token: string) =>
    Array.isArray(vocab) ? vocab.some(([piece]) => piece === token) : Object.hasOwn(vocab, token);
  // A default that the vocabulary lacks is no token of this model. (transformers adds it, without a row.)
  for (const [name, token] of named) if (!has(String(token))) named.delete(name);
  if (named.size === 0 && has(GPT2_END)) named.set("eos_token", GPT2_END);
  const extra: (AddedToken | string)[] = [];
  for (const [key, value] of Object.entries(settings)) {
    if (key === "extra_special_tokens" && Array.isArray(value)) {
      for (const token of value) extra.push(asToken(token, where, key));
    } else if (key === "extra_special_tokens" && typeof value === "object" && value !== null) {
      for (const [name, token] of Object.entries(value)) named.set(name, asToken(token, where, name));
    } else if (key.endsWith("_token") && NAMED.includes(key)) {
      if (value === null || value === undefined) named.delete(key);
      else named.set(key, asToken(value, where, key));
    } else if (key.endsWith("_token") && (typeof value === "string" || isToken(value))) {
      named.set(key, asToken(value, where, key)); // a token of this model alone, such as image_token
    }
  }

  const contents = new Set([...named.values()].map(contentOf));
  const added = [...(base.added_tokens ?? [])];
  const known = new Map(added.map((token) => [token.content, token]));
  const toAdd: (AddedToken | string)[] = [...decoder.values()].filter(
    (token) => !sameToken(known.get(token.content), token),
  );
  const seen = new Set([...known.keys(), ...toAdd.map(contentOf)]);
  for (const token of [...named.values(), ...extra]) {
    if (seen.has(contentOf(token))) continue;
    seen.add(contentOf(token));
    toAdd.push(token);
  }
  const appended = addTokens(base, added, toAdd, contents);
  const complete = { ...base, added_tokens: added };
  const post = surrounded(sources, complete, named);
  return {
    json: post === undefined ? complete : { ...complete, post_processor: post },
    named: new Map([...named].map(([name, token]) => [name, contentOf(token)])),
    appended: appended.filter((token) => sources.addedTokens?.[token.content] === undefined),
  };
}

/**
 * The tokens that have been declared with their ids, in the order of the ids: those of `added_tokens_decoder`; without it those
 * of the older files, whose special tokens then also overrule `settings`.
 */
function declaredTokens(sources: TokenizerSources, settings: TokenizerConfig): Map<number, AddedToken> {
  const { config, where } = sources;
  const extras = (value: unknown) => (Array.isArray(value) ? (value as TokenSetting[]) : []);
  // The older name of extra_special_tokens.
  if (settings.additional_special_tokens !== undefined && extras(settings.extra_special_tokens).length === 0) {
    settings.extra_special_tokens = settings.additional_special_tokens;
  }
  const declared = new Map<number, AddedToken>();
  if (config.added_tokens_decoder !== undefined && config.added_tokens_decoder !== null) {
    for (const [id, token] of Object.entries(config.added_tokens_decoder)) {
      declared.set(Number(id), { ...(asToken(token, where, "added_tokens_decoder") as AddedToken), id: Number(id) });
    }
  } else {
    for (const [key, value] of Object.entries(sources.specialTokensMap ?? {})) {
      settings[key] = isToken(value) ? { ...value, special: true } : value;
    }
    const special = new Set<string>();
    for (const name of NAMED) if (settings[name]) special.add(contentOf(asToken(settings[name], where, name)));
    for (const token of extras(settings.extra_special_tokens))
      special.add(contentOf(asToken(token, where, "extra_special_tokens")));
    for (const [content, id] of Object.entries(sources.addedTokens ?? {})) {
      const isSpecial = special.has(content);
      declared.set(id, { id, content, special: isSpecial, normalized: !isSpecial });
    }
    for (const token of sources.json.added_tokens ?? []) declared.set(token.id, token);
    // Named there alone they do not make the tokens of added_tokens.json special. (In transformers 4 they do.)
    if (!("extra_special_tokens" in settings)) settings.extra_special_tokens = settings.additional_special_tokens;
  }
  const byContent = new Map([...declared.values()].map((token) => [token.content, token]));
  for (const name of NAMED) {
    const value = settings[name];
    const token =
      typeof value === "string" || isToken(value) ? byContent.get(contentOf(value as TokenSetting)) : undefined;
    if (token !== undefined) settings[name] = token;
  }
  return new Map([...declared].sort(([a], [b]) => a - b));
}

/**
 * What the class makes of the vocabulary. transformers 5 builds GPT-2's and BERT's pipeline anew from vocabulary and
 * settings, whatever `tokenizer.json` says of normalizer and pre-tokenizer (4.x changes the named settings only). A file of
 * another kind keeps its own.
 */
function rebuilt(className: string, { json, config }: TokenizerSources): TokenizerJSON {
  const type = modelType(json.model);
  if (className === "GPT2Tokenizer" && type === "BPE" && isByteLevel(json)) {
    const byteLevel = {
      type: "ByteLevel",
      add_prefix_space: config.add_prefix_space === true,
      trim_offsets: true,
      use_regex: true,
    };
    const { vocab, merges } = json.model;
    return {
      ...json,
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: byteLevel,
      decoder: byteLevel,
      model: { type: "BPE", vocab, merges, fuse_unk: false },
    };
  }
  if (className === "BertTokenizer" && type === "WordPiece") {
    const unk = contentOf((config.unk_token as TokenSetting | undefined) ?? "[UNK]");
    const normalizer = {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: config.tokenize_chinese_chars ?? true,
      strip_accents: config.strip_accents ?? null,
      lowercase: config.do_lower_case ?? true,
    };
    return {
      ...json,
      added_tokens: [],
      normalizer,
      pre_tokenizer: { type: "BertPreTokenizer" },
      decoder: { type: "WordPiece", prefix: "##", cleanup: true },
      model: {
        type: "WordPiece",
        vocab: json.model.vocab,
        unk_token: unk,
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
      },
    };
  }
  return json;
}

/** Whether the tokens spell bytes. */
export function isByteLevel(json: TokenizerJSON): boolean {
  const parts = (part: TokenizerPartJSON | null | undefined, key: string): TokenizerPartJSON[] =>
    part === null || part === undefined
      ? []
      : part.type === "Sequence"
        ? ((part[key] ?? []) as TokenizerPartJSON[])
        : [part];
  const decoders = parts(json.decoder, "decoders");
  return (
    decoders.some((part) => part.type === "ByteLevel") &&
    decoders.every((part) => part.type === "ByteLevel" || part.type === "Fuse")
  );
}

/** tokenizers' `add_tokens`: a token that is known keeps its id and takes the new flags; returns those with a new id. */
function addTokens(
  json: TokenizerJSON,
  added: AddedToken[],
  toAdd: (AddedToken | string)[],
  named: ReadonlySet<string>,
): AddedToken[] {
  const { vocab } = json.model;
  const own: Readonly<Record<string, number>> = Array.isArray(vocab)
    ? Object.fromEntries(vocab.map(([piece], id) => [piece, id]))
    : vocab;
  const fresh: AddedToken[] = [];
  let next = Object.keys(own).length;
  for (const token of added) next = Math.max(next, token.id + 1);
  for (const token of toAdd) {
    const content = contentOf(token);
    if (content === "") continue;
    const flags =
      typeof token === "string"
        ? { special: true, normalized: false }
        : { ...token, special: token.special || named.has(content) };
    const place = added.findIndex((old) => old.content === content);
    const isOwn = Object.hasOwn(own, content);
    const id = place >= 0 ? added[place].id : isOwn ? own[content] : next;
    const entry = {
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: !flags.special,
      ...flags,
      content,
      id,
    };
    if (place >= 0) added[place] = entry;
    else {
      added.push(entry);
      if (!isOwn) fresh.push(entry);
    }
    next = Math.max(next, id + 1);
  }
  return fresh;
}

/** The post-processor, where the class or `add_bos_token` decides it; undefined: that of the file. */
function surrounded(
  sources: TokenizerSources,
  json: TokenizerJSON,
  named: ReadonlyMap<string, AddedToken | string>,
): TokenizerPartJSON | undefined {
  const { config, isFast } = sources;
  const className = (config.tokenizer_class ?? sources.modelClass ?? "").replace(/Fast$/, "");
  const bert = className === "BertTokenizer" && modelType(json.model) === "WordPiece";
  const asked = !isFast && (config.add_bos_token === true || config.add_eos_token === true);
  if (!bert && !asked) return undefined;
  const before = bert ? "cls_token" : config.add_bos_token === true ? "bos_token" : undefined;
  const after = bert ? "sep_token" : config.add_eos_token === true ? "eos_token" : undefined;
  const ids = new Map((json.added_tokens ?? []).map((token) => [token.content, token.id]));
  const special: Record<string, { id: string; ids: number[] }> = {};
  const item = (name: string | undefined) => {
    const token = name === undefined ? undefined : named.get(name);
    if (token === undefined) return [];
    const id = contentOf(token);
    special[id] = { id, ids: [ids.get(id) as number] };
    return [{ SpecialToken: { id, type_id: 0 } }];
  };
  const single = [...item(before), { Sequence: { id: "A", type_id: 0 } }, ...item(after)];
  return { type: "TemplateProcessing", single, special_tokens: special };
}

function isToken(value: unknown): value is AddedToken {
  return typeof value === "object" && value !== null && typeof (value as AddedToken).content === "string";
}

function contentOf(token: TokenSetting | AddedToken): string {
  return typeof token === "string" ? token : token.content;
}

function asToken(value: unknown, where: string, key: string): AddedToken | string {
  if (typeof value === "string" || isToken(value)) return value;
  return fail("checkpoint", {
    where: `${where}, ${key}`,
    found: JSON.stringify(value)?.slice(0, 60) ?? "nothing",
    expected: "a token: a string, or an object with content",
    fix: "correct it in tokenizer_config.json or special_tokens_map.json, or take the original model's files",
  });
}

function sameToken(a: AddedToken | undefined, b: AddedToken): boolean {
  if (a === undefined) return false;
  const flag = (token: AddedToken, key: "single_word" | "lstrip" | "rstrip" | "special") => token[key] ?? false;
  const normalized = (token: AddedToken) => token.normalized ?? !token.special;
  return (
    (["single_word", "lstrip", "rstrip", "special"] as const).every((key) => flag(a, key) === flag(b, key)) &&
    normalized(a) === normalized(b)
  );
}
