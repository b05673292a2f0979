/**
 * @file What other programs call the options: TRL of all versions, for PPO, GRPO, RLOO, DPO and reward models, and lm-human-preferences. One name
 * may mean another option in another algorithm: then all of them are here, in the order they are looked for.
 */

export const trlNames: Readonly<Record<string, string | readonly string[]>> = {
  learning_rate: "learningRate",
  lr: "learningRate",
  lr_scheduler_type: "schedule",
  warmup_steps: "warmupSteps",
  adam_beta1: "beta1",
  adam_beta2: "beta2",
  adam_epsilon: "adamEpsilon",
  weight_decay: "weightDecay",
  max_grad_norm: "maxGradNorm",
  total_episodes: "steps",
  num_total_batches: "steps",
  batch_size: "batchSize",
  per_device_train_batch_size: "microBatchSize",
  forward_batch_size: "miniBatchSize",
  backward_batch_size: "miniBatchSize",
  micro_batch_size: "microBatchSize",
  mini_batch_size: "miniBatchSize",
  num_mini_batches: "miniBatchSize",
  nminibatches: "miniBatchSize",
  gradient_accumulation_steps: "microBatchSize",
  local_rollout_forward_batch_size: "rolloutBatchSize",
  ppo_epochs: "ppoEpochs",
  num_ppo_epochs: "ppoEpochs",
  noptepochs: "ppoEpochs",
  num_sample_generations: "logSamples",
  gradient_checkpointing: "gradientCheckpointing",
  adap_kl_ctrl: "klController",
  init_kl_coef: "klCoef",
  kl_coef: "klCoef",
  target: "klTarget",
  horizon: "klHorizon",
  kl_penalty: "klPenalty",
  kl_estimator: "klPenalty",
  lam: "lambda",
  cliprange: "clipRange",
  cliprange_value: "clipRangeValue",
  vf_coef: "vfCoef",
  whiten_rewards: "whitenRewards",
  early_stopping: "targetKl",
  target_kl: "targetKl",
  ratio_threshold: "ratioThreshold",
  use_score_scaling: "scoreScaling",
  use_score_norm: "scoreScaling",
  score_clip: "scoreClip",
  missing_eos_penalty: "missingEosPenalty",
  non_eos_penalty: "missingEosPenalty",
  penalty_reward_value: "failScore",
  truncate_token: "truncateToken",
  truncate_after: "truncateAfter",
  stop_token: "stop",
  stop_token_id: "stop",
  response_length: "maxNewTokens",
  txt_len: "maxNewTokens",
  txt_out_len: "maxNewTokens",
  max_new_tokens: "maxNewTokens",
  max_completion_length: "maxNewTokens",
  min_length: "minNewTokens",
  min_new_tokens: "minNewTokens",
  num_generations: "numGenerations",
  num_iterations: ["epochs", "ppoEpochs"],
  epsilon: "clipRange",
  epsilon_high: "clipRangeHigh",
  beta: "klCoef",
  vllm_importance_sampling_cap: "importanceWeightCap",
  use_bias_correction_kl: "klCorrection",
  chat_template_kwargs: "chatArgs",
  system_prompt: "system",
  scale_rewards: "advantageScaling",
  loss_type: ["lengthNormalization", "loss"],
  label_smoothing: "labelSmoothing",
  truncation_mode: ["longPairs", "longTexts"],
  center_rewards_coefficient: "centerRewards",
  max_length: "longTexts",
  normalize_advantages: "normalizeAdvantages",
  reward_clip_range: "scoreClip",
  entropy_coef: "entropyCoef",
  generation_batch_size: "batchSize",
  repetition_penalty: "repetitionPenalty",
  min_p: "minP",
  max_steps: "steps",
  save_steps: "saveEvery",
  save_total_limit: "keepCheckpoints",
  num_completions_to_print: "logSamples",
  top_k: "topK",
  top_p: "topP",
  num_shared_layers: "frozenLayers",
  use_peft: "lora",
  is_peft_model: "lora",
  peft_config: "lora",
  lora_r: "lora",
  lora_rank: "lora",
  r: "lora",
  lora_alpha: "loraAlpha",
  alpha: "loraAlpha",
  lora_target_modules: "loraTargets",
  target_modules: "loraTargets",
  layers_to_transform: "loraLayers",
  use_rslora: "loraRankStabilized",
  v_head_init_strategy: "valueHeadInit",
  v_head_initializer_range: "valueHeadStd",
};

/** What TRL and PEFT have of LoRA and this library does not: said of an unknown option. */
const notHere: Readonly<Record<string, string>> = {
  lora: "leave it out: a reward model is trained whole; frozenLayers trains less of it",
  lora_dropout: "leave it out: only the value head has dropout, an adapter has none (as lora_dropout 0)",
  lora_modules_to_save: "leave it out: beside an adapter the value head is trained, and nothing else",
  use_dora: "leave it out: DoRA is not supported",
  init_lora_weights: "leave it out: A is drawn as PEFT draws it, and B is 0",
  load_in_4bit: "leave it out: weights are fp32",
  load_in_8bit: "leave it out: weights are fp32; rolloutPrecision int8 samples from a quantised copy",
};

/** What to do about an option of another program that is not here; undefined: nothing is known of it. */
export function adviceOn(name: string): string | undefined {
  const python = name.replaceAll("-", "_");
  const known = python === "modules_to_save" ? "lora_modules_to_save" : python;
  return Object.hasOwn(notHere, known) ? notHere[known] : undefined;
}

/**
 * The option that another program calls `name`, with underscores or hyphens; undefined: none.
 * @param known whether an option exists here, for this algorithm
 */
export function nameHere(name: string, known: (option: string) => boolean = () => true): string | undefined {
  const python = name.replaceAll("-", "_");
  return Object.hasOwn(trlNames, python) ? [trlNames[python]].flat().find(known) : undefined;
}
