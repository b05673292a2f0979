/**
 * @file Generalised advantage estimation.
 */
import { checkPadded, type Padded } from "./padded.ts";

/** What {@link gae} takes: B responses padded to T tokens. */
export interface GAEInputs {
  /** [B * T]. */
  rewards: ArrayLike<number>;
  /** V_t, the value before token t was chosen, [B * T]. */
  values: ArrayLike<number>;
  /** Which of the [B, T] tokens exist. */
  batch: Padded;
  /** Discount γ; 1 for responses. */
  gamma: number;
  /** λ in [0, 1]; 0.95 in the published runs. */
  lambda: number;
}

/**
 * Backwards over the existing tokens of each row, with V = 0 and A = 0 after the last one:
 *
 *     δ_t = r_t + γ·V_{t+1} − V_t      A_t = δ_t + γ·λ·A_{t+1}      R_t = A_t + V_t
 *
 * Returns `advantages` (not whitened) and `returns`, both [B * T] and 0 where masked. A masked position inside a row is
 * stepped over, as if the row had been written without it.
 * Source: Schulman et al. 2016 (arXiv 1506.02438), equations 11 and 16; lvwerra/trl@750f5fd53:trl/ppo.py `loss`;
 * huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `compute_advantages`. TRL whitens rewards first when asked, which leaves
 * (0 − mean)/σ + mean at padded positions for GAE to carry into the real tokens; here the padding is never read.
 * Throws a `shape` error when lengths differ.
 */
export function gae(inputs: GAEInputs): { advantages: Float32Array; returns: Float32Array } {
  const { rewards, values, batch, gamma, lambda } = inputs;
  const { rows, width, mask } = batch;
  checkPadded("gae", batch, { rewards, values });
  const advantages = new Float32Array(rows * width);
  const returns = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    let nextValue = 0;
    let advantage = 0;
    for (let i = (row + 1) * width - 1; i >= row * width; i--) {
      if (mask[i] !== 1) continue;
      const delta = rewards[i] + gamma * nextValue - values[i];
      advantage = delta + gamma * lambda * advantage;
      nextValue = values[i];
      advantages[i] = advantage;
      returns[i] = advantage + values[i];
    }
  }
  return { advantages, returns };
}
