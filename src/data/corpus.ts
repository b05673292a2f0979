/** @file Text files to one array of token ids, for language-model training. */
import { fail } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import { shorten } from "../base/text.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { encodeResponse, looksLikeResponse, type PromptResponse } from "./responses.ts";
import { openTable, type Row, textOf } from "./tables.ts";

/** Token ids, in two bytes each where the vocabulary allows it. */
export type TokenIds = Uint16Array | Int32Array;

/** A tokenized corpus: every document followed by the end-of-text token. */
export interface Corpus {
  /** All documents, one after another. */
  ids: TokenIds;
  /** Where each document ends in `ids`: the position after its end-of-text token. Ascending; the last is `ids.length`. */
  documentEnds: number[];
  /** UTF-8 bytes of each document, for losses in bits per byte; where responses alone are learned, of those. */
  documentBytes: number[];
  /** Where responses alone are learned: 1 for each token of one, as long as `ids`. undefined: every token is learned. */
  learned?: Uint8Array;
}

/** How much of a corpus is tokenized. */
export interface CorpusProgress {
  /** Documents so far. */
  documents: number;
  /** Tokens so far, the end-of-text tokens included. */
  tokens: number;
  /** UTF-8 bytes of the documents so far. */
  bytes: number;
}

/** A text, or a prompt with the response that alone is learned. */
export type Document = string | PromptResponse;

const PROGRESS_EVERY = 256; // documents

/**
 * The documents of files, in order; `-` is stdin. `.txt`: paragraphs; a document ends where one or more blank lines are.
 * `.json`, `.jsonl`: strings, or objects with the text in `column`. `.csv`, `.tsv` and `.parquet`: the text in `column`.
 * All but Parquet may be gzipped (`.gz`). Documents without a visible character are left out.
 * @throws data - another kind of file, one that cannot be read, a row without that column
 */
export async function* readCorpus(
  paths: readonly string[],
  options: { column?: string; columnOption?: string } = {},
): AsyncGenerator<string, void, undefined> {
  const { column = "text", columnOption } = options;
  for (const path of paths) {
    const table = await openTable(path);
    for await (const text of table.kind === "txt" ? paragraphs(table.lines) : texts(table.rows, column, columnOption)) {
      if (text.trim() !== "") yield text;
    }
  }
}

async function* paragraphs(source: AsyncIterable<string>): AsyncGenerator<string, void, undefined> {
  let lines: string[] = [];
  for await (const line of source) {
    if (line.trim() !== "") lines.push(line);
    else {
      yield lines.join("\n");
      lines = [];
    }
  }
  yield lines.join("\n");
}

async function* texts(
  rows: AsyncIterable<Row>,
  column: string,
  option?: string,
): AsyncGenerator<string, void, undefined> {
  for await (const row of rows) {
    const { where, value } = row;
    if (typeof value === "object" && !Object.hasOwn(value, column) && looksLikeResponse(value))
      fail("data", {
        where,
        found: `a prompt with its response (${shorten(Object.keys(value).join(", "), 200)})`,
        expected: `a text, in the column ${column}`,
        fix: `${option ? "add --responses" : "read the file with readResponses"} to learn the responses, or name the column of a text`,
      });
    yield textOf(row, [column], option) ?? "";
  }
}

/**
 * Tokenizes documents, the end-of-text token after each; of prompts with responses, the responses alone are learned. A special token written out in a document becomes its id.
 * @throws data - no documents
 * @throws checkpoint - a tokenizer without an end-of-text token
 */
export async function tokenizeCorpus(
  documents: AsyncIterable<Document> | Iterable<Document>,
  tokenizer: Tokenizer,
  onProgress?: (progress: CorpusProgress) => void,
): Promise<Corpus> {
  const steps = tokenizing(documents, tokenizer);
  let next = await steps.next();
  for (; !next.done; next = await steps.next()) onProgress?.(next.value);
  return next.value;
}

