/** @file Old names of public types, for one version: acronyms are in capitals now, and `Response` is the platform's. */

import type { Learner } from "./algorithms/learner.ts";
import type { PPOConfig } from "./algorithms/options.ts";
import type { RNG, RNGState } from "./base/rng.ts";
import type { ExactKL } from "./model/head.ts";
import type { GAEInputs } from "./rl/advantages.ts";
import type { KLEstimate, KLEstimates, KLInputs, KLPenalty, SampledKL } from "./rl/kl.ts";
import type { PPOInputs, PPOStatistics } from "./rl/stats.ts";
import type { SampledResponse } from "./sample/generate.ts";
import type { TokenizerModelJSON, TokenizerPartJSON } from "./tokenizer/parts.ts";
import type { TokenizerJSON } from "./tokenizer/tokenizer.ts";

/** @deprecated {@link SampledResponse} */
export type Response = SampledResponse;
/** @deprecated {@link Learner} */
export type Critic = Learner;
/** @deprecated {@link PPOConfig} */
export type PpoConfig = PPOConfig;
/** @deprecated {@link PPOInputs} */
export type PpoInputs = PPOInputs;
/** @deprecated {@link PPOStatistics} */
export type PpoStatistics = PPOStatistics;
/** @deprecated {@link KLEstimate} */
export type KlEstimate = KLEstimate;
/** @deprecated {@link KLEstimates} */
export type KlEstimates = KLEstimates;
/** @deprecated {@link KLInputs} */
export type KlInputs = KLInputs;
/** @deprecated {@link KLPenalty} */
export type KlPenalty = KLPenalty;
/** @deprecated {@link SampledKL} */
export type SampledKl = SampledKL;
/** @deprecated {@link ExactKL} */
export type ExactKl = ExactKL;
/** @deprecated {@link GAEInputs} */
export type GaeInputs = GAEInputs;
/** @deprecated {@link RNG} */
export type Rng = RNG;
/** @deprecated {@link RNGState} */
export type RngState = RNGState;
/** @deprecated {@link TokenizerModelJSON} */
export type TokenizerModelJson = TokenizerModelJSON;
/** @deprecated {@link TokenizerPartJSON} */
export type TokenizerPartJson = TokenizerPartJSON;
/** @deprecated {@link TokenizerJSON} */
export type TokenizerJson = TokenizerJSON;
