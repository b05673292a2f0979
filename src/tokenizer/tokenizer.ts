/**
 * @file Text to token ids and back. The engine does the work; this class adds what a language model needs around it: batches with
 * padding and truncation, streaming, and checks.
 */
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { readIds } from "../base/token-ids.ts";
import { joinPath, makeDirectory, parentDirectory, writeAtomic, writeTextAtomic } from "../platform/files.ts";
import { withinTime } from "../platform/time-limit.ts";
import { type ChatMessage, type ChatTemplateOptions, ChatTemplates, templatesIn } from "./chat-template.ts";
import { decodeContinuation } from "./continuation.ts";
import { cleanUp } from "./decoders.ts";
import { checkedVocabulary, Engine, type TokenizerJSON } from "./engine.ts";
import { modelType } from "./models.ts";
import { isByteLevel, resolveTokenizer, type TokenizerConfig, type TokenizerSources } from "./resolve.ts";
import { TokenStream } from "./stream.ts";

export type { TokenizerJSON } from "./engine.ts";
export type { TokenizerConfig } from "./resolve.ts";

/** Where a tokenizer comes from: for errors, and to save it again. */
export interface TokenizerOrigin {
  /** What errors call the tokenizer, usually a path. */
  where?: string;
  /** The files it was read from, name to contents; {@link Tokenizer.save} writes them unchanged. */
  files?: ReadonlyMap<string, string>;
  /** Files beside them that are not read, name to contents: chat templates, a licence. Saved with the others. */
  companions?: ReadonlyMap<string, Uint8Array>;
  /** What the other files say; default: nothing. */
  sources?: Partial<TokenizerSources>;
}

/** How texts become rows of one width. */
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
  /** [rows, width]. Padding holds the padding token, or the end token, or 0, whichever is in the vocabulary: whatever it is, the mask says not to read it. */
  inputIds: Int32Array;
  /** [rows, width], 1 = token, 0 = padding. */
  attentionMask: Uint8Array;
  /** Texts. */
  rows: number;
  /** The longest row, in tokens. */
  width: number;
  /** [rows], tokens in each row. */
  lengths: Int32Array;
}

/** Seconds that the patterns of a file may take for one text. */
const PATIENCE = 10;

/** Whether a part of a tokenizer.json holds a regular expression, at any depth. */
function hasPattern(part: unknown): boolean {
  if (typeof part !== "object" || part === null) return false;
  return Object.hasOwn(part, "Regex") || Object.values(part).some(hasPattern);
}

/**
 * A tokenizer. `encode` gives what `tokenizer(text)["input_ids"]` gives in transformers, `decode` what
 * `tokenizer.decode(ids)` gives there.
 *
 * A JavaScript string may hold half of a surrogate pair, which UTF-8 cannot express: it is encoded as U+FFFD, the
 * replacement character, as TextEncoder and String.prototype.toWellFormed do. (Python's tokenizers refuse such text.)
 */
export class Tokenizer {
  /** The largest id + 1, added tokens included: a model needs at least this many embeddings. */
  readonly vocabSize: number;
  /** The id that ends a text, or null when the tokenizer has none. */
  readonly eosTokenId: number | null;
  /** The id for padding, or null when the tokenizer has none. */
  readonly padTokenId: number | null;
  /** What errors call this tokenizer. */
  readonly where: string;
  /** Whether the text of a sequence is the concatenation of its tokens' bytes. */
  readonly isByteLevel: boolean;
  /** Notes for the user on how the files were read. */
  readonly notes: readonly string[];
  readonly #engine: Engine;
  /** Everything that its files say about it. */
  readonly #json: TokenizerJSON;
  readonly #files: ReadonlyMap<string, string>;
  readonly #companions: ReadonlyMap<string, Uint8Array>;
  readonly #config: TokenizerConfig;
  /** Special tokens by name, such as `bos_token`. */
  readonly #named: ReadonlyMap<string, string>;
  #chat?: ChatTemplates;
  /** The first id that only a configuration gave a token; the model need have no rows from there on. */
  readonly #appendedFrom: number;
  readonly #cleansUp: boolean;
  /** Whether it uses regular expressions from its file, which may run for any length of time. */
  readonly #isPatterned: boolean;

