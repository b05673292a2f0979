/**
 * @file The names of all numbers in metrics.jsonl, with one line each. The documentation is generated from this table.
 *
 * Names are those of huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py where TRL has the number.
 */

/** Metric name -> what it is. "Mean over tokens" means over existing tokens of the whole batch. */
export const metrics = {
  "objective/kl":
    "KL(policy ‖ reference) per response in nats, by the estimate that klLog names; the KL coefficient follows it; absent with klLog none",
  "objective/kl_stderr": "standard error of objective/kl over the B responses of the batch: s / √B with the unbiased s",
  "objective/kl_k1": "the same KL by k1: mean over responses of Σ_t (log π − log π_ref), which may be negative",
  "objective/kl_k1_stderr": "standard error of objective/kl_k1",
  "objective/kl_k3": "the same KL by the k3 estimator, Σ_t (exp(−d) − 1 + d), which is never negative",
  "objective/kl_k3_stderr": "standard error of objective/kl_k3",
  "objective/kl_exact":
    "the same KL over the whole vocabulary at every token, Σ_t Σ_v π(v) (log π(v) − log π_ref(v)); if klPenalty or klLog is exact",
  "objective/kl_exact_stderr": "standard error of objective/kl_exact",
  "objective/kl_coef": "β, the coefficient of the KL penalty that made this batch's rewards",
  "objective/entropy": "entropy of responses in nats, estimated as the mean over responses of Σ_t −log π(x_t)",

  "env/reward_mean": "mean score of the reward function over the batch, without the KL penalty",
  "env/reward_std": "standard deviation (unbiased) of the scores over the batch",
  "env/reward_min": "lowest score of the batch",
  "env/reward_p10": "a tenth of the scores of the batch are below it, as are the next ones by their names",
  "env/reward_p25": "the lower quartile of the scores",
  "env/reward_median": "the median of the scores",
  "env/reward_p75": "the upper quartile of the scores",
  "env/reward_p90": "a tenth of the scores are above it",
  "env/reward_max": "highest score of the batch",
  "ppo/mean_scores":
    "mean over the batch of the scores that PPO is given: after failScore, missingEosPenalty, scoreScaling and scoreClip",
  "ppo/std_scores": "standard deviation (unbiased) of the same scores over the batch",
  "ppo/mean_non_score_reward": "mean over tokens of the KL part of the reward, −β·penalty",

  "ppo/loss/policy": "clipped policy loss: mean over tokens of max(−A·ρ, −A·clip(ρ, 1 − ε, 1 + ε))",
  "ppo/loss/value": "clipped value loss: ½·mean over tokens of max((V − R)², (clip(V, V_old − ε, V_old + ε) − R)²)",
  "ppo/loss/total": "ppo/loss/policy + vfCoef·ppo/loss/value − entropyCoef·ppo/policy/entropy",

  "ppo/policy/entropy": "entropy of the next-token distribution over the vocabulary in nats, mean over tokens",
  "ppo/policy/approxkl":
    "KL between the updated policy and the one that made the batch, k2: ½·mean (log π − log π_old)²",
  "ppo/policy/policykl": "the same KL by k1: mean over tokens of log π_old − log π",
  "ppo/policy/clipfrac": "share of tokens whose policy loss is the clipped term",
  "ppo/policy/advantages_mean": "mean over tokens of the advantages used by the loss",
  "ppo/policy/ratio_mean": "mean over tokens of ρ = π(x_t) / π_old(x_t)",
  "ppo/policy/ratio_min": "smallest ρ of the batch",
  "ppo/policy/ratio_max": "largest ρ of the batch",
  "ppo/policy/ratio_var": "variance (unbiased) of ρ over tokens",

  "ppo/policy/first_ratio_deviation":
    "largest |ρ − 1| in the first minibatch, before any weight moved: 0 but for rounding, or sampling and scoring disagree",

  "audit/log_martingale":
    "log M of the audit's test martingale over the run so far, nats: the evidence that tokens are not draws from the policy; unless audit is off",
  "audit/log_bound":
    "what audit/log_martingale must stay below: log 10⁶ = 13.8, which chance alone reaches in one run of a million at most",
  "audit/log_reference":
    "log of the part of M that bets on the reference, as if it were the whole; not with klLog none",
  "audit/log_importance":
    "log of the part that bets on π_old against the rollout policy; if rolloutPrecision is int8, or with async",
  "audit/log_surprise":
    "log of the part that bets on tokens being likelier or rarer than draws are; for token ids without a record",
  "audit/log_ends": "log of the part that bets on more or fewer ends of text; for token ids without a record",

  "rollout/kl":
    "KL(rollout policy ‖ old policy) per response in nats by k3; if rolloutPrecision is int8 or with async, as are the next five",
  "rollout/importance_weight_mean":
    "mean over tokens of π_old(x_t) / π_rollout(x_t) before truncation: 1 but for noise",
  "rollout/importance_weight_std": "standard deviation (unbiased) of these weights over tokens",
  "rollout/importance_weight_min": "smallest weight of the batch",
  "rollout/importance_weight_max": "largest weight of the batch",
  "rollout/importance_weight_clipped": "share of tokens whose weight is cut to importanceWeightCap",
  "async/staleness": "steps between the weights that drew the batch and those that learn from it; with async",

  "ppo/returns/mean": "mean over tokens of the returns R = A + V_old, A before whitening",
  "ppo/returns/var": "variance (unbiased) of the returns over tokens",

  "ppo/val/vpred": "mean over tokens of the value V, at the weights each minibatch met",
  "ppo/val/mean": "mean over tokens of the value V_old that made the advantages",
  "ppo/val/var": "variance (unbiased) of V_old over tokens",
  "ppo/val/error": "mean over tokens of (V − R)²",
  "ppo/val/clipfrac": "share of tokens whose value loss is the clipped term",
  "ppo/val/var_explained":
    "1 − ppo/val/error / ppo/returns/var; 1 is a perfect value function, 0 as good as a constant",

  "ppo/epochs": "passes over the batch, fewer than ppoEpochs if targetKl ended them",
  "ppo/skipped_minibatches":
    "minibatches that no optimizer step was taken for, because their mean ρ was above ratioThreshold",
  "ppo/learning_rate": "learning rate of the last optimizer step",
  "ppo/grad_norm": "Euclidean norm of the gradient before clipping, mean over optimizer steps",
  "ppo/update_norm": "Euclidean norm of the change of the weights, mean over optimizer steps",
  "ppo/skipped_updates":
    "optimizer steps of the run so far that were left out because a loss or gradient was not finite; see maxSkippedSteps",

  "tokens/queries_len_mean": "mean number of tokens of the prompts",
  "tokens/queries_len_std": "standard deviation (unbiased) of the number of tokens of the prompts",
  "tokens/responses_len_mean": "mean number of existing tokens of the responses, the end-of-text token included",
  "tokens/responses_len_std": "standard deviation (unbiased) of the number of existing tokens of the responses",

  "tokens/kept_mass_mean":
    "mean over tokens of the probability of the tokens that could be drawn, before the rest was left out",
  "tokens/kept_mass_min": "smallest such probability in the batch",

  "time/get_response": "seconds spent sampling responses",
  "time/get_scores": "seconds spent waiting for the reward function",
  "time/ppo/forward_pass": "seconds spent on log-probabilities and values outside the updates",
  "time/ppo/compute_rewards": "seconds spent on rewards from scores and KL",
  "time/ppo/compute_advantages": "seconds spent on advantages, returns and whitening",
  "time/ppo/optimize_step": "seconds spent in all epochs of updates",
  "time/ppo/total": "seconds of the step after the scores were known",
  "time/total": "seconds of the whole step, sampling included",
  "memory/resident_bytes": "resident memory of the process at the end of the step, all threads together",
} as const satisfies Record<string, string>;

