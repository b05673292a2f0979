/** @file A response token by token, as it is written down for people to look at: rounded, and no longer than can be looked at. */
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Experience } from "./experience.ts";

/** What is known of each token of a response. Numbers have five digits. */
export interface TokenRecord {
  /** The text of each of the prompt's last {@link PROMPT_TOKENS} tokens, special tokens included. */
  promptPieces: string[];
  /**
   * The text of each token of the response, of its first {@link RECORDED_TOKENS}, as are the numbers below. A token that ends within a
   * character has none; the one that completes it has the character.
   */
  pieces: string[];
  /** log π of the token under the distribution it was drawn from, nats. */
  logprobs: number[];
  /** The same of the reference; the difference is what the token adds to the KL by k1. Undefined: there is none (klLog none). */
  refLogprobs?: number[];
  /** The KL part of its reward, and for the last token the score; nothing where only whole responses are rewarded. */
  rewards?: number[];
  /** As the loss used them in the last epoch. */
  advantages: number[];
  /** π / π_old when the last epoch came to it: how far the step had moved the token's probability by then. */
  ratios: number[];
}

/** Tokens of a response that are written down with their numbers: about 60 bytes each. */
export const RECORDED_TOKENS = 1024;
/** Tokens of a prompt that are written down, the last ones. */
export const PROMPT_TOKENS = 256;

/** What the records of a batch are made of. Arrays per token are [B, W], as those of `data`. */
export interface RecordSources {
  readonly data: Experience;
  readonly tokenizer: Tokenizer;
  readonly refLogprobs?: Float32Array | undefined;
  readonly rewards?: Float32Array | undefined;
  /** Per token of every minibatch, in the order they were used; `index` is the place in [B, W]. */
  readonly update: { readonly index: Int32Array; readonly advantages: Float32Array; readonly logprobs: Float32Array };
}

const rounded = (x: number): number => Number(x.toPrecision(5));

/** The text of tokens, one by one: joined, the text of them all after those before. */
function textPieces(tokenizer: Tokenizer, ids: readonly number[], before: readonly number[]): string[] {
  const stream = tokenizer.createStream({ before, skipSpecialTokens: false });
  const pieces = ids.map((id) => stream.push(id));
  const rest = stream.end();
  if (pieces.length > 0) pieces[pieces.length - 1] += rest;
  return pieces;
}

/** The record of response b, and of others: the last epoch is looked up once. */
export function tokenRecords({
  data,
  tokenizer,
  refLogprobs,
  rewards,
  update,
}: RecordSources): (b: number) => TokenRecord {
  const { width } = data.batch;
  const last = new Map<number, number>();
  update.index.forEach((i, place) => {
    last.set(i, place);
  });
  return (b) => {
    const [query, tokens] = [data.queries[b], Array.from(data.responses[b].subarray(0, RECORDED_TOKENS))];
    const at = (values: ArrayLike<number>) => tokens.map((_, t) => rounded(values[b * width + t]));
    const used = (of: (place: number, i: number) => number) =>
      tokens.map((_, t) => {
        const i = b * width + t;
        const place = last.get(i);
        return place === undefined ? Number.NaN : rounded(of(place, i)); // its minibatch was left out
      });
    return {
      promptPieces: textPieces(
        tokenizer,
        Array.from(query.subarray(-PROMPT_TOKENS)),
        Array.from(query.subarray(0, -PROMPT_TOKENS)),
      ),
      pieces: textPieces(tokenizer, tokens, Array.from(query)),
      logprobs: at(data.logprobs),
      ...(refLogprobs && { refLogprobs: at(refLogprobs) }),
      ...(rewards && { rewards: at(rewards) }),
      advantages: used((place) => update.advantages[place]),
      ratios: used((place, i) => Math.exp(update.logprobs[place] - data.logprobs[i])),
    };
  };
}
