/** @file The whole public API. */

export type { AlgorithmName, OlderWeights, RunConfig, TrainedPart, Trainer } from "./algorithms/algorithm.ts";
export {
  type DPOData,
  type DPOReference,
  type DPOState,
  DPOTrainer,
  type DPOTrainerOptions,
} from "./algorithms/dpo.ts";
export type { BestCheckpoint, Metrics, Sample, TrainEvent } from "./algorithms/events.ts";
export {
  GRPO_DEFAULTS,
  type GRPOConfig,
  GRPOTrainer,
  type GRPOTrainerOptions,
  type GroupConfig,
  grpoConfig,
} from "./algorithms/grpo.ts";
export type { Learner, LearnerOptions } from "./algorithms/learner.ts";
export type { DPOLossName } from "./algorithms/losses.ts";
export { ppoConfig } from "./algorithms/options/config.ts";
export { DPO_DEFAULTS, type DPOConfig, dpoConfig } from "./algorithms/options/dpo-options.ts";
export {
  PPO_DEFAULTS,
  type PPOConfig,
  type RolloutTrainerConfig,
  type RolloutTrainerOptions,
} from "./algorithms/options/ppo-options.ts";
export { type PresetName, presets } from "./algorithms/options/presets.ts";
export { REWARD_DEFAULTS, type RewardConfig, rewardConfig } from "./algorithms/options/reward-options.ts";
export { SFT_DEFAULTS, type SFTConfig, sftConfig } from "./algorithms/options/sft-options.ts";
export { PPOTrainer, type PPOTrainerOptions } from "./algorithms/ppo.ts";
export { type RewardData, type RewardState, RewardTrainer, type RewardTrainerOptions } from "./algorithms/reward.ts";
export {
  RLOO_DEFAULTS,
  type RLOOConfig,
  RLOOTrainer,
  type RLOOTrainerOptions,
  rlooConfig,
} from "./algorithms/rloo.ts";
export { RolloutTrainer, type StepResult } from "./algorithms/rollout.ts";
export {
  type HeldOutLoss,
  heldOutLoss,
  type SFTData,
  type SFTState,
  SFTTrainer,
  type SFTTrainerOptions,
} from "./algorithms/sft.ts";
export type { RolloutState, TrainerState } from "./algorithms/trainer-state.ts";
export type { Device } from "./backend/devices.ts";
export type { Engine, EngineOptions } from "./backend/engine.ts";
export { type ErrorKind, type Problem, ValueheadError } from "./base/errors.ts";
export type { RNG, RNGState } from "./base/rng.ts";
export type { IdList } from "./base/token-ids.ts";
export { VERSION } from "./base/version.ts";
export { type Activation, SUPPORTED_ACTIVATIONS } from "./checkpoint/config-json.ts";
export type { GenerationConfig } from "./checkpoint/generation-config.ts";
export { type DownloadProgress, type ResolveOptions, resolveModel } from "./checkpoint/hub.ts";
export { type LocateOptions, loadTokenizer } from "./checkpoint/model-files.ts";
export type { ChatOptions, PromptGiven } from "./data/chat.ts";
export {
  type Corpus,
  type CorpusProgress,
  type Document,
  readCorpus,
  type TokenIds,
  tokenizeCorpus,
} from "./data/corpus.ts";
export { type EncodedPrompts, encodePrompts, type PromptOptions, type PromptsGiven } from "./data/encode.ts";
export {
  type EncodedJudgements,
  type EncodeJudgementOptions,
  encodeJudgements,
  type Judged,
  type Judgement,
  type JudgementKind,
  type LongTexts,
  readJudgements,
} from "./data/judgements.ts";
export type { LongExamples, Packing } from "./data/packing.ts";
export { type EncodedPairs, encodePairs, type LongPairs, type PreferencePair, readPairs } from "./data/pairs.ts";
export { type Prompt, type PromptSamplerState, readPrompts } from "./data/prompts.ts";
export { type PromptResponse, readResponses } from "./data/responses.ts";
export { CorpusSampler, type CorpusSamplerState } from "./data/sampler.ts";
export * from "./deprecated.ts";
export type { ServerSpec } from "./distributed/connection.ts";
export type { WorkersSpec } from "./distributed/job.ts";
export type { WorkerFacts } from "./experience/parts/parts.ts";
export {
  type BuiltInReward,
  builtInRewards,
  lengthReward,
  type RewardContext,
  type RewardFunction,
  type RewardSample,
  type RewardScores,
  resolveReward,
  type TextReward,
} from "./experience/reward-functions.ts";
export {
  type CheckReward,
  combineRewards,
  exactReward,
  jsonReward,
  regexReward,
} from "./experience/rewards/checkable.ts";
export { type ModelReward, type ModelRewardOptions, modelReward } from "./experience/rewards/model-reward.ts";
export { type ONNXRewardOptions, onnxReward } from "./experience/rewards/onnx-reward.ts";
export type { TokenRecord } from "./experience/token-record.ts";
export { type LoadClassifierOptions, loadClassifier } from "./families/classifier.ts";
export {
  type GPT2Config,
  makeConfig,
  parseConfig,
  SUPPORTED_SUMMARY_TYPES,
  type SummaryType,
} from "./families/gpt2.ts";
export { GPT2HeadWithValueModel, loadModel, modelFromConfig } from "./families/index.ts";
export { type LlamaConfig, type LlamaType, makeLlamaConfig } from "./families/llama.ts";
export { type Adapts, LORA_DEFAULTS, type LoRAConfig } from "./model/adapter.ts";
export type { AskedTokens } from "./model/asked.ts";
export type { Tokens } from "./model/body.ts";
export { type ClassifierOptions, type OutputLoss, SequenceClassifier } from "./model/classifier/classifier.ts";
export type { ClassifierConfig, ProblemType } from "./model/classifier/labels.ts";
export type { Adjustment, Bias, Distribution, RowStatistics, Tilt } from "./model/distribution.ts";
export type { BasePrecision, ModelConfig, ParameterInit, Sizes, ValueHeadConfig } from "./model/family.ts";
export type { FloatTensor, ForwardInput, ForwardOutput, IntegerMatrix, LayerCache } from "./model/forward.ts";
export type { ExactKL, RowScores } from "./model/head.ts";
export { KeptSet } from "./model/kept-set.ts";
export type { ModelOptions } from "./model/load.ts";
export type { MemoryEstimate } from "./model/memory.ts";
export { CausalLMWithValueHead } from "./model/model.ts";
export type { Parameter, ParameterBuffer } from "./model/parameters.ts";
export type { ValueHead } from "./model/value-head.ts";
export type { AdamW, AdamWOptions, NamedViews, TrainedRow } from "./nn/adamw.ts";
export type { Rope } from "./nn/rotary.ts";
export type { ScheduleName } from "./nn/schedules.ts";
export { type BrowserFiles, setBrowserFiles } from "./platform/package.ts";
export { type GAEInputs, gae } from "./rl/advantages.ts";
export type { Interval } from "./rl/compare.ts";