/** {@link tokenizeCorpus} as it goes on: says how far it is, and returns the corpus. */
export async function* tokenizing(
  documents: AsyncIterable<Document> | Iterable<Document>,
  tokenizer: Tokenizer,
): AsyncGenerator<CorpusProgress, Corpus> {
  const end = tokenizer.eosTokenId;
  if (end === null) {
    fail("checkpoint", {
      where: tokenizer.where,
      found: "no end-of-text token",
      expected: "one to put between documents",
      fix: "set eos_token in tokenizer_config.json",
    });
  }
  const ArrayType = tokenizer.vocabSize <= 65536 ? Uint16Array : Int32Array;
  let ids: TokenIds = new ArrayType(1 << 16);
  let tokens = 0;
  let bytes = 0;
  const documentEnds: number[] = [];
  const documentBytes: number[] = [];
  const progress = () => ({ documents: documentEnds.length, tokens, bytes });
  const encoder = new TextEncoder();
  const answers: [begin: number, end: number][] = [];
  for await (const document of documents) {
    const isText = typeof document === "string";
    const { ids: encoded, begin } = isText
      ? { ids: tokenizer.encode(document), begin: 0 }
      : encodeResponse(document, tokenizer);
    const last = encoded.at(-1) === end ? 0 : 1; // what a prompt with its response ends with, it has already
    const needed = tokens + encoded.length + (isText ? 1 : last);
    if (needed > ids.length) {
      const larger: TokenIds = new ArrayType(Math.max(needed, 2 * ids.length));
      larger.set(ids);
      ids = larger;
    }
    ids[needed - 1] = end;
    ids.set(encoded, tokens);
    if (!isText) answers.push([tokens + begin, tokens + encoded.length]);
    tokens = needed;
    const learned = isText ? document : tokenizer.decode(encoded.subarray(begin), { skipSpecialTokens: true });
    const size = encoder.encode(learned).length;
    bytes += size;
    documentEnds.push(tokens);
    documentBytes.push(size);
    if (documentEnds.length % PROGRESS_EVERY === 0) yield progress();
  }
  if (documentEnds.length === 0) {
    fail("data", {
      where: "corpus",
      found: "no text",
      expected: "at least one document",
      fix: "check the data files: blank documents do not count",
    });
  }
  yield progress();
  const corpus = { ids: ids.slice(0, tokens), documentEnds, documentBytes };
  if (answers.length === 0) return corpus;
  const learned = new Uint8Array(tokens);
  for (const [from, to] of answers) learned.fill(1, from, to);
  return { ...corpus, learned };
}

/** UTF-8 bytes of a corpus. */
export const corpusBytes = (corpus: Corpus): number => corpus.documentBytes.reduce((sum, bytes) => sum + bytes, 0);

/**
 * Sets whole documents aside: a random choice of them, until they hold at least `fraction` of the tokens. Both parts keep
 * the order of the corpus; the same seed makes the same choice.
 * @param fraction above 0 and below 1
 * @throws data - fewer than two documents, or nothing left to train on
 */
export function heldOut(corpus: Corpus, fraction: number, seed: number): { train: Corpus; heldOut: Corpus } {
  if (!(fraction > 0 && fraction < 1)) {
    fail("usage", {
      where: "held-out fraction",
      found: String(fraction),
      expected: "a number above 0 and below 1",
      fix: "0.01 to 0.1 is usual",
    });
  }
  const count = corpus.documentEnds.length;
  const length = (document: number) => corpus.documentEnds[document] - (corpus.documentEnds[document - 1] ?? 0);
  const aside = new Set<number>();
  let tokens = 0;
  for (const document of stream(seed, "heldOutDocuments").permutation(count)) {
    if (tokens >= fraction * corpus.ids.length) break;
    aside.add(document);
    tokens += length(document);
  }
  if (aside.size === count) {
    fail("data", {
      where: "corpus",
      found: `${count} document${count === 1 ? "" : "s"}, all of which would be held out`,
      expected: "documents for both training and held-out loss",
      fix: "add documents, hold out less, or give held-out data in files of its own",
    });
  }
  const pick = (inside: boolean): Corpus => {
    const chosen = Array.from({ length: count }, (_, i) => i).filter((document) => aside.has(document) === inside);
    const ids = corpus.ids.slice(0, inside ? tokens : corpus.ids.length - tokens);
    const learned = corpus.learned && new Uint8Array(ids.length);
    const documentEnds: number[] = [];
    let at = 0;
    for (const document of chosen) {
      const stop = corpus.documentEnds[document];
      ids.set(corpus.ids.subarray(stop - length(document), stop), at);
      if (corpus.learned) learned?.set(corpus.learned.subarray(stop - length(document), stop), at);
      at += length(document);
      documentEnds.push(at);
    }
    const documentBytes = chosen.map((document) => corpus.documentBytes[document]);
    return { ids, documentEnds, documentBytes, ...(learned && { learned }) };
  };
  return { train: pick(false), heldOut: pick(true) };
}
