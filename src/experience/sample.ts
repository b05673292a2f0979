/** @file What a reward function is shown, and what it may answer. */
import type { ChatMessage } from "../base/chat-messages.ts";
import type { Prompt } from "../data/prompts.ts";
import { scoredTokens, type TruncateOptions } from "../rl/scores.ts";
import { decodeContinuation } from "../tokenizer/continuation.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** One finished sequence, as text and as ids. Every call of a reward function gets a copy of its own. */
export interface RewardSample {
  /** The prompt as it was given; of a conversation, what the user said last. */
  prompt: string;
  /** The conversation that was answered, its system message included; undefined: the prompt is plain text. */
  messages?: ChatMessage[];
  /** What the response adds to the decoded prompt, without special tokens. */
  response: string;
  /** Prompt and response decoded together, without special tokens. */
  text: string;
  /** `response` with its special tokens, such as an end of text. */
  responseWithSpecialTokens: string;
  /** `text` with its special tokens, those of the prompt included. */
  textWithSpecialTokens: string;
  /** Token ids of the prompt, as the model read them. */
  promptTokens: number[];
  /** Token ids of the response as far as it is judged: to its end, or to truncateToken where that is set. */
  tokens: number[];
  /** The row of the prompts file that the prompt came from, by column: labels, targets. {} without columns. */
  row: Readonly<Record<string, unknown>>;
  /** Which prompt of the step it answers, from 0: responses of one group answer the same prompt, and are compared with each other. */
  group: number;
  /** Which of the group's responses it is, from 0. */
  copy: number;
}

/** Which prompt of a step a response answers, and which of the responses to it it is. */
export type GroupPlace = Pick<RewardSample, "group" | "copy">;

/** The places of responses that come in groups of `copies`, by their place in the step. */
export const groupPlace = (place: number, copies: number): GroupPlace => ({
  group: Math.floor(place / copies),
  copy: place % copies,
});

/** One score per sample, in order: numbers or booleans (true is 1), or Promises of them. */
export type RewardScores = ArrayLike<number | boolean | PromiseLike<number | boolean>>;

/** What a reward function knows about its call. */
export interface RewardContext {
  /** Aborts when nobody waits for the answer any more: it took too long, or the run is over. */
  signal?: AbortSignal;
}

/** Scores a batch: one finite number per sample, in order; higher is better. May be asynchronous. */
export type RewardFunction = (
  batch: RewardSample[],
  context?: RewardContext,
) => RewardScores | PromiseLike<RewardScores>;

/** How responses become samples. */
export interface Reader {
  readonly tokenizer: Tokenizer;
  /** Where the text that is judged ends, when that is before the response ends. */
  readonly truncation: TruncateOptions;
}

/**
 * A response as a reward function sees it: as it was sampled, as far as it counts, and decoded after its prompt.
 * @param query  int32 ids of the prompt
 * @param tokens int32 ids of the response
 */
export function readSample(
  { tokenizer, truncation }: Reader,
  { prompt, row, messages }: Prompt,
  query: Int32Array,
  tokens: Int32Array,
  { group, copy }: GroupPlace = { group: 0, copy: 0 },
): RewardSample {
  const judged = tokens.subarray(0, scoredTokens(tokens, truncation).count);
  const decode = (skipSpecialTokens: boolean) =>
    decodeContinuation((ids) => tokenizer.decode(ids, { skipSpecialTokens }), query, judged);
  const [plain, whole] = [decode(true), decode(false)];
  return {
    prompt,
    ...(messages && { messages: [...messages] }),
    response: plain.added,
    text: plain.text,
    responseWithSpecialTokens: whole.added,
    textWithSpecialTokens: whole.text,
    promptTokens: Array.from(query),
    tokens: Array.from(judged),
    row,
    group,
    copy,
  };
}