/** What GRPO and RLOO say beside the numbers of {@link metrics} that are not about PPO alone. "Group": the responses to one prompt. */
export const groupMetrics = {
  "group/mean_scores":
    "mean over the batch of the scores that advantages are made of: after failScore, missingEosPenalty, scoreScaling and scoreClip",
  "group/std_scores": "standard deviation (unbiased) of the same scores within a group, mean over groups",
  "group/equal_scores": "share of groups whose scores are all equal: nothing is learned from them",
  "group/advantages_std": "standard deviation (unbiased) of the advantages over responses",
  "policy/loss": "the loss that was minimised, mean over minibatches",
  "policy/entropy": "entropy of the next-token distribution over the vocabulary in nats, mean over tokens",
  "policy/approxkl": "KL between the updated policy and the one that made the batch, k2: ½·mean (log π − log π_old)²",
  "policy/policykl": "the same KL by k1: mean over tokens of log π_old − log π",
  "policy/clipfrac": "share of the ratios that are clipped: GRPO's of tokens, RLOO's of responses",
  "policy/ratio_mean": "mean over tokens of ρ = π(x_t) / π_old(x_t)",
  "policy/ratio_min": "smallest ρ of the batch",
  "policy/ratio_max": "largest ρ of the batch",
  "policy/first_ratio_deviation":
    "largest |ρ − 1| in the first minibatch, before any weight moved: 0 but for rounding, or sampling and scoring disagree",
  "update/epochs": "passes over the batch",
  "update/learning_rate": "learning rate of the last optimizer step",
  "update/grad_norm": "Euclidean norm of the gradient before clipping, mean over optimizer steps",
  "update/norm": "Euclidean norm of the change of the weights, mean over optimizer steps",
  "update/skipped":
    "optimizer steps of the run so far that were left out because a loss or gradient was not finite; see maxSkippedSteps",
  "time/forward_pass": "seconds spent on log-probabilities outside the updates",
  "time/updates": "seconds spent in all epochs of updates",
} as const satisfies Record<string, string>;

