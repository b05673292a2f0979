/**
 * @file The type of a PPO config. Written by `npm run api` from the table in options.ts: change that, and run it.
 */

/** Every option of a PPO run. */
export type PPOConfig = {
  /** Published values for every option that is not given. Default: "default". */
  preset: "default" | "trl-classic" | "trl-0.11" | "openai";
  /** Steps to take. A whole number, at least 1 and at most 1000000000. Default: 100. */
  steps: number;
  /** Seed for everything random. A whole number, at least 0. Default: 0. */
  seed: number;
  /** Prompts per step. A whole number, at least 1 and at most 1000000000. Default: 128. */
  batchSize: number;
  /** Responses per optimizer step. A whole number, at least 1 and at most 1000000000. Default: 32. */
  miniBatchSize: number;
  /**
   * Responses per forward and backward pass, gradients added up; 0: the whole minibatch. A whole number, at least 0 and
   * at most 1000000000. Default: 0.
   */
  microBatchSize: number;
  /**
   * Responses sampled at a time; one part is rewarded while the next is sampled. A whole number, at least 1 and at most
   * 1000000000. Default: 64.
   */
  rolloutBatchSize: number;
  /**
   * int8: sample from a quantised copy, and weight its tokens; auto: what takes less time, measured when the run
   * begins. Default: "fp32".
   */
  rolloutPrecision: "fp32" | "int8" | "auto";
  /**
   * Draw responses this many steps ahead, while others are learned from, by weights as many steps old, and weight their
   * tokens. A whole number, at least 0 and at most 64. Default: 0.
   */
  async: number;
  /**
   * Largest weight of a token that another policy drew (int8, async); 0: no weights, a biased gradient. A number, at
   * least 0. Default: 2.
   */
  importanceWeightCap: number;
  /** Passes over each batch. A whole number, at least 1 and at most 1000000000. Default: 4. */
  ppoEpochs: number;
  /** Maximum number of tokens per response. A whole number, at least 1 and at most 1000000000. Default: 24. */
  maxNewTokens: number;
  /** No end of text before this many tokens. A whole number, at least 0 and at most 1000000000. Default: 0. */
  minNewTokens: number;
  /** The end-of-text token ends a response; otherwise it is a token like any other. Default: true. */
  stopAtEos: boolean;
  /**
   * Logits are divided by this, when sampling and when scoring. A number, at least 0.0001 and at most 10000. Default:
   * 1.
   */
  temperature: number;
  /** Sample from the k most likely tokens; 0: all. A whole number, at least 0 and at most 1000000000. Default: 0. */
  topK: number;
  /**
   * Sample from the most likely tokens that hold this much probability. A number, more than 0 and at most 1. Default:
   * 1.
   */
  topP: number;
  /**
   * Keep tokens at least this fraction as likely as the most likely one; 0: all. A number, at least 0 and at most 1.
   * Default: 0.
   */
  minP: number;
  /**
   * Logits of tokens seen before are divided (or multiplied, if negative) by this. A number, at least 0.0001 and at
   * most 10000. Default: 1.
   */
  repetitionPenalty: number;
  /** Ids that are never drawn. Default: []. */
  bannedTokens: number[];
  /** A response also ends when its text contains one of these. Default: []. */
  stop: string[];
  /**
   * Prompts are cut to a random length from this many tokens ... A whole number, at least 0 and at most 1000000000.
   * Default: 0.
   */
  promptMinTokens: number;
  /**
   * ... to this many, drawn once for each prompt; 0: prompts are used whole. A whole number, at least 0 and at most
   * 1000000000. Default: 0.
   */
  promptMaxTokens: number;
  /** Prompts that leave no room for the response in the context. Default: "error". */
  longPrompts: "error" | "drop" | "truncate";
  /** Wrap plain prompts as a user's message in the model's chat template. Default: false. */
  chat: boolean;
  /** System message for conversations without one; plain prompts become conversations. Default: "". */
  system: string;
  /** Variables of the chat template, {"enable_thinking": false} for instance. Default: {}. */
  chatArgs: Record<string, unknown>;
  /**
   * Concurrent calls to the reward function, each for rolloutBatchSize responses. A whole number, at least 1 and at
   * most 1000000000. Default: 4.
   */
  rewardConcurrency: number;
  /**
   * Seconds a call to the reward function may take; 0: no limit. A number, at least 0 and at most 86400. Default: 0.
   */
  rewardTimeout: number;
  /**
   * Retries of a call that throws or times out, after 1, 2, 4, ... seconds. A whole number, at least 0 and at most
   * 1000000000. Default: 2.
   */
  rewardRetries: number;
  /** Score each token over the set it was drawn from; otherwise x is not ~ p. Default: true. */
  maskReplay: boolean;
  /** A token that ends what the reward sees of a response; empty: none. Default: "". */
  truncateToken: string;
  /**
   * Ignore truncateToken before this many tokens of a response. A whole number, at least 0 and at most 1000000000.
   * Default: 0.
   */
  truncateAfter: number;
  /** Score of a response without truncateToken, whatever the reward says. Default: null. */
  failScore: number | null;
  /** Subtracted from the score of a response without the end-of-text token. A number, at least 0. Default: 0. */
  missingEosPenalty: number;
  /**
   * Divide scores by the standard deviation of all scores so far; normalize: subtract the mean first. Default: "none".
   */
  scoreScaling: "none" | "scale" | "normalize";
  /** Clip scores to between minus and plus this, after scaling; 0: never. A number, at least 0. Default: 0. */
  scoreClip: number;
  /** AdamW's step size. A number, at least 0 and at most 100. Default: 0.0000141. */
  learningRate: number;
  /** Learning rate over the run. Default: "constant". */
  schedule: "constant" | "linear" | "cosine";
  /** Steps of linear warm-up. A whole number, at least 0 and at most 1000000000. Default: 0. */
  warmupSteps: number;
  /** AdamW, first moment. A number, at least 0. Default: 0.9. */
  beta1: number;
  /** AdamW, second moment. A number, at least 0. Default: 0.999. */
  beta2: number;
  /** AdamW, added to the root of the second moment. A number, at least 1e-30 and at most 1. Default: 1e-8. */
  adamEpsilon: number;
  /**
   * Which root of the second moment adamEpsilon is added to: tensorflow's makes first steps smaller. Default:
   * "pytorch".
   */
  adamBiasCorrection: "pytorch" | "tensorflow";
  /** AdamW, decoupled decay of weight matrices. A number, at least 0. Default: 0. */
  weightDecay: number;
  /** Gradients are scaled down to this norm; 0: never. A number, at least 0. Default: 1. */
  maxGradNorm: number;
  /**
   * Optimizer steps a run may skip when a loss or gradient is not finite; one more stops it. A whole number, at least 0
   * and at most 1000000000. Default: 0.
   */
  maxSkippedSteps: number;
  /** How to initialize a missing value head: normal, all zero, or uniform as in torch.nn.Linear. Default: "normal". */
  valueHeadInit: "normal" | "zero" | "uniform";
  /** Standard deviation of a normal value head; 0: the model's initializer_range. A number, at least 0. Default: 0. */
  valueHeadStd: number;
  /** A value head on the policy, or a separate model that starts as a copy of it. Default: "shared". */
  valueModel: "shared" | "separate";
  /**
   * Freeze the embeddings and this many blocks; 0: train everything. A whole number, at least 0 and at most 1000000000.
   * Default: 0.
   */
  frozenLayers: number;
  /**
   * Train a low-rank adapter of this rank (LoRA) and leave the weights alone; 0: train the weights. A whole number, at
   * least 0 and at most 65536. Default: 0.
   */
  lora: number;
  /** The adapter counts alpha / rank. A number, more than 0. Default: 32. */
  loraAlpha: number;
  /**
   * Matrices with an adapter: all-linear, names with commas between them (q_proj,v_proj), or a regular expression for
   * whole names. Default: "all-linear".
   */
  loraTargets: string;
  /** Blocks with an adapter, counted from 0, such as 0-3,6; empty: all. Default: "". */
  loraLayers: string;
  /** The adapter counts alpha / sqrt(rank). Default: false. */
  loraRankStabilized: boolean;
  /**
   * Under an adapter, the matrices of the blocks as they are, or held in int8, a quarter of their memory; the reference
   * is the same base. Default: "fp32".
   */
  basePrecision: "fp32" | "int8";
  /** Beta, what a nat of KL costs; where an adaptive controller starts. A number, at least 0. Default: 0.2. */
  klCoef: number;
  /** Whether beta follows the KL. Default: "adaptive". */
  klController: "adaptive" | "fixed";
  /** KL per response in nats that an adaptive beta aims at. A number, more than 0. Default: 6. */
  klTarget: number;
  /** Responses over which an adaptive beta moves. A number, more than 0. Default: 10000. */
  klHorizon: number;
  /** Per-token estimate of the KL in the reward; TRL calls k1 kl, k2 mse, exact full. Default: "k1". */
  klPenalty: "k1" | "abs" | "k2" | "k3" | "exact";
  /**
   * Estimate of the KL in the log, which an adaptive beta follows; none: with a klCoef of 0 no reference is kept, nor
   * asked. Default: "k1".
   */
  klLog: "k1" | "k2" | "k3" | "exact" | "none";
  /** Discount per token. A number, at least 0 and at most 1. Default: 1. */
  gamma: number;
  /** GAE's trade of bias for variance. A number, at least 0 and at most 1. Default: 0.95. */
  lambda: number;
  /** Scale rewards to variance 1 before advantages. Default: false. */
  whitenRewards: boolean;
  /** Scale advantages to mean 0 and variance 1. Default: true. */
  whitenAdvantages: boolean;
  /** Where whitening takes its mean and variance from. Default: "batch". */
  whiteningScope: "batch" | "minibatch";
  /** Divide by n - 1 as PyTorch does, or by n as TensorFlow does. Default: "unbiased". */
  whiteningVariance: "unbiased" | "biased";
  /** Policy ratio clip. A number, more than 0. Default: 0.2. */
  clipRange: number;
  /** How far a value may move per batch. A number, more than 0. Default: 0.2. */
  clipRangeValue: number;
  /** Weight of the value loss. A number, at least 0. Default: 0.1. */
  vfCoef: number;
  /** Weight of an entropy bonus. A number, at least 0. Default: 0. */
  entropyCoef: number;
  /**
   * No more epochs once the KL from the old policy, per token, is 1.5 times this; 0: all. A number, at least 0.
   * Default: 0.
   */
  targetKl: number;
  /** A minibatch whose mean policy ratio is above this is skipped; 0: never. A number, at least 0. Default: 10. */
  ratioThreshold: number;
  /** Recompute activations in the backward pass: less memory, more time. Default: false. */
  gradientCheckpointing: boolean;
  /**
   * Steps between checkpoints; 0: only at the end and when interrupted. A whole number, at least 0 and at most
   * 1000000000. Default: 50.
   */
  saveEvery: number;
  /** Checkpoints kept; older ones are deleted. A whole number, at least 1 and at most 1000000000. Default: 2. */
  keepCheckpoints: number;
  /** Also keep the checkpoint with the highest mean reward, however old. Default: true. */
  keepBest: boolean;
  /** Responses written to samples.jsonl per step. A whole number, at least 0 and at most 1000000000. Default: 4. */
  logSamples: number;
  /** What to do when tokens cannot be draws from the policy. Default: "stop". */
  audit: "stop" | "warn" | "off";
};
