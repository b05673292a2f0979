/** @file The whole public API. */
export { type ErrorKind, type Problem, ValueheadError } from "./base/errors.ts";
export { VERSION } from "./base/version.ts";
export { readCorpus, tokenizeCorpus } from "./data/corpus.ts";
export { type Prompt, readPrompts } from "./data/prompts.ts";
export { CorpusSampler } from "./data/sampler.ts";
export { type GPT2Config, makeConfig, parseConfig } from "./gpt2/config.ts";
export type { Adjustment, Bias, Distribution } from "./gpt2/distribution.ts";
export type { FloatTensor, ForwardInput, ForwardOutput, LayerCache } from "./gpt2/forward.ts";
export type { ExactKl, RowScores } from "./gpt2/head.ts";
export { resolveModel } from "./gpt2/hub.ts";
export { KeptSet } from "./gpt2/kept-set.ts";
export { type AskedTokens, GPT2HeadWithValueModel, type ModelOptions } from "./gpt2/model.ts";
export { gae } from "./rl/advantages.ts";
export { pairedDifference } from "./rl/compare.ts";
export { AdaptiveKLController, FixedKLController, type KLController } from "./rl/controllers.ts";
export { type ImportanceWeights, importanceWeights } from "./rl/importance.ts";
export { type KlEstimates, klEstimates } from "./rl/kl.ts";
export { type MetricName, metrics } from "./rl/metrics.ts";
export type { Padded } from "./rl/padded.ts";
export { rewardsFromScores } from "./rl/rewards.ts";
export { ppoStatistics } from "./rl/stats.ts";
export { whiten } from "./rl/whiten.ts";
export { runInWorker } from "./run/worker.ts";
export type { SamplingOptions } from "./sample/distribution.ts";
export {
  type GenerateOptions,
  generate,
  type Response,
  type Rollout,
  replay,
  respondToBatch,
} from "./sample/generate.ts";
export { decodingWeights, type Precision } from "./sample/precision.ts";
export { scoreTokens, type TokenTable } from "./sample/score.ts";
export type { StopOptions } from "./sample/stop.ts";
export type { TokenContext, Transform, TruncateInput } from "./sample/transforms.ts";
export type { DecodingWeights } from "./sample/weights.ts";
export { loadTokenizer } from "./tokenizer/load.ts";
export type { Tokenizer } from "./tokenizer/tokenizer.ts";
export { PPO_DEFAULTS, type PpoConfig, ppoConfig } from "./train/config.ts";
export type { Metrics, Sample, TrainEvent } from "./train/events.ts";
export { PPOTrainer, type PPOTrainerOptions } from "./train/ppo.ts";
export { type PresetName, presets } from "./train/presets.ts";
export { heldOutLoss, PRETRAIN_DEFAULTS, type PretrainConfig, type PretrainEvent, pretrain } from "./train/pretrain.ts";
export { type PretrainRunEvent, type PretrainSpec, pretrainRun } from "./train/pretrain-run.ts";
export {
  builtInRewards,
  lengthReward,
  type RewardFunction,
  type RewardSample,
  resolveReward,
} from "./train/rewards.ts";
export { type RunEvent, type RunSpec, run } from "./train/run.ts";