/** The same for DPO. "Reward" of a response: beta times how much more likely the policy finds it than the reference does. */
export const dpoMetrics = {
  "dpo/loss": "mean over the pairs of the step of the loss",
  "dpo/accuracy": "share of the pairs whose chosen response has the higher reward",
  "dpo/margin": "mean reward of the chosen responses less that of the rejected ones",
  "dpo/rewards_chosen": "mean reward of the chosen responses, β (log π − log π_ref)",
  "dpo/rewards_rejected": "mean reward of the rejected responses",
  "dpo/logps_chosen": "mean of log π(chosen response), nats",
  "dpo/logps_rejected": "mean of log π(rejected response), nats",
  "dpo/grad_norm": "Euclidean norm of the gradient before clipping",
  "dpo/update_norm": "Euclidean norm of the change of the weights",
  "dpo/learning_rate": "learning rate of the step",
  "dpo/epoch": "passes over the pairs so far, with the part of the current one",
  "eval/loss": "the loss on the held-out pairs; in the steps that measure it, as are the next two",
  "eval/accuracy": "share of the held-out pairs whose chosen response has the higher reward",
  "eval/margin": "mean reward of the held-out chosen responses less that of the rejected ones",
  "time/total": "seconds of the whole step",
} as const satisfies Record<string, string>;

/** The same for reward models and classifiers. "Output" of a text: what the model says of it, of pairs and scores one number. */
export const rewardMetrics = {
  "reward/loss": "mean over the judgements of the step of the loss",
  "reward/accuracy":
    "share of the pairs whose chosen text has the higher output, or of the texts whose label has the highest; not for scores",
  "reward/margin": "mean output of the chosen texts less that of the rejected ones; for pairs",
  "reward/mean": "mean output; for pairs and scores",
  "reward/grad_norm": "Euclidean norm of the gradient before clipping",
  "reward/update_norm": "Euclidean norm of the change of the weights",
  "reward/learning_rate": "learning rate of the step",
  "reward/epoch": "passes over the judgements so far, with the part of the current one",
  "eval/loss": "the loss on the held-out judgements; in the steps that measure it, as are the next three",
  "eval/accuracy": "share of the held-out pairs in the right order, or of the held-out texts with the right label",
  "eval/margin": "mean output of the held-out chosen texts less that of the rejected ones; for pairs",
  "eval/correlation": "correlation (Pearson) of outputs and scores of the held-out texts; for scores",
  "time/total": "seconds of the whole step",
} as const satisfies Record<string, string>;

/** The same for language-model training. "Batch" is all sequences of a step. */
export const sftMetrics = {
  "sft/loss": "mean over the batch of -log p(next token), nats per token; with responses over their tokens alone",
  "sft/grad_norm": "Euclidean norm of the gradient before clipping",
  "sft/update_norm": "Euclidean norm of the change of the weights",
  "sft/learning_rate": "learning rate of the step",
  "sft/epoch": "passes over the text so far, with the part of the current one",
  "eval/loss": "mean of -log p(next token) over the held-out text, nats per token; in the steps that measure it",
  "eval/bits_per_byte": "the same per byte of text: eval/loss times tokens per byte over ln 2",
  "eval/tokens": "tokens of the held-out text that were predicted",
  "time/tokens_per_second": "tokens of the batch over the seconds of the step, measuring left out",
  "time/total": "seconds of the whole step",
  "memory/resident_bytes": "resident memory of the process at the end of the step, all threads together",
} as const satisfies Record<string, string>;

/** A name of {@link metrics}, {@link groupMetrics}, {@link dpoMetrics}, {@link rewardMetrics} or {@link sftMetrics}. */
export type MetricName =
  | keyof typeof metrics
  | keyof typeof groupMetrics
  | keyof typeof dpoMetrics
  | keyof typeof rewardMetrics
  | keyof typeof sftMetrics;

/** What a step says in numbers. */
export type Metrics = Partial<Record<MetricName, number>>;
