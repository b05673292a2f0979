/** @file Old names of public types, for one version: acronyms are in capitals now, and `Response` is the platform's. */

import type { Metrics } from "./algorithms/events.ts";
import { Learner } from "./algorithms/learner.ts";
import type { PPOConfig } from "./algorithms/options/ppo-options.ts";
import { SFT_DEFAULTS, type SFTConfig } from "./algorithms/options/sft-options.ts";
import { type HeldOutLoss, heldOutLoss, sftStep } from "./algorithms/sft.ts";
import type { RNG, RNGState } from "./base/rng.ts";
import type { TokenIds } from "./data/corpus.ts";
import { wrapped } from "./data/packing.ts";
import type { CorpusSampler } from "./data/sampler.ts";
import type { ExactKL } from "./model/head.ts";
import type { CausalLMWithValueHead } from "./model/model.ts";
import type { GAEInputs } from "./rl/advantages.ts";
import type { KLEstimate, KLEstimates, KLInputs, KLPenalty, SampledKL } from "./rl/kl.ts";
import type { PPOInputs, PPOStatistics } from "./rl/stats.ts";
import type { RunEvent } from "./run/events.ts";
import type { RunOptions } from "./run/options.ts";
import { run } from "./run/run.ts";
import type { SFTSpec } from "./run/spec.ts";
import type { SampledResponse } from "./sample/generate.ts";
import type { TokenizerModelJSON, TokenizerPartJSON } from "./tokenizer/parts.ts";
import type { TokenizerJSON } from "./tokenizer/tokenizer.ts";

/** The old name of {@link SampledResponse}. @deprecated since 0.2: use {@link SampledResponse} */
export type Response = SampledResponse;
/** The old name of {@link Learner}. @deprecated since 0.2: use {@link Learner} */
export type Critic = Learner;
/** The old name of {@link PPOConfig}. @deprecated since 0.2: use {@link PPOConfig} */
export type PpoConfig = PPOConfig;
/** The old name of {@link PPOInputs}. @deprecated since 0.2: use {@link PPOInputs} */
export type PpoInputs = PPOInputs;
/** The old name of {@link PPOStatistics}. @deprecated since 0.2: use {@link PPOStatistics} */
export type PpoStatistics = PPOStatistics;
/** The old name of {@link KLEstimate}. @deprecated since 0.2: use {@link KLEstimate} */
export type KlEstimate = KLEstimate;
/** The old name of {@link KLEstimates}. @deprecated since 0.2: use {@link KLEstimates} */
export type KlEstimates = KLEstimates;
/** The old name of {@link KLInputs}. @deprecated since 0.2: use {@link KLInputs} */
export type KlInputs = KLInputs;
/** The old name of {@link KLPenalty}. @deprecated since 0.2: use {@link KLPenalty} */
export type KlPenalty = KLPenalty;
/** The old name of {@link SampledKL}. @deprecated since 0.2: use {@link SampledKL} */
export type SampledKl = SampledKL;
/** The old name of {@link ExactKL}. @deprecated since 0.2: use {@link ExactKL} */
export type ExactKl = ExactKL;
/** The old name of {@link GAEInputs}. @deprecated since 0.2: use {@link GAEInputs} */
export type GaeInputs = GAEInputs;
/** The old name of {@link RNG}. @deprecated since 0.2: use {@link RNG} */
export type Rng = RNG;
/** The old name of {@link RNGState}. @deprecated since 0.2: use {@link RNGState} */
export type RngState = RNGState;
/** The old name of {@link TokenizerModelJSON}. @deprecated since 0.2: use {@link TokenizerModelJSON} */
export type TokenizerModelJson = TokenizerModelJSON;
/** The old name of {@link TokenizerPartJSON}. @deprecated since 0.2: use {@link TokenizerPartJSON} */
export type TokenizerPartJson = TokenizerPartJSON;
/** The old name of {@link TokenizerJSON}. @deprecated since 0.2: use {@link TokenizerJSON} */
export type TokenizerJson = TokenizerJSON;
/** The old name of {@link SFTSpec}. @deprecated since 0.2: use {@link SFTSpec} */
export type PretrainSpec = Omit<SFTSpec, "algorithm">;
/** The old name of {@link RunEvent}. @deprecated since 0.2: use {@link RunEvent} */
export type PretrainRunEvent = RunEvent;
/**
 * A run of the algorithm `sft`: `out` is a run directory now, with checkpoints in it.
 * @deprecated since 0.2: use {@link run}
 */
export const pretrainRun = (spec: PretrainSpec, options: RunOptions = {}): AsyncGenerator<RunEvent> =>
  run({ ...spec, algorithm: "sft" }, options);

/** The old name of {@link SFTConfig}. @deprecated since 0.2: use {@link SFTConfig} */
export type PretrainConfig = Omit<
  SFTConfig,
  "saveEvery" | "keepCheckpoints" | "keepBest" | "packing" | "longExamples" | "microBatchSize" | "gradientCheckpointing"
>;

/** The old name of {@link SFT_DEFAULTS}. @deprecated since 0.2: use {@link SFT_DEFAULTS} */
export const PRETRAIN_DEFAULTS: PretrainConfig = SFT_DEFAULTS;

/** What {@link pretrain} says. @deprecated since 0.2: use {@link TrainEvent} */
export type PretrainEvent =
  | {
      type: "step";
      step: number;
      epoch: number;
      loss: number;
      gradNorm: number;
      learningRate: number;
      tokensPerSecond: number;
    }
  | { type: "eval"; step: number; heldOut: HeldOutLoss };

/** Language-model training in place. @deprecated since 0.2: use {@link SFTTrainer}, which can be saved and resumed */
export async function* pretrain(
  model: CausalLMWithValueHead,
  sampler: CorpusSampler,
  config: PretrainConfig,
  options: { heldOut?: { ids: TokenIds; bytes: number }; signal?: AbortSignal } = {},
): AsyncGenerator<PretrainEvent> {
  const { heldOut, signal } = options;
  const learner = new Learner(model, { optimizer: config, maxGradNorm: config.maxGradNorm });
  for (let step = 1; step <= config.steps && !signal?.aborted; step++) {
    const windows = wrapped(sampler.next(), sampler.starts, sampler.sequenceLength);
    const metrics = await sftStep(learner, windows, { ...config, microBatchSize: 0 }, step);
    const number = (name: keyof Metrics) => metrics[name] as number;
    const [epoch, loss, gradNorm] = [sampler.epoch, number("sft/loss"), number("sft/grad_norm")];
    const [learningRate, tokensPerSecond] = [number("sft/learning_rate"), number("time/tokens_per_second")];
    yield { type: "step", step, epoch, loss, gradNorm, learningRate, tokensPerSecond };
    if (heldOut && (step === config.steps || (config.evalEvery > 0 && step % config.evalEvery === 0)))
      yield {
        type: "eval",
        step,
        heldOut: await heldOutLoss(model, heldOut.ids, heldOut.bytes, sampler.sequenceLength),
      };
    await new Promise((resolve) => setTimeout(resolve)); // let timers and messages through
  }
}
