/**
 * @file A `tokenizer.json` at work: added tokens, normalizer, pre-tokenizer, model, post-processor, decoder, in the order and to
 * the letter of Hugging Face's tokenizers 0.23 (Rust). docs/decisions says why this is not left to its JavaScript relative.
 */
import { fail } from "../base/errors.ts";
import { type AddedToken, type Finder, isNormalized, tokenFinders } from "./added-tokens.ts";
import { createDecoder } from "./decoders.ts";
import { createModel } from "./models.ts";
import { createNormalizer, type Normalizer } from "./normalizers.ts";
import type { Model, TokenizerModelJSON, TokenizerPartJSON } from "./parts.ts";
import { createTemplate, type Template } from "./post-processors.ts";
import { createPreTokenizer, type PreTokenizer } from "./pre-tokenizers.ts";
import { spellBytes } from "./spelling.ts";

/** The contents of a `tokenizer.json`. */
export interface TokenizerJSON {
  /** From a piece of text to ids. */
  model: TokenizerModelJSON;
  /** Strings that are one token wherever they stand. Default: none. */
  added_tokens?: AddedToken[];
  /** What happens to a text first. null: nothing. */
  normalizer?: TokenizerPartJSON | null;
  /** How a text is cut into pieces for the model. null: it is one piece. */
  pre_tokenizer?: TokenizerPartJSON | null;
  /** What is added around the ids of a text. null: nothing. */
  post_processor?: TokenizerPartJSON | null;
  /** How tokens become text. null: they are joined with spaces. */
  decoder?: TokenizerPartJSON | null;
  /** Other fields are kept, not read. */
  [key: string]: unknown;
}

/** V8 copies substrings of up to 12 characters; a longer one would keep its whole document in memory through the cache. */
const CACHED_LENGTH = 12;
const CACHED_WORDS = 65536;

export class Engine {
  /** Token to id, added tokens included. */
  readonly ids: ReadonlyMap<string, number>;
  /** Id to token. An id that is missing stands for no text. */
  readonly tokens: ReadonlyMap<number, string>;
  readonly #special: ReadonlySet<string>;
  readonly #raw: Finder | null;
  readonly #normalized: Finder | null;
  readonly #normalize: Normalizer;
  readonly #preTokenizer: PreTokenizer;
  readonly #model: Model;
  readonly #template: Template;
  readonly #decode: (tokens: string[]) => string;
  readonly #cache = new Map<string, readonly number[]>();

  /**
   * @param vocab the model's own tokens, without the added ones
   * @param splitSpecial whether special tokens in a text are text like any other (`split_special_tokens`)
   * @throws Error - a part that is not known or contradicts another
   */
  constructor(json: TokenizerJSON, vocab: ReadonlyMap<string, number>, splitSpecial = false) {
    const added = json.added_tokens ?? [];
    const ids = new Map(vocab);
    const tokens = new Map<number, string>();
    for (const [token, id] of vocab) tokens.set(id, token);
    this.#normalize = createNormalizer(json.normalizer);
    for (const token of added) {
      ids.set(token.content, token.id);
      // A token that is looked for in normalized text is written as it stands there.
      tokens.set(token.id, isNormalized(token) ? this.#normalize(token.content) : token.content);
    }
    this.ids = ids;
    this.tokens = tokens;
    this.#special = new Set(added.filter((token) => token.special).map((token) => token.content));
    const finders = tokenFinders(splitSpecial ? added.filter((token) => !token.special) : added, this.#normalize);
    this.#raw = finders.raw;
    this.#normalized = finders.normalized;
    this.#preTokenizer = createPreTokenizer(json.pre_tokenizer);
    this.#model = createModel(json.model, vocab);
    this.#template = createTemplate(json.post_processor);
    this.#decode = createDecoder(json.decoder);
  }

  /** The ids of a text, the post-processor's included unless they are not wanted. The text holds no half of a surrogate pair. */
  encode(text: string, addSpecialTokens = true): number[] {
    const ids: number[] = [];
    for (const found of this.#raw === null ? [{ start: 0, text }] : this.#raw(text)) {
      if ("id" in found) ids.push(found.id);
      else this.#encodeNormalized(this.#normalize(found.text), found.start === 0, ids);
    }
    return addSpecialTokens ? this.#template(ids) : ids;
  }

  #encodeNormalized(text: string, first: boolean, ids: number[]): void {
    for (const found of this.#normalized === null ? [{ start: 0, text }] : this.#normalized(text)) {
      if ("id" in found) ids.push(found.id);
      else if (found.text !== "") {
        const pieces = this.#preTokenizer.split([{ text: found.text, first: first && found.start === 0 }]);
        for (const piece of pieces) for (const id of this.#encodePiece(piece.text)) ids.push(id);
      }
    }
  }

  #encodePiece(piece: string): readonly number[] {
    const known = this.#cache.get(piece);
    if (known !== undefined) return known;
    const ids = this.#model(this.#preTokenizer.spelled ? spellBytes(piece) : piece);
    if (piece.length <= CACHED_LENGTH) {
      if (this.#cache.size >= CACHED_WORDS) this.#cache.clear();
      this.#cache.set(piece, ids);
    }
    return ids;
  }

  /** The text of ids that are all in `tokens`. */
  decode(ids: ArrayLike<number>, skipSpecialTokens: boolean): string {
    const tokens: string[] = [];
    for (let i = 0; i < ids.length; i++) {
      const token = this.tokens.get(ids[i]) as string;
      if (!skipSpecialTokens || !this.#special.has(token)) tokens.push(token);
    }
    return this.#decode(tokens);
  }
}

/**
 * Content to id of the model's vocabulary, every part of it and of the added tokens checked.
 * @param known what this made of the same vocabulary
 */
export function checkedVocabulary(
  json: TokenizerJSON,
  where: string,
  known?: Map<string, number>,
): Map<string, number> {
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
  const check = (content: string, id: unknown) => {
    if (!Number.isInteger(id) || (id as number) < 0)
      bad(`id ${JSON.stringify(id)} for token ${JSON.stringify(content)}`, "a whole number from 0");
  };
  const ids = known ?? new Map<string, number>();
  if (!known) {
    // Unigram models list [piece, score] pairs: the id is the place in the list.
    if (Array.isArray(vocab)) for (const [id, [piece]] of vocab.entries()) ids.set(String(piece), id);
    else
      for (const content of Object.keys(vocab)) {
        check(content, vocab[content]);
        ids.set(content, vocab[content]);
      }
  }
  if (ids.size + added.length === 0) return bad("an empty vocabulary", "at least one token");
  for (const { content, id } of added) check(content, id);
  return ids;
}
