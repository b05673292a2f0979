/** @file The models of a `tokenizer.json`: from a piece of text to ids. */
import { bytePairModel } from "./bpe.ts";
import type { Model, TokenizerModelJSON } from "./parts.ts";

export type ModelType = "BPE" | "Unigram" | "WordPiece" | "WordLevel";

/** The type a model states, or the one its fields imply: files from before 2021 state none. */
export function modelType(json: TokenizerModelJSON): ModelType {
  if (json.type !== undefined) return json.type as ModelType;
  if (Array.isArray(json.vocab)) return "Unigram";
  if (json.merges !== undefined) return "BPE";
  return json.max_input_chars_per_word !== undefined ? "WordPiece" : "WordLevel";
}

/** @throws Error - a type that is not known, or a vocabulary that does not fit it */
export function createModel(json: TokenizerModelJSON, vocab: ReadonlyMap<string, number>): Model {
  switch (modelType(json)) {
    case "BPE":
      return bytePairModel(json, vocab);
    case "Unigram":
      return unigramModel(json, vocab);
    case "WordPiece":
      return wordPieceModel(json, vocab);
    case "WordLevel": {
      const unk = unknownToken(json, vocab);
      return (piece) => [vocab.get(piece) ?? unk()];
    }
    default:
      throw new Error(`Unknown TokenizerModel type: ${json.type}`);
  }
}

/** The id of the unknown token, asked for when the first one is met. */
function unknownToken(json: TokenizerModelJSON, vocab: ReadonlyMap<string, number>): () => number {
  return () => {
    const id = vocab.get(json.unk_token ?? "");
    if (id === undefined) throw new Error(`unk_token ${JSON.stringify(json.unk_token)} is not in the vocabulary`);
    return id;
  };
}

/** Longest match first (Schuster and Nakajima 2012); a piece with a part that is not known is unknown as a whole. */
function wordPieceModel(json: TokenizerModelJSON, vocab: ReadonlyMap<string, number>): Model {
  const prefix = json.continuing_subword_prefix ?? "##";
  const longest = json.max_input_chars_per_word ?? 100;
  const unk = unknownToken(json, vocab);
  return (piece) => {
    const characters = Array.from(piece);
    if (characters.length > longest) return [unk()];
    const ids: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start && id === undefined; end--) {
        const part = characters.slice(start, end).join("");
        id = vocab.get(start === 0 ? part : prefix + part);
      }
      if (id === undefined) return [unk()];
      ids.push(id);
      start = end + 1;
    }
    return ids;
  };
}

/** SentencePiece's penalty for a character that no piece holds. */
const UNKNOWN_PENALTY = 10;

/** The likeliest segmentation under a unigram language model (Kudo 2018), by Viterbi over the characters. */
function unigramModel(json: TokenizerModelJSON, vocab: ReadonlyMap<string, number>): Model {
  const pieces = json.vocab as [string, number][];
  const scores = new Map(pieces.map(([piece, score]) => [piece, score]));
  let longest = 1;
  let lowest = Number.POSITIVE_INFINITY;
  for (const [piece, score] of pieces) {
    longest = Math.max(longest, piece.length);
    lowest = Math.min(lowest, score);
  }
  const unk = json.unk_id ?? undefined;
  const utf8 = new TextEncoder();

  const idsOf = (part: string): number[] => {
    const id = vocab.get(part);
    if (id !== undefined) return [id];
    if (json.byte_fallback === true) {
      const name = (byte: number) => vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
      const bytes = Array.from(utf8.encode(part), name);
      if (!bytes.includes(undefined)) return bytes as number[];
    }
    if (unk === undefined) throw new Error("the text holds a character without a token, and there is no unk_id");
    return [unk];
  };

  return (text) => {
    const size = text.length; // in UTF-16 units: places inside a pair are never reached
    const best = new Float64Array(size + 1).fill(Number.NEGATIVE_INFINITY);
    const from = new Int32Array(size + 1).fill(-1);
    const unknown = new Uint8Array(size + 1);
    best[0] = 0;
    const reach = (start: number, end: number, score: number, isUnknown: boolean) => {
      if (from[end] !== -1 && score <= best[end]) return;
      best[end] = score;
      from[end] = start;
      unknown[end] = isUnknown ? 1 : 0;
    };
    for (let start = 0; start < size; ) {
      const width = (text.codePointAt(start) as number) > 0xffff ? 2 : 1;
      let single = false;
      for (let end = start + width; end <= Math.min(size, start + longest); end++) {
        const score = scores.get(text.slice(start, end));
        if (score === undefined) continue;
        single ||= end === start + width;
        reach(start, end, best[start] + score, vocab.get(text.slice(start, end)) === unk);
      }
      if (!single) reach(start, start + width, best[start] + lowest - UNKNOWN_PENALTY, true);
      start += width;
    }
    const parts: string[] = [];
    let run = false; // unknown characters in a row are one token
    for (let end = size; end > 0; end = from[end]) {
      const part = text.slice(from[end], end);
      if (unknown[end] === 1 && run) parts[parts.length - 1] = part + parts[parts.length - 1];
      else parts.push(part);
      run = unknown[end] === 1;
    }
    return parts.reverse().flatMap(idsOf);
  };
}
