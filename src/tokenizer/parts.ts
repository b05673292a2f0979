/** @file What a `tokenizer.json` is made of. */

/** What `type` names a part of a tokenizer and the rest describes it. */
export interface TokenizerPartJSON {
  type?: string;
  [key: string]: unknown;
}

/** The ids of one piece. */
export type Model = (piece: string) => number[];

/** `model` of a `tokenizer.json`. */
export interface TokenizerModelJSON {
  type?: string;
  vocab: Record<string, number> | [string, number][];
  merges?: unknown;
  unk_token?: string | null;
  unk_id?: number | null;
  continuing_subword_prefix?: string | null;
  end_of_word_suffix?: string | null;
  max_input_chars_per_word?: number;
  fuse_unk?: boolean;
  byte_fallback?: boolean;
  ignore_merges?: boolean;
}
