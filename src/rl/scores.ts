/** @file From what the reward function says to what PPO is given: where the scored text ends, penalties, scaling, clipping. */
import { fail } from "../base/errors.ts";

/** Mean and variance of every score so far. Plain data, safe for JSON. */
export interface RunningMoments {
  /** Mean of the scores; 0 before the first. */
  mean: number;
  /** Biased: over n. */
  variance: number;
  /** Scores so far, n. */
  count: number;
}

/** Before the first batch. */
export const NO_MOMENTS: RunningMoments = { mean: 0, variance: 1, count: 0 };

/**
 * The moments of old and new scores together (Chan, Golub and LeVeque 1979).
 * Source: huggingface/trl@v0.11.4:trl/trainer/utils.py `RunningMoments.update`, in float64. TRL starts from a count of
 * 1e-24, which in float64 is no count at all.
 */
export function addMoments(before: RunningMoments, scores: ArrayLike<number>): RunningMoments {
  const n = scores.length;
  if (n === 0) return before;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += scores[i] / n;
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (scores[i] - mean) ** 2;
  const count = before.count + n;
  const delta = mean - before.mean;
  const sum = before.variance * before.count + squares + (delta ** 2 * before.count * n) / count;
  return { mean: before.mean + (delta * n) / count, variance: sum / count, count };
}

/** The unbiased standard deviation; 0 for one score. */
export function runningStd({ variance, count }: RunningMoments): number {
  return count > 1 ? Math.sqrt((variance * count) / (count - 1)) : 0;
}

export interface ScoreOptions {
  /** Replaces the score of a response without the truncate token; null: nothing does. */
  failScore: number | null;
  /** Subtracted from the score of a response without the end-of-text token. */
  missingEosPenalty: number;
  /** `scale` divides by the running standard deviation, `normalize` subtracts the running mean first. */
  scoreScaling: "none" | "scale" | "normalize";
  /** Scores beyond this, on either side, become this; 0: none do. */
  scoreClip: number;
}

/** What is known of each response, [B]. */
export interface ScoreFacts {
  /** Whether it has a truncate token where it counts; all true when none is asked for. */
  complete: readonly boolean[];
  /** Whether it has the end-of-text token. */
  hasEos: readonly boolean[];
}

/** torch.finfo(torch.float32).eps, which TRL adds to the standard deviation. */
const FLOAT32_EPSILON = 2 ** -23;

/**
 * In this order: `failScore`, `missingEosPenalty`, `scoreScaling`, `scoreClip`. Moments are those of the scores that are
 * scaled, this batch's included.
 * Sources: openai/lm-human-preferences:lm_human_preferences/train_policy.py `make_score_fn` (the replaced score);
 * huggingface/trl:trl/experimental/ppo/ppo_trainer.py (the penalty); huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py
 * `step` (scaling, then clipping; there the line reads `.to` of a float and fails, here its formula is computed).
 * While all scores so far are equal there is nothing to scale by, and they are not divided; TRL divides by 1e-7.
 * @returns the scores [B] and the moments for the next batch
 * @throws shape - lists of different lengths
 */
export function shapeScores(
  scores: readonly number[],
  facts: ScoreFacts,
  options: ScoreOptions,
  moments: RunningMoments = NO_MOMENTS,
): { scores: number[]; moments: RunningMoments } {
  const { failScore, missingEosPenalty, scoreScaling, scoreClip } = options;
  for (const name of ["complete", "hasEos"] as const)
    if (facts[name].length !== scores.length)
      fail("shape", {
        where: `shapeScores, ${name}`,
        found: `${facts[name].length} responses`,
        expected: `${scores.length}, one for each score`,
        fix: "pass what belongs to the same batch",
      });
  const judged = scores.map((score, b) => {
    const kept = failScore === null || facts.complete[b] ? score : failScore;
    return facts.hasEos[b] ? kept : kept - missingEosPenalty;
  });
  const clip = (score: number) => (scoreClip > 0 ? Math.min(Math.max(score, -scoreClip), scoreClip) : score);
  if (scoreScaling === "none") return { scores: judged.map(clip), moments };
  const updated = addMoments(moments, judged);
  const std = runningStd(updated);
  const divisor = std > FLOAT32_EPSILON * Math.abs(updated.mean) ? std + FLOAT32_EPSILON : 1;
  const centre = scoreScaling === "normalize" ? updated.mean : 0;
  return { scores: judged.map((score) => clip((score - centre) / divisor)), moments: updated };
}

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
