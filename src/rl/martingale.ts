/**
 * @file Test martingales: evidence against "each token was drawn from the policy it is scored under", with a proven bound.
 *
 * Let p_t be that policy's distribution of token t, which may depend on everything before, earlier updates of the weights
 * included, and q_t any other distribution chosen before the token is seen. If the token was drawn from p_t, then
 * E[q_t(x_t) / p_t(x_t)] = Σ_x q_t(x) <= 1 given the past. So the product of these factors is a nonnegative supermartingale that
 * starts at 1, and so is every mixture of such products, over alternatives q and over the step at which a product begins:
 *
 *     M_T = Σ_i π_i Σ_s w_s Π_{t in steps s..T} q_i,t(x_t) / p_t(x_t)        Σ π_i = 1,  w_s = 1 / (s (s + 1))
 *
 * Ville's inequality: P(sup_T M_T >= 1 / α) <= α, for any data, any number of tokens, at all steps together.
 *
 * Sources: J. Ville 1939, "Étude critique de la notion de collectif"; Shafer, Shen, Vereshchagin and Vovk 2011, "Test martingales,
 * Bayes factors and p-values" (arXiv 0912.4269); Ramdas, Grünwald, Vovk and Shafer 2023, "Game-theoretic statistics and safe
 * anytime-valid inference" (arXiv 2210.01948).
 */

/** α: the largest share of honest runs, however long, that are stopped. */
export const FALSE_STOPS = 1e-6;

/** A run is stopped when log M reaches this: log(1 / α) = 13.8 nats. */
export const LOG_BOUND = -Math.log(FALSE_STOPS);

/**
 * What rounding may add to a factor, on average, without the bound being lost: every token multiplies each product by e^-ε.
 * Log-probs in float32 are off by 1e-6 or so, at random; this is for what of it does not average out over millions of tokens.
 */
export const ROUNDING = 1e-5;

/** Where the martingale stands. Plain data, safe for JSON. */
export interface MartingaleState {
  /** Steps tested. */
  readonly steps: number;
  /** For each alternative i: log of Σ_{s <= T} w_s Π_{t in steps s..T} q_i,t / p_t. One that is missing here is 0, its log minus infinity. */
  readonly logs: Readonly<Record<string, number>>;
}

/** Before the first step: M = 1, all of it on products that have not begun. */
export const NO_STEPS: MartingaleState = { steps: 0, logs: {} };

/** What each alternative gained in a step: Σ over its tokens of log q_i,t(x_t) / p_t(x_t). */
export type LogFactors = Readonly<Record<string, number>>;

/**
 * The state after one more step.
 * @param weights all alternatives with π_i; those without a factor in this step did not bet
 * @param tokens  of the step, for {@link ROUNDING}
 */
export function advance(
  { steps, logs }: MartingaleState,
  factors: LogFactors,
  weights: Readonly<Record<string, number>>,
  tokens: number,
): MartingaleState {
  const s = steps + 1;
  const begins = -Math.log(s * (s + 1));
  const next: Record<string, number> = {};
  for (const name of Object.keys(weights)) {
    const gained = name in factors ? factors[name] - ROUNDING * tokens : 0;
    next[name] = logSum([logs[name] ?? Number.NEGATIVE_INFINITY, begins]) + gained;
  }
  return { steps: s, logs: next };
}

/** log π_i M_i of every alternative: products that have begun and, with weight 1 / (T + 1), those that have not. */
export function logShares(
  { steps, logs }: MartingaleState,
  weights: Readonly<Record<string, number>>,
): Record<string, number> {
  const waiting = -Math.log(steps + 1);
  const shares: Record<string, number> = {};
  for (const [name, weight] of Object.entries(weights))
    shares[name] = Math.log(weight) + logSum([logs[name] ?? Number.NEGATIVE_INFINITY, waiting]);
  return shares;
}

/** log Σ exp of some numbers, minus infinity for none. */
export function logSum(logs: readonly number[]): number {
  let max = Number.NEGATIVE_INFINITY;
  for (const x of logs) max = Math.max(max, x);
  if (!Number.isFinite(max)) return max;
  let sum = 0;
  for (const x of logs) sum += Math.exp(x - max);
  return max + Math.log(sum);
}