  private constructor(given: TokenizerJSON, config: TokenizerConfig, origin: TokenizerOrigin) {
    this.where = origin.where ?? "tokenizer";
    const own = checkedVocabulary(given, this.where);
    const { json, named, appended } = this.#built(() =>
      resolveTokenizer({ isFast: true, ...origin.sources, where: this.where, json: given, config }),
    );
    const vocab = checkedVocabulary(json, this.where, json.model.vocab === given.model.vocab ? own : undefined);
    this.#json = json;
    this.#isPatterned = [json.normalizer, json.pre_tokenizer, json.decoder].some(hasPattern);
    this.#engine = this.#built(() =>
      this.#bounded("", () => new Engine(json, vocab, config.split_special_tokens === true)),
    );
    let largest = -1;
    for (const id of this.#engine.tokens.keys()) if (id > largest) largest = id;
    this.vocabSize = largest + 1;
    const idOf = (name: string) => this.#engine.ids.get(named.get(name) ?? "") ?? null;
    this.eosTokenId = idOf("eos_token");
    this.padTokenId = idOf("pad_token");
    this.isByteLevel = isByteLevel(json);
    this.#appendedFrom = Math.min(this.vocabSize, ...appended.map((token) => token.id));
    this.#cleansUp = config.clean_up_tokenization_spaces === true && modelType(json.model) !== "BPE";
    this.notes = appended.map(
      (token) =>
        `${this.where}: ${JSON.stringify(token.content)} is configured but not in the vocabulary; it was added with id ` +
        `${token.id}, as transformers does. A model without a row for it never draws it, and refuses a text that holds it.`,
    );
    this.#companions = origin.companions ?? new Map();
    this.#config = config;
    this.#named = named;
    this.#files =
      origin.files ??
      new Map([
        ["tokenizer.json", JSON.stringify(given)],
        ["tokenizer_config.json", JSON.stringify(config)],
      ]);
  }

  /** What is wrong with a part of the files, as an error that says where. */
  #built<T>(build: () => T, what = "built"): T {
    try {
      return build();
    } catch (error) {
      if (error instanceof ValueheadError) throw error;
      return fail(
        "checkpoint",
        {
          where: this.where,
          found: `a tokenizer that cannot be ${what} (${messageOf(error)})`,
          expected: "the tokenizer.json of a Hugging Face fast tokenizer",
          fix: "save the tokenizer again with transformers, or copy the file of the original model",
        },
        error,
      );
    }
  }

  /**
   * A tokenizer from parsed `tokenizer.json` and `tokenizer_config.json`.
   * @throws checkpoint - what no tokenizer can be built from
   */
  static fromJson(json: TokenizerJSON, config: TokenizerConfig = {}, origin: TokenizerOrigin = {}): Tokenizer {
    return new Tokenizer(json, config, origin);
  }

  /**
   * The ids of a text, special tokens in the text included. `truncate` keeps the first so many ids. `addSpecialTokens: false`
   * leaves out those that the tokenizer puts around a text, such as a first `<s>`; default true.
   * @throws input - the text is not a string
   * @throws checkpoint - a character without a token, and no unknown token
   */
  encode(text: string, options: { truncate?: number; addSpecialTokens?: boolean } = {}): Int32Array {
    if (typeof text !== "string") {
      fail("input", { where: "encode", found: typeof text, expected: "a string", fix: "pass the text to tokenize" });
    }
    const ids = Int32Array.from(
      this.#built(
        () =>
          this.#bounded(text, () =>
            this.#engine.encode(text.replace(/\p{Surrogate}/gu, "\ufffd"), options.addSpecialTokens ?? true),
          ),
        "used",
      ),
    );
    return options.truncate === undefined ? ids : ids.slice(0, options.truncate);
  }

  /**
   * A conversation as the model reads it: the text that its chat template writes, special tokens included, and the ids of that
   * text, to which nothing is added. These are what `apply_chat_template` gives in transformers, with the same templates taken
   * from the same files. Where a template shows only text and a message's content is a list of text parts, they are joined
   * with line breaks. Special tokens written out in a message become their ids, as anywhere in a text.
   * @throws input - messages that are none, content that is not text, roles that the template refuses
   * @throws checkpoint - a tokenizer without a chat template, or one that does not work
   */
  applyChatTemplate(
    messages: readonly ChatMessage[],
    options: ChatTemplateOptions = {},
  ): { text: string; ids: Int32Array } {
    const text = this.#templates.render(messages, options);
    return { text, ids: this.encode(text, { addSpecialTokens: false }) };
  }

  /** The Jinja templates of conversations by name; `default` is used where none is named. Empty: this model has none. */
  get chatTemplates(): ReadonlyMap<string, string> {
    return this.#templates.texts;
  }

  /** Read when they are first needed: whoever has no conversations is not troubled by what is wrong with them. */
  get #templates(): ChatTemplates {
    const { chat_template: said } = this.#config;
    this.#chat ??= new ChatTemplates(this.where, templatesIn(said, this.#companions, this.where), this.#named);
    return this.#chat;
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
    // A token that only a configuration names may have no row in the model, which looks padding up like any other id.
    const filler = [this.padTokenId, this.eosTokenId].find((id) => id !== null && id < this.rows) ?? 0;
    const inputIds = new Int32Array(rows * width).fill(filler); // [rows, width]
    const attentionMask = new Uint8Array(rows * width);
    encoded.forEach((ids, row) => {
      const start = row * width + (paddingSide === "left" ? width - ids.length : 0);
      inputIds.set(ids, start);
      attentionMask.fill(1, start, start + ids.length);
    });
    return { inputIds, attentionMask, rows, width, lengths };
  }

  /**
   * The text of a sequence of ids. Bytes that are not UTF-8 become U+FFFD.
   * @throws input - an id outside the vocabulary, with its position
   */
  decode(ids: ArrayLike<number>, options: { skipSpecialTokens?: boolean } = {}): string {
    this.#checkIds(ids);
    return this.#decodeChecked(ids, options.skipSpecialTokens ?? false);
  }

  /**
   * What ids add to the text of those before them: `decode(before and ids)` without what `decode(before)` says. For most
   * tokenizers this is not `decode(ids)`, whose first word lacks its space.
   * @throws input - an id outside the vocabulary
   */
  decodeAfter(
    before: ArrayLike<number>,
    ids: ArrayLike<number>,
    options: { skipSpecialTokens?: boolean } = {},
  ): string {
    this.#checkIds(before);
    this.#checkIds(ids);
    return decodeContinuation((all) => this.decode(all, options), before, ids).added;
  }

  /**
   * One string per token, each decoded on its own: part of a character shows as U+FFFD.
   * @throws input - an id outside the vocabulary
   */
  decodeEach(ids: ArrayLike<number>): string[] {
    this.#checkIds(ids);
    return Array.from(ids, (id) => this.#decodeChecked([id], false));
  }

  #decodeChecked(ids: ArrayLike<number>, skipSpecialTokens: boolean): string {
    if (ids.length === 0) return "";
    const text = this.#bounded("", () => this.#engine.decode(ids, skipSpecialTokens));
    return this.#cleansUp ? cleanUp(text) : text;
  }

  /** The result of `work` on a text, with a time limit when a pattern from the file might never finish. */
  #bounded<T>(text: string, work: () => T): T {
    if (!this.#isPatterned) return work();
    const done = withinTime(PATIENCE, work);
    if (done) return done.result;
    const start = text === "" ? "" : `, which begins ${JSON.stringify(text.slice(0, 40))}`;
    return fail("checkpoint", {
      where: this.where,
      found: `a regular expression that takes more than ${PATIENCE} seconds on a text of ${text.length} characters${start}`,
      expected: "patterns whose time grows with the length of the text",
      fix: "copy tokenizer.json of the original model; if that is it, split the text",
    });
  }

  /** Whether there is a token with this id. */
  has(id: number): boolean {
    return this.#engine.tokens.has(id);
  }

  #checkIds(ids: ArrayLike<number>): void {
    const range = `an id of the tokenizer's vocabulary (0 to ${this.vocabSize - 1})`;
    const fixId = "use the tokenizer the ids were made with";
    const read = readIds(ids, {
      where: "decode",
      vocabSize: this.vocabSize,
      least: 0,
      noun: "token id",
      range,
      fixId,
    });
    const position = read.findIndex((id) => !this.has(id));
    if (position < 0) return;
    const found = `token id ${read[position]}`;
    fail("input", { where: `decode, position ${position}`, found, expected: range, fix: fixId });
  }

  /** The largest id + 1 among the tokens of the vocabulary's own files: so many rows a model must have at least. */
  get rows(): number {
    return this.#appendedFrom;
  }

  /**
   * A decoder that takes one id at a time and gives whole characters only. `before`: the ids that they follow.
   * @throws input - an id of `before` outside the vocabulary
   */
  createStream(options: { skipSpecialTokens?: boolean; before?: ArrayLike<number> } = {}): TokenStream {
    const { before = [] } = options;
    this.#checkIds(before);
    return new TokenStream((ids) => this.decode(ids, options), this.isByteLevel, this.#cleansUp, before);
  }

  /** The contents of its files as one text, to compare tokenizers by. */
  get fingerprint(): string {
    return JSON.stringify([...this.#files].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /**
   * Writes its files for programs that read tokenizer.json and tokenizer_config.json alone, such as transformers.js: the first
   * is made where there was none, the second has the chat templates in it.
   * @internal
   */
  async saveComplete(dir: string): Promise<void> {
    await this.save(dir);
    const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
    const parts = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
    const whole = { version: "1.0", truncation: null, padding: null, ...parts, ...this.#json };
    if (!this.#files.has("tokenizer.json")) await writeTextAtomic(joinPath(dir, "tokenizer.json"), json(whole));
    const texts = [...this.chatTemplates].map(([name, template]) => ({ name, template }));
    const templates = texts.length === 1 && texts[0].name === "default" ? texts[0].template : texts;
    const config = {
      ...Object.fromEntries(this.#named),
      ...this.#config,
      ...(templates.length > 0 ? { chat_template: templates } : {}),
    };
    await writeTextAtomic(joinPath(dir, "tokenizer_config.json"), json(config));
  }

  /** Writes the tokenizer's files, unchanged, into an existing directory. */
  async save(dir: string): Promise<void> {
    for (const [name, contents] of this.#files) await writeTextAtomic(joinPath(dir, name), contents);
    for (const [name, contents] of this.#companions) {
      const path = joinPath(dir, name);
      await makeDirectory(parentDirectory(path));
      await writeAtomic(path, (sink) => sink.write(contents));
    }
  }
}
