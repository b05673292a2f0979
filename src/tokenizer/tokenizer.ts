/**
 * @file Text to token ids and back. The algorithm is @huggingface/tokenizers; this class adds what a language model needs
 * around it: exact GPT-2 splitting, a cache of words, batches with padding and truncation, streaming, and checks.
 */
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { fail, messageOf } from "../base/errors.ts";
import { joinPath, writeTextAtomic } from "../runtime/files.ts";
import { TokenStream } from "./stream.ts";

/** The contents of a `tokenizer.json`. Only the parts looked at here are named; the library reads the rest. */
export interface TokenizerJson {
  model: { type?: string; vocab: Record<string, number>; merges?: unknown };
  added_tokens?: { id: number; content: string }[];
  normalizer?: unknown;
  pre_tokenizer?: { type?: string; add_prefix_space?: boolean; use_regex?: boolean } | null;
  post_processor?: { type?: string } | null;
  decoder?: { type?: string } | null;
}

/** The parts of a `tokenizer_config.json` (or `special_tokens_map.json`) that are used: a token, or an object around one. */
export interface TokenizerConfig {
  eos_token?: string | { content: string } | null;
  pad_token?: string | { content: string } | null;
  [key: string]: unknown;
}

export interface TokenizerOrigin {
  /** What errors call the tokenizer, a path as a rule. */
  where?: string;
  /** The files it was read from, name to contents; {@link Tokenizer.save} writes them unchanged. */
  files?: ReadonlyMap<string, string>;
}

export interface EncodeBatchOptions {
  /** The side the padding goes on. Decoding with a growing sequence wants `left`, training wants `right`. */
  paddingSide: "left" | "right";
  /** The longest row allowed, in tokens. Default: no limit. */
  maxLength?: number;
  /** The side tokens are taken from when a row is longer than `maxLength`. Default: `none`, such a row is an error. */
  truncation?: "none" | "left" | "right";
}

/** Rows of token ids of one width, row-major. */
export interface EncodedBatch {
  /** [rows, width]. Padding holds the padding token, or the end token, or 0: whatever it is, the mask says not to read it. */
  inputIds: Int32Array;
  /** [rows, width], 1 = token, 0 = padding. */
  attentionMask: Uint8Array;
  rows: number;
  /** The longest row, in tokens. */
  width: number;
  /** [rows], tokens in each row. */
  lengths: Int32Array;
}

/**
 * GPT-2's pre-tokenizer (Radford et al. 2019), with Unicode's White_Space in place of \s: JavaScript's \s has U+FEFF in
 * addition and lacks U+0085, which the IMDB reviews contain.
 */
const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
  "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+";

/** GPT-2's ByteLevel pre-tokenizer in two parts, so that the pattern is the one above. */
const GPT2_PRE_TOKENIZER = {
  type: "Sequence",
  pretokenizers: [
    { type: "Split", pattern: { Regex: GPT2_PATTERN }, behavior: "Isolated", invert: false },
    { type: "ByteLevel", add_prefix_space: false, use_regex: false },
  ],
};

/** V8 copies substrings of up to 12 characters; a longer one would keep its whole document in memory through the cache. */
const CACHED_LENGTH = 12;
const CACHED_WORDS = 65536;

const GPT2_END = "<|endoftext|>";

/**
 * A tokenizer. `encode` gives what `tokenizer(text)["input_ids"]` gives in transformers, `decode` what
 * `tokenizer.decode(ids, clean_up_tokenization_spaces=False)` gives.
 *
 * A JavaScript string may hold half of a surrogate pair, which UTF-8 cannot express: it is encoded as U+FFFD, the
 * replacement character, as TextEncoder and String.prototype.toWellFormed do. (Python's tokenizers refuse such text.)
 */
export class Tokenizer {
  /** The largest id + 1, added tokens included: a model needs at least this many embeddings. */
  readonly vocabSize: number;
  /** The id that ends a text, or null when the tokenizer has none. */
  readonly eosTokenId: number | null;
  readonly padTokenId: number | null;
  /** What errors call this tokenizer. */
  readonly where: string;
  /** Whether the text of a sequence is the concatenation of its tokens' bytes. */
  readonly isByteLevel: boolean;
  readonly #library: Library;
  readonly #files: ReadonlyMap<string, string>;
  readonly #added: string[];
  /** Splits a text into words whose ids do not depend on their neighbours; null when the tokenizer is not GPT-2's kind. */
  readonly #words: RegExp | null;
  readonly #cache = new Map<string, number[]>();

