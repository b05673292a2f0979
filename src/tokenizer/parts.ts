/** @file What a `tokenizer.json` is made of. */

/** What `type` names a part of a tokenizer and the rest describes it. */
export interface TokenizerPartJSON {
  /** Which kind of part, such as "ByteLevel". */
  type?: string;
  /** The settings of that kind. */
  [key: string]: unknown;
}

/** The ids of one piece. */
export type Model = (piece: string) => number[];

/** `model` of a `tokenizer.json`. */
export interface TokenizerModelJSON {
  /** "BPE", "Unigram", "WordPiece" or "WordLevel"; without it the other fields tell. */
  type?: string;
  /** Token to id; of Unigram pairs of a piece and its log-probability, their place the id. */
  vocab: Record<string, number> | [string, number][];
  /** BPE: pairs of tokens, each [left, right] or "left right"; the first is merged first. */
  merges?: unknown;
  /** The token for what is not in the vocabulary. BPE, WordPiece and WordLevel. */
  unk_token?: string | null;
  /** The same as an id. Unigram. */
  unk_id?: number | null;
  /** What begins a token inside a word. Default: "##" for WordPiece, nothing for BPE. */
  continuing_subword_prefix?: string | null;
  /** What ends the last token of a word. BPE; default: nothing. */
  end_of_word_suffix?: string | null;
  /** Longer words, in characters, are unknown. WordPiece; default 100. */
  max_input_chars_per_word?: number;
  /** Whether unknown characters in a row are one token. BPE; default false. */
  fuse_unk?: boolean;
  /** Whether what is not in the vocabulary is written in tokens for its bytes, such as <0x0A>. Default false. */
  byte_fallback?: boolean;
  /** Whether a word that is in the vocabulary is its token, whatever the merges say. BPE; default false. */
  ignore_merges?: boolean;
}
