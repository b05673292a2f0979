/** @file Old names of public types, for one version: acronyms are in capitals now, and `Response` is the platform's. */

import type { Learner } from "./algorithms/learner.ts";
import type { PPOConfig } from "./algorithms/options.ts";
import type { RNG, RNGState } from "./base/rng.ts";
import type { ExactKL } from "./model/head.ts";
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