export {
  AdaptiveKLController,
  FixedKLController,
  type KLController,
  type KLControllerState,
} from "./rl/controllers.ts";
export { type AdvantageScaling, groupAdvantages, type LengthNormalization, leaveOneOut } from "./rl/groups.ts";
export { type ImportanceWeights, importanceWeights } from "./rl/importance.ts";
export type { SampledKL } from "./rl/kl.ts";
export {
  type KLEstimate,
  type KLEstimates,
  type KLInputs,
  type KLPenalty,
  klEstimates,
  pairedDifference,
} from "./rl/kl.ts";
export type { MartingaleState } from "./rl/martingale.ts";
export { dpoMetrics, groupMetrics, type MetricName, metrics, rewardMetrics, sftMetrics } from "./rl/metrics.ts";
export type { Padded } from "./rl/padded.ts";
export { type RewardInputs, rewardsFromScores } from "./rl/rewards.ts";
export type { RunningMoments } from "./rl/scores.ts";
export { type PPOInputs, type PPOStatistics, ppoStatistics } from "./rl/stats.ts";
export { type WhitenOptions, whiten } from "./rl/whiten.ts";
export type { RunEvent } from "./run/events.ts";
export { type Changeable, type RunOptions, SaveRequests } from "./run/options.ts";
export { type RewardProcess, type RewardProcessOptions, rewardProcess } from "./run/reward-process.ts";
export { run } from "./run/run.ts";
export { EventLogSink } from "./run/sinks/event-log.ts";
export { JSONLSink } from "./run/sinks/jsonl.ts";
export { type Sink, withSinks } from "./run/sinks/sink.ts";
export { TensorBoardSink } from "./run/sinks/tensorboard.ts";
export type {
  AnyRunSpec,
  DataSpec,
  DPOSpec,
  GRPOSpec,
  JudgementSource,
  PairSource,
  PromptSpec,
  RewardedSpec,
  RewardModelSpec,
  RLOOSpec,
  RunSpec,
  SFTSpec,
  TextSource,
} from "./run/spec.ts";
export { runInWorker } from "./run/worker.ts";
export {
  type GenerateOptions,
  generate,
  type Rollout,
  replay,
  respondToBatch,
  type SampledResponse,
} from "./sample/generate.ts";
export { decodingWeights, type Precision } from "./sample/precision.ts";
export { scoreTokens, type TokenTable } from "./sample/score.ts";
export type { StopOptions } from "./sample/stop.ts";
export type { SamplingOptions } from "./sample/token-sampler.ts";
export type {
  AdjustmentOptions,
  Adjustments,
  RecordedToken,
  TokenContext,
  Transform,
  TruncateInput,
} from "./sample/transforms.ts";
export type { DecodingWeights } from "./sample/weights.ts";

export { packDirectory } from "./ship/archive.ts";
export {
  type Compared,
  type ComparedResponse,
  type CompareOptions,
  type CompareProgress,
  type Comparison,
  compareModels,
  type Measure,
} from "./ship/compare.ts";

export {
  type ExportDtype,
  type ExportedFile,
  type ExportOptions,
  type ExportProgress,
  exportOnnx,
} from "./ship/export.ts";
export { type Pushed, type PushOptions, type PushProgress, push, type UploadFile, uploadList } from "./ship/push.ts";
export { type CompleteOptions, TextModel, type TextPrompt, type TextScore } from "./ship/text-model.ts";
export type { AddedToken } from "./tokenizer/added-tokens.ts";
export type { ChatMessage, ChatTemplateOptions, TextPart } from "./tokenizer/chat-template.ts";
export type { TokenizerModelJSON, TokenizerPartJSON } from "./tokenizer/parts.ts";
export type { TokenizerSources, TokenSetting } from "./tokenizer/resolve.ts";
export type { TokenStream } from "./tokenizer/stream.ts";
export type {
  EncodeBatchOptions,
  EncodedBatch,
  Tokenizer,
  TokenizerConfig,
  TokenizerJSON,
  TokenizerOrigin,
} from "./tokenizer/tokenizer.ts";
