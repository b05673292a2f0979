/**
 * @file Per-token rewards: the KL penalty on every token, the score on the last one.
 */
import { fail } from "../base/errors.ts";
import { type KLInputs, type KLPenalty, klPerToken } from "./kl.ts";
import { checkLength, checkPadded, type Padded } from "./padded.ts";

/** What {@link rewardsFromScores} takes: B responses padded to T tokens. */
export interface RewardInputs extends KLInputs {
  /** The reward function's verdict on each whole response, [B]. */
  scores: ArrayLike<number>;
  /** β ≥ 0, reward per nat. */
  klCoef: number;
  /** Default `k1`. */
  penalty?: KLPenalty;
  /** Which of the [B, T] tokens exist; each row has at least one. */
  batch: Padded;
}

/**
 * r_t = −β·penalty_t + [t is the last existing token of its row]·score, where penalty_t is a function of
 * log π(x_t) − log π_ref(x_t) or, for `exact`, the KL at that token.
 *
 * Returns `rewards` [B * T] and `nonScoreRewards` [B * T], the KL part alone; both 0 where masked.
 * Source: Ziegler et al. 2019 (arXiv 1909.08593), section 2; lvwerra/trl@750f5fd53:trl/ppo.py and
 * huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `compute_rewards`. TRL leaves −β·penalty of whatever the padding holds
 * at masked positions; here these are 0.
 * Throws `shape` when lengths differ, `input` for a row without a token (its score would have no place), `numbers` when a
 * reward is NaN or infinite.
 */
export function rewardsFromScores(inputs: RewardInputs): { rewards: Float32Array; nonScoreRewards: Float32Array } {
  const { scores, logprobs, refLogprobs, exactKl, klCoef, batch } = inputs;
  const { rows, width, mask } = batch;
  checkPadded("rewardsFromScores", batch, { logprobs, refLogprobs, ...(exactKl && { exactKl }) });
  checkLength("rewardsFromScores", "scores", scores, rows, `[${rows}]`);
  const penalty = klPerToken(inputs.penalty ?? "k1", inputs);
  const nonScoreRewards = new Float32Array(rows * width);
  const rewards = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    let last = -1;
    for (let t = 0; t < width; t++) {
      const i = row * width + t;
      if (mask[i] !== 1) continue;
      nonScoreRewards[i] = -klCoef * penalty(i);
      rewards[i] = nonScoreRewards[i];
      if (!Number.isFinite(rewards[i])) {
        fail("numbers", {
          where: `rewardsFromScores, row ${row}, token ${t}`,
          found: `a KL reward of ${rewards[i]} (log-prob ${logprobs[i]}, reference ${refLogprobs[i]}, klCoef ${klCoef})`,
          expected: "a finite number",
          fix: "look for a token that policy or reference gives probability 0, or for NaN weights",
        });
      }
      last = i;
    }
    if (last < 0) {
      fail("input", {
        where: `rewardsFromScores, row ${row}`,
        found: "a response without a token",
        expected: "at least one, to carry the score",
        fix: "drop the row or sample with minNewTokens 1",
      });
    }
    rewards[last] += scores[row];
    if (!Number.isFinite(rewards[last])) {
      fail("numbers", {
        where: `rewardsFromScores, row ${row}`,
        found: `the score ${scores[row]}`,
        expected: "a finite number",
        fix: "make the reward function return finite scores",
      });
    }
  }
  return { rewards, nonScoreRewards };
}