  private constructor(json: TokenizerJson, config: TokenizerConfig, origin: TokenizerOrigin) {
    this.where = origin.where ?? "tokenizer";
    const ids = checkedVocabulary(json, this.where);
    let largest = -1;
    for (const id of ids.values()) if (id > largest) largest = id;
    this.vocabSize = largest + 1;
    this.eosTokenId = namedToken(config, "eos_token", ids, this.where) ?? ids.get(GPT2_END) ?? null;
    this.padTokenId = namedToken(config, "pad_token", ids, this.where);
    this.isByteLevel = json.decoder?.type === "ByteLevel";
    this.#added = (json.added_tokens ?? []).map((token) => token.content);
    this.#files =
      origin.files ??
      new Map([
        ["tokenizer.json", JSON.stringify(json)],
        ["tokenizer_config.json", JSON.stringify(config)],
      ]);

    const split = splitsLikeGpt2(json);
    const plain = json.normalizer == null && (json.post_processor == null || json.post_processor.type === "ByteLevel");
    const rewritesText = Boolean(config.remove_space) || Boolean(config.do_lowercase_and_remove_accent);
    this.#words = split && plain && !rewritesText ? new RegExp(GPT2_PATTERN, "gu") : null;
    const complete = {
      added_tokens: [],
      normalizer: null,
      post_processor: null,
      decoder: null,
      ...json,
      pre_tokenizer: split ? GPT2_PRE_TOKENIZER : (json.pre_tokenizer ?? null),
    };
    try {
      this.#library = new Library(complete, config);
    } catch (error) {
      fail(
        "checkpoint",
        {
          where: this.where,
          found: `a tokenizer that cannot be built (${messageOf(error)})`,
          expected: "the tokenizer.json of a Hugging Face fast tokenizer",
          fix: "save the tokenizer again with transformers, or copy the file of the original model",
        },
        error,
      );
    }
  }

  /** A tokenizer from parsed `tokenizer.json` and `tokenizer_config.json`. */
  static fromJson(json: TokenizerJson, config: TokenizerConfig = {}, origin: TokenizerOrigin = {}): Tokenizer {
    return new Tokenizer(json, config, origin);
  }

  /**
   * The ids of a text, special tokens in the text included. `truncate` keeps the first so many ids.
   * @throws input - the text is not a string
   */
  encode(text: string, options: { truncate?: number } = {}): Int32Array {
    if (typeof text !== "string") {
      fail("input", { where: "encode", found: typeof text, expected: "a string", fix: "pass the text to tokenize" });
    }
    const ids = this.#encodeWords(text) ?? this.#library.encode(text).ids;
    return Int32Array.from(ids).slice(0, options.truncate);
  }

  /** Word by word through the cache; null when the text holds an added token or the tokenizer is of another kind. */
  #encodeWords(text: string): number[] | null {
    if (this.#words === null || this.#added.some((content) => text.includes(content))) return null;
    const ids: number[] = [];
    for (const word of text.match(this.#words) ?? []) {
      const known = this.#cache.get(word) ?? this.#encodeWord(word);
      for (const id of known) ids.push(id);
    }
    return ids;
  }

  #encodeWord(word: string): number[] {
    const ids = this.#library.encode(word).ids;
    if (word.length <= CACHED_LENGTH) {
      if (this.#cache.size >= CACHED_WORDS) this.#cache.clear();
      this.#cache.set(word, ids);
    }
    return ids;
  }

  /**
   * Many texts as one padded batch. An empty text is a row of padding.
   * @throws input - a row longer than `maxLength` without truncation
   */
  encodeBatch(texts: readonly string[], options: EncodeBatchOptions): EncodedBatch {
    const { paddingSide, maxLength = Number.POSITIVE_INFINITY, truncation = "none" } = options;
    const encoded = texts.map((text, row) => {
      const ids = this.encode(text);
      if (ids.length <= maxLength) return ids;
      if (truncation === "right") return ids.subarray(0, maxLength);
      if (truncation === "left") return ids.subarray(ids.length - maxLength);
      return fail("input", {
        where: `row ${row}`,
        found: `${ids.length} tokens`,
        expected: `at most ${maxLength}`,
        fix: "shorten the text, or allow truncation",
      });
    });
    const rows = encoded.length;
    const lengths = Int32Array.from(encoded, (ids) => ids.length);
    const width = lengths.reduce((longest, length) => Math.max(longest, length), 0);
    const inputIds = new Int32Array(rows * width).fill(this.padTokenId ?? this.eosTokenId ?? 0); // [rows, width]
    const attentionMask = new Uint8Array(rows * width);
    encoded.forEach((ids, row) => {
      const start = row * width + (paddingSide === "left" ? width - ids.length : 0);
      inputIds.set(ids, start);
      attentionMask.fill(1, start, start + ids.length);
    });
    return { inputIds, attentionMask, rows, width, lengths };
  }

  /**
   * The text of a sequence of ids, spaces left as they are. Bytes that are not UTF-8 become U+FFFD.
   * @throws input - an id outside the vocabulary, with its position
   */
  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    this.#checkIds(ids);
    return this.#decodeChecked(Array.from(ids), options.skipSpecialTokens ?? false);
  }

