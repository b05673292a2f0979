/** @file Finite rewards of a size that makes other numbers infinite: named as the cause, for no learning rate mends them. */
import { shorten } from "../base/describe.ts";
import { ValueheadError } from "../base/errors.ts";
import type { ScoreConfig } from "../rl/options.ts";
import type { RewardSample } from "./sample.ts";

/**
 * Beyond this a reward is the cause. The value loss squares it, and float32 ends at 3.4e38; gradients are a reward times hidden
 * states, which may be 1e4 to 1e6 in all, and are squared too. Rewards below cannot bring about either.
 */
const EXTREME = 1e12;

interface Judged {
  readonly episodes: readonly RewardSample[];
  /** What the reward function said. */
  readonly scores: readonly number[];
}

/**
 * The error of a step, and where its numbers went bad because of a reward, one that says which.
 * @param judged undefined: the step had not come to scores
 */
export function nameExtreme(
  error: unknown,
  judged: Judged | undefined,
  { scoreClip, scoreScaling }: Pick<ScoreConfig, "scoreClip" | "scoreScaling">,
): unknown {
  if (judged === undefined) return error;
  const { episodes, scores } = judged;
  const sizes = scores.map(Math.abs);
  const b = sizes.indexOf(Math.max(...sizes));
  const bounded = scoreClip > 0 || scoreScaling !== "none";
  if (!(error instanceof ValueheadError && error.kind === "numbers") || bounded || sizes[b] < EXTREME) return error;
  const { where, found } = error.problem;
  const { prompt, response } = episodes[b];
  return new ValueheadError(
    "numbers",
    {
      where,
      found: `a reward of ${scores[b]} for response ${b} (prompt ${shorten(prompt, 60)}, response ${shorten(response, 60)}), which leads to ${found}`,
      expected: "rewards that float32 can square and add up: near 1 as a rule",
      fix: "scale the reward down or set scoreClip; learningRate does not help",
    },
    { cause: error },
  );
}
