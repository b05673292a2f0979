/** @file Where the text that is scored ends, when that is before the response ends. */
import type { ScoreFacts } from "./scores.ts";

export interface TruncateOptions {
  /** The token that ends the scored text; null: nothing does. */
  truncateToken: number | null;
  /** Tokens of the response before which it does not. */
  truncateAfter: number;
}

/**
 * The first truncate token at or after position `truncateAfter`, counted from 0, ends the text; it belongs to it. Learning
 * goes on over the whole response.
 * Source: openai/lm-human-preferences:lm_human_preferences/lm_tasks.py `postprocess_fn_from_hparams`.
 * @returns the number of tokens that are scored, and whether there was such a token (true when none is asked for)
 */
export function scoredTokens(
  tokens: Int32Array,
  { truncateToken, truncateAfter }: TruncateOptions,
): { count: number; complete: boolean } {
  if (truncateToken === null) return { count: tokens.length, complete: true };
  const end = tokens.indexOf(truncateToken, truncateAfter);
  return end < 0 ? { count: tokens.length, complete: false } : { count: end + 1, complete: true };
}

/** What {@link shapeScores} asks of each response. Without end tokens every response counts as ended. */
export function scoreFacts(
  responses: readonly Int32Array[],
  truncation: TruncateOptions,
  endTokens: readonly number[],
): ScoreFacts {
  return {
    complete: responses.map((tokens) => scoredTokens(tokens, truncation).complete),
    hasEos: responses.map((tokens) => endTokens.length === 0 || endTokens.some((id) => tokens.includes(id))),
  };
}
