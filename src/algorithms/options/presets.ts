/** @file Named sets of option values: PPO as it was published. What a preset does not name keeps its default. */

export const presets = {
  default: {},

  /**
   * TRL v0.0.1 and its notebooks: lvwerra/trl@750f5fd53, trl/ppo.py (`default_params`, `step`, `loss`), trl/gpt2.py and
   * nbs/04-gpt2-sentiment-ppo-training.ipynb (`steps`, `txt_out_len`, 25 600 responses in batches of 256).
   * Not as there: a response of one token has an advantage of 0 and not NaN; log-probs and values of a batch are those of
   * the sampling pass and not of one more forward pass, which gives the same numbers.
   */
  "trl-classic": {
    steps: 100,
    batchSize: 256,
    miniBatchSize: 1,
    ppoEpochs: 4,
    maxNewTokens: 15,
    minNewTokens: 0,
    stopAtEos: false, // respond_to_batch has one length
    learningRate: 1.41e-5,
    schedule: "constant",
    beta1: 0.9, // torch.optim.Adam's own
    beta2: 0.999,
    adamEpsilon: 1e-8,
    adamBiasCorrection: "pytorch",
    weightDecay: 0,
    maxGradNorm: 0,
    klCoef: 0.2,
    klController: "adaptive", // whatever adap_kl_ctrl said
    klTarget: 6,
    klHorizon: 10_000,
    klPenalty: "k1",
    gamma: 1,
    lambda: 0.95,
    whitenRewards: false,
    whitenAdvantages: true,
    whiteningScope: "minibatch", // of one sequence
    whiteningVariance: "unbiased",
    clipRange: 0.2,
    clipRangeValue: 0.2,
    vfCoef: 0.1,
    entropyCoef: 0,
    targetKl: 0,
    ratioThreshold: 0,
    valueHeadInit: "normal", // GPT2PreTrainedModel's init_weights, with initializer_range
  },

  /**
   * TRL 0.11.4: huggingface/trl@v0.11.4, trl/trainer/ppo_config.py and trl/trainer/ppo_trainer.py. Its `steps` counts
   * responses: 20 000 in batches of 128. It says nothing about how responses are sampled.
   * Not as there: a minibatch over `ratioThreshold` takes no optimizer step at all, where TRL steps with a gradient of 0
   * and Adam's momentum still moves the weights; padding is never whitened into rewards; no dropout in the value head.
   */
  "trl-0.11": {
    steps: 157,
    batchSize: 128,
    miniBatchSize: 128,
    microBatchSize: 32, // the same gradient in less memory
    ppoEpochs: 4,
    learningRate: 1.41e-5,
    schedule: "constant",
    beta1: 0.9, // torch.optim.Adam's own
    beta2: 0.999,
    adamEpsilon: 1e-8,
    adamBiasCorrection: "pytorch",
    weightDecay: 0,
    maxGradNorm: 0, // max_grad_norm None
    klCoef: 0.2,
    klController: "adaptive",
    klTarget: 6,
    klHorizon: 10_000,
    klPenalty: "k1", // "kl"
    gamma: 1,
    lambda: 0.95,
    whitenRewards: false,
    whitenAdvantages: true,
    whiteningScope: "batch",
    whiteningVariance: "unbiased",
    clipRange: 0.2,
    clipRangeValue: 0.2,
    vfCoef: 0.1,
    entropyCoef: 0,
    targetKl: 0, // early_stopping False
    ratioThreshold: 10,
    scoreScaling: "none",
    scoreClip: 0,
    missingEosPenalty: 0,
    valueHeadInit: "uniform", // torch.nn.Linear's own: v_head_init_strategy None, trl/models/modeling_value_head.py
  },

  /**
   * OpenAI's sentiment experiment with GPT-2 124M: openai/lm-human-preferences, launch.py (`books_task`, `sentiment`),
   * lm_human_preferences/train_policy.py (PpoHParams, `loss`, `step`), lm_tasks.py (truncation, penalty_reward_value),
   * utils/core.py (`whiten`, `minimize`), policy.py (temperature, here and when scoring), language/model.py (value head 0).
   * 1 000 000 responses in batches of 512. Its prompts are 64 tokens that begin after a full stop.
   * Not as there: 8 processes whitened 64 responses each, here it is all 512.
   */
  openai: {
    steps: 1954,
    batchSize: 512,
    miniBatchSize: 512, // nminibatches 1
    microBatchSize: 32, // the same gradient in less memory
    ppoEpochs: 4,
    maxNewTokens: 24,
    minNewTokens: 0,
    stopAtEos: false,
    temperature: 0.7,
    topK: 0,
    topP: 1,
    truncateToken: ".",
    truncateAfter: 16,
    failScore: -1,
    learningRate: 1e-5,
    schedule: "linear",
    warmupSteps: 0,
    beta1: 0.9, // tf.train.AdamOptimizer's own
    beta2: 0.999,
    adamEpsilon: 1e-5,
    adamBiasCorrection: "tensorflow",
    weightDecay: 0,
    maxGradNorm: 0,
    klCoef: 0.15,
    klController: "adaptive",
    klTarget: 6,
    klHorizon: 10_000,
    klPenalty: "k1",
    gamma: 1,
    lambda: 0.95,
    whitenRewards: true,
    whitenAdvantages: true,
    whiteningScope: "minibatch",
    whiteningVariance: "biased",
    clipRange: 0.2,
    clipRangeValue: 0.2,
    vfCoef: 0.1,
    entropyCoef: 0,
    targetKl: 0,
    ratioThreshold: 0,
    valueHeadInit: "zero",
  },
} as const satisfies Record<string, Readonly<Record<string, number | string | boolean | null>>>;

/** Names of {@link presets}. */
export type PresetName = keyof typeof presets;

export const presetNames = Object.keys(presets) as PresetName[];