  /** One string per token, each decoded on its own: part of a character shows as U+FFFD. */
  decodeEach(ids: ArrayLike<number>): string[] {
    this.#checkIds(ids);
    return Array.from(ids, (id) => this.#decodeChecked([id], false));
  }

  #decodeChecked(ids: number[], skipSpecialTokens: boolean): string {
    if (ids.length === 0) return "";
    return this.#library.decode(ids, { skip_special_tokens: skipSpecialTokens, clean_up_tokenization_spaces: false });
  }

  /** Whether there is a token with this id. */
  has(id: number): boolean {
    return this.#library.id_to_token(id) !== undefined;
  }

  #checkIds(ids: ArrayLike<number>): void {
    for (let position = 0; position < ids.length; position++) {
      if (this.has(ids[position])) continue;
      fail("input", {
        where: `decode, position ${position}`,
        found: `token id ${ids[position]}`,
        expected: `an id of the tokenizer's vocabulary (0 to ${this.vocabSize - 1})`,
        fix: "use the tokenizer the ids were made with",
      });
    }
  }

  /** A decoder that takes one id at a time and gives whole characters only. */
  createStream(options: { skipSpecialTokens?: boolean } = {}): TokenStream {
    return new TokenStream((ids) => this.decode(ids, options), this.isByteLevel);
  }

  /** The contents of its files as one text, to compare tokenizers by. */
  get fingerprint(): string {
    return JSON.stringify([...this.#files].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** Writes the tokenizer's files, unchanged, into an existing directory. */
  async save(dir: string): Promise<void> {
    for (const [name, contents] of this.#files) await writeTextAtomic(joinPath(dir, name), contents);
  }
}

/**
 * Fails unless every id of the tokenizer has an embedding in the model. (More embeddings than ids are fine: some models
 * round their number up.)
 * @param vocabSize the model's `vocab_size`
 * @param where the model, for the message
 */
export function checkVocabulary(tokenizer: Tokenizer, vocabSize: number, where: string): void {
  if (tokenizer.vocabSize > vocabSize) {
    fail("checkpoint", {
      where,
      found: `a vocabulary of ${vocabSize} in the model and ${tokenizer.vocabSize} in the tokenizer (${tokenizer.where})`,
      expected: "a tokenizer whose ids all have an embedding",
      fix: "use the tokenizer the model was trained with",
    });
  }
}

/** Content to id of the whole vocabulary, added tokens included, every part of it checked. */
function checkedVocabulary(json: TokenizerJson, where: string): Map<string, number> {
  const bad = (found: string, expected: string): never =>
    fail("checkpoint", {
      where,
      found,
      expected,
      fix: "save the tokenizer again, or copy the file of the original model",
    });
  const vocab = json?.model?.vocab;
  if (vocab === null || typeof vocab !== "object") return bad("no model.vocab", "a tokenizer.json with model.vocab");
  if (json.model.type === "BPE" && !Array.isArray(json.model.merges)) {
    return bad("a BPE model without model.merges", "the list of merges");
  }
  const added: unknown = json.added_tokens ?? [];
  if (!Array.isArray(added) || !added.every((token) => typeof token?.content === "string"))
    return bad("added_tokens that are no tokens", "a list of objects with id and content");
  if (Array.isArray(vocab) && !vocab.every(Array.isArray))
    return bad("a model.vocab that lists no pieces", "a list of pairs");
  // Unigram models list [piece, score] pairs: the id is the place in the list.
  const entries: [string, unknown][] = Array.isArray(vocab)
    ? vocab.map((piece, id) => [String(piece[0]), id])
    : Object.entries(vocab);
  for (const token of added) entries.push([token.content, token.id]);
  if (entries.length === 0) return bad("an empty vocabulary", "at least one token");
  for (const [content, id] of entries) {
    if (!Number.isInteger(id) || (id as number) < 0) {
      return bad(`id ${JSON.stringify(id)} for token ${JSON.stringify(content)}`, "a whole number from 0");
    }
  }
  return new Map(entries as [string, number][]);
}

function namedToken(
  config: TokenizerConfig,
  key: "eos_token" | "pad_token",
  ids: Map<string, number>,
  where: string,
): number | null {
  const value = config[key];
  const content = typeof value === "object" && value !== null ? value.content : value;
  if (content === undefined || content === null) return null;
  return (
    ids.get(content) ??
    fail("checkpoint", {
      where,
      found: `${key} ${JSON.stringify(content)}, which is not in the vocabulary`,
      expected: "a token of the vocabulary",
      fix: `add the token to tokenizer.json, or correct ${key} in tokenizer_config.json`,
    })
  );
}

/** Whether the words of GPT-2's pattern are tokenized one by one, each by its bytes. */
function splitsLikeGpt2(json: TokenizerJson): boolean {
  const pre = json.pre_tokenizer;
  return json.model.type === "BPE" && pre?.type === "ByteLevel" && !pre.add_prefix_space && pre.use_regex !== false;
}
