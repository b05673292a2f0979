/** @file What the loss is given: rewards in, advantages and returns out, with whatever is whitened on the way. */
import { gae } from "./advantages.ts";
import { checkPadded, type Padded } from "./padded.ts";
import { whiten } from "./whiten.ts";

export interface TargetOptions {
  gamma: number;
  lambda: number;
  /** Rewards to variance 1, their mean kept. */
  whitenRewards: boolean;
  /** Advantages to mean 0 and variance 1. */
  whitenAdvantages: boolean;
  /** Whose mean and variance: those of all tokens of the batch, or of the minibatch that is learned from. */
  whiteningScope: "batch" | "minibatch";
  /** Variance over n - 1 as torch.var, or over n as tf.nn.moments. */
  whiteningVariance: "unbiased" | "biased";
}

export interface Targets {
  /** [B * T], as the loss uses them. */
  advantages: Float32Array;
  /** [B * T]: R = A + V_old, A before whitening. */
  returns: Float32Array;
  /** With whitening per minibatch: the targets of one, given its rows. Other rows are 0 there. */
  ofRows?: (rows: ArrayLike<number>) => Targets;
}

/**
 * Rewards, whitened if asked -> generalised advantage estimation -> advantages, whitened if asked.
 *
 * The whole batch is what huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `compute_advantages` whitens over. Whitening
 * inside the minibatch is what lvwerra/trl@750f5fd53:trl/ppo.py `loss` does, where a minibatch is one sequence, and
 * openai/lm-human-preferences:lm_human_preferences/train_policy.py `loss`, where it is the batch.
 * Throws a `shape` error when lengths differ.
 */
export function learningTargets(
  inputs: { rewards: ArrayLike<number>; values: ArrayLike<number>; batch: Padded },
  options: TargetOptions,
): Targets {
  const { rewards, values, batch } = inputs;
  checkPadded("learningTargets", batch, { rewards, values });
  const { gamma, lambda, whitenRewards, whitenAdvantages } = options;
  const unbiased = options.whiteningVariance === "unbiased";
  const compute = (part: Padded): Targets => {
    const scaled = whitenRewards ? whiten(rewards, part.mask, { shiftMean: false, unbiased }) : rewards;
    const { advantages, returns } = gae({ rewards: scaled, values, batch: part, gamma, lambda });
    return { advantages: whitenAdvantages ? whiten(advantages, part.mask, { unbiased }) : advantages, returns };
  };
  const whole = compute(batch);
  return options.whiteningScope === "batch" ? whole : { ...whole, ofRows: (rows) => compute(onlyRows(batch, rows)) };
}

/** The same batch with the tokens of other rows masked out. */
function onlyRows({ rows, width, mask }: Padded, kept: ArrayLike<number>): Padded {
  const part = new Uint8Array(mask.length);
  for (let i = 0; i < kept.length; i++) {
    const start = kept[i] * width;
    part.set(mask.subarray(start, start + width), start);
  }
  return { rows, width, mask: part };
}
