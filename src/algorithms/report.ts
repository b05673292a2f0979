/** @file One step in numbers and samples. Names and meanings are in rl/metrics.ts. */
import { pick } from "../experience/ask.ts";
import type { Answered } from "../experience/collect.ts";
import type { Experience } from "../experience/experience.ts";
import { tokenRecords } from "../experience/token-record.ts";
import type { AdamW } from "../nn/adamw.ts";
import type { OptimizerConfig } from "../nn/options.ts";
import { residentBytes } from "../platform/memory.ts";
import { groupSpread } from "../rl/groups.ts";
import type { StepSignals } from "../rl/idle.ts";
import type { ImportanceWeights } from "../rl/importance.ts";
import { type KLEstimates, loggedKl } from "../rl/kl.ts";
import type { AdvantageConfig, KLConfig } from "../rl/options.ts";
import { ppoStatistics, quantile, sampledEntropy } from "../rl/stats.ts";
import { maskedMean, maskedVariance } from "../rl/whiten.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Metrics, Sample } from "./events.ts";
import type { LossConfig } from "./options/ppo-options.ts";
import type { UpdateRecord } from "./update.ts";

/** What every algorithm on prompts knows of a step. */
interface CommonFacts {
  config: Pick<KLConfig, "klLog"> & Pick<OptimizerConfig, "learningRate"> & { logSamples: number; async: number };
  data: Experience;
  /** What was asked and answered, what the reward function said, and how many steps old the weights are that drew it. */
  answered: Pick<Answered, "episodes" | "scores"> & { readonly staleness: number };
  /** What the reward function said, after penalties, scaling and clipping. */
  scores: readonly number[];
  /** Undefined, as is refLogprobs, where there is no reference. */
  kl?: KLEstimates | undefined;
  klCoef: number;
  /** Of the reference, [B, W]. */
  refLogprobs?: Float32Array | undefined;
  /** What advantages are made from, [B, W]; none where only whole responses are rewarded. */
  rewards?: Float32Array;
  tokenizer: Tokenizer;
  update: UpdateRecord;
  optimizer: AdamW;
  importance?: ImportanceWeights;
}

export interface ReportFacts extends CommonFacts {
  config: CommonFacts["config"] & LossConfig & AdvantageConfig;
  nonScoreRewards: Float32Array;
}

/** What was sampled, what was said of it and how far it is from the reference. */
function commonMetrics(facts: CommonFacts): Metrics {
  const { config, data, kl, importance } = facts;
  const given = moments(facts.answered.scores);
  const queryLengths = moments(data.queries.map((q) => q.length));
  const responseLengths = moments(data.responses.map((r) => r.length));
  const keptMass = Array.from(data.keptMass).filter((_, i) => data.batch.mask[i] === 1);
  const rollout = importance && {
    "rollout/kl": importance.kl,
    "rollout/importance_weight_mean": importance.mean,
    "rollout/importance_weight_std": importance.std,
    "rollout/importance_weight_min": importance.min,
    "rollout/importance_weight_max": importance.max,
    "rollout/importance_weight_clipped": importance.clipped,
  };
  return {
    ...(kl && klMetrics(kl, config)),
    ...rollout,
    ...(config.async > 0 && { "async/staleness": facts.answered.staleness }),
    "objective/kl_coef": facts.klCoef,
    "objective/entropy": sampledEntropy(data.logprobs, data.batch),
    "env/reward_mean": given.mean,
    "env/reward_std": given.std,
    ...quantiles(facts.answered.scores),
    "tokens/queries_len_mean": queryLengths.mean,
    "tokens/queries_len_std": queryLengths.std,
    "tokens/responses_len_mean": responseLengths.mean,
    "tokens/responses_len_std": responseLengths.std,
    "tokens/kept_mass_mean": moments(keptMass).mean,
    "tokens/kept_mass_min": keptMass.reduce((a, b) => Math.min(a, b), 1),
  };
}

function klMetrics(kl: KLEstimates, config: Pick<KLConfig, "klLog">): Metrics {
  const logged = loggedKl(kl, config);
  return {
    "objective/kl": logged.mean,
    "objective/kl_stderr": logged.standardError,
    "objective/kl_k1": kl.k1.mean,
    "objective/kl_k1_stderr": kl.k1.standardError,
    "objective/kl_k3": kl.k3.mean,
    "objective/kl_k3_stderr": kl.k3.standardError,
    ...(kl.exact && {
      "objective/kl_exact": kl.exact.mean,
      "objective/kl_exact_stderr": kl.exact.standardError,
    }),
  };
}

export function stepReport(facts: ReportFacts): { metrics: Metrics; samples: Sample[] } {
  const { config, data, update } = facts;
  const { batch } = data;
  const stats = ppoStatistics({
    logprobs: update.logprobs,
    oldLogprobs: pick(data.logprobs, update.index),
    values: update.values,
    oldValues: pick(data.values, update.index),
    advantages: update.advantages,
    returns: update.returns,
    mask: new Uint8Array(update.index.length).fill(1),
    clipRange: config.clipRange,
    clipRangeValue: config.clipRangeValue,
  });
  const score = moments(facts.scores);
  const entropy = moments(Array.from(update.entropies)).mean;
  const metrics: Metrics = {
    ...commonMetrics(facts),
    "ppo/mean_scores": score.mean,
    "ppo/std_scores": score.std,
    "ppo/mean_non_score_reward": maskedMean(facts.nonScoreRewards, batch.mask),
    "ppo/loss/policy": stats.policyLoss,
    "ppo/loss/value": stats.valueLoss,
    "ppo/loss/total": stats.policyLoss + config.vfCoef * stats.valueLoss - config.entropyCoef * entropy,
    "ppo/policy/entropy": entropy,
    "ppo/policy/approxkl": stats.approxKl,
    "ppo/policy/policykl": stats.policyKl,
    "ppo/policy/clipfrac": stats.clipFraction,
    "ppo/policy/advantages_mean": stats.advantagesMean,
    "ppo/policy/ratio_mean": stats.ratioMean,
    "ppo/policy/ratio_min": stats.ratioMin,
    "ppo/policy/ratio_max": stats.ratioMax,
    "ppo/policy/ratio_var": stats.ratioVar,
    "ppo/policy/first_ratio_deviation": update.firstRatioDeviation,
    "ppo/returns/mean": stats.returnsMean,
    "ppo/returns/var": stats.returnsVar,
    "ppo/val/vpred": stats.valuePredictionMean,
    "ppo/val/mean": maskedMean(data.values, batch.mask),
    "ppo/val/var": maskedVariance(data.values, batch.mask),
    "ppo/val/error": stats.valueError,
    "ppo/val/clipfrac": stats.valueClipFraction,
    "ppo/val/var_explained": stats.varExplained,
    "ppo/epochs": update.epochs,
    "ppo/skipped_minibatches": update.skipped,
    "ppo/learning_rate": facts.optimizer.options.learningRate,
    "ppo/grad_norm": update.gradNorm,
    "ppo/update_norm": update.updateNorm,
    "ppo/skipped_updates": update.skippedUpdates,
  };
  return { metrics, samples: samplesOf(facts, true) };
}

/** Of GRPO and RLOO. */
export interface GroupFacts extends CommonFacts {
  config: CommonFacts["config"] & { numGenerations: number };
  /** Of each response, [B]. */
  advantages: Float32Array;
  /** Share of the ratios that are clipped: of tokens, or of responses. */
  clipFraction: number;
}

/** The same of a step whose responses are compared within groups. */
export function groupReport(facts: GroupFacts): { metrics: Metrics; samples: Sample[] } {
  const { config, data, update } = facts;
  const d = Float64Array.from(update.logprobs, (x, i) => x - data.logprobs[update.index[i]]);
  const ratio = moments(Array.from(d, Math.exp));
  const score = moments(facts.scores);
  const spread = groupSpread(facts.scores, config.numGenerations);
  const metrics: Metrics = {
    ...commonMetrics(facts),
    "group/mean_scores": score.mean,
    "group/std_scores": spread.std,
    "group/equal_scores": spread.equal,
    "group/advantages_std": moments(Array.from(facts.advantages)).std,
    "policy/loss": update.loss,
    "policy/entropy": moments(Array.from(update.entropies)).mean,
    "policy/approxkl": moments(Array.from(d, (x) => 0.5 * x * x)).mean,
    "policy/policykl": -moments(Array.from(d)).mean,
    "policy/clipfrac": facts.clipFraction,
    "policy/ratio_mean": ratio.mean,
    "policy/ratio_min": Math.exp(d.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY)),
    "policy/ratio_max": Math.exp(d.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)),
    "policy/first_ratio_deviation": update.firstRatioDeviation,
    "update/epochs": update.epochs,
    "update/learning_rate": facts.optimizer.options.learningRate,
    "update/grad_norm": update.gradNorm,
    "update/norm": update.updateNorm,
    "update/skipped": update.skippedUpdates,
  };
  return { metrics, samples: samplesOf(facts, false) };
}

/** The same step as rl/idle.ts looks at it. */
export function stepSignals(facts: ReportFacts | GroupFacts): StepSignals {
  const { config, data, scores, update, optimizer } = facts;
  const { queries, responses, batch, logprobs } = data;
  const differs = (b: number) => responses[b].join() !== responses[0].join() || queries[b].join() !== queries[0].join();
  return {
    logprobs: logprobs.filter((_, i) => batch.mask[i] === 1),
    differ: responses.some((_, b) => differs(b)),
    scores,
    given: facts.answered.scores,
    advantages: update.advantages,
    whitened: "whitenAdvantages" in config && config.whitenAdvantages,
    groupSize: "numGenerations" in config ? config.numGenerations : undefined,
    learningRate: optimizer.options.learningRate,
    baseLearningRate: config.learningRate,
    updateNorm: update.updateNorm,
    gradNorm: update.gradNorm,
    skipped: update.skipped,
  };
}

/** How the scores of a batch are spread. */
function quantiles(scores: readonly number[]): Metrics {
  const sorted = Float64Array.from(scores).sort();
  return {
    "env/reward_min": sorted[0],
    "env/reward_p10": quantile(sorted, 0.1),
    "env/reward_p25": quantile(sorted, 0.25),
    "env/reward_median": quantile(sorted, 0.5),
    "env/reward_p75": quantile(sorted, 0.75),
    "env/reward_p90": quantile(sorted, 0.9),
    "env/reward_max": sorted[sorted.length - 1],
  };
}

/** The first responses, and the best and the worst of all. */
function samplesOf(facts: CommonFacts, hasValues: boolean): Sample[] {
  const { config } = facts;
  const { scores: given } = facts.answered;
  if (config.logSamples === 0) return [];
  const [best, worst] = [given.indexOf(Math.max(...given)), given.indexOf(Math.min(...given))];
  const picked = (b: number) => (best === worst ? undefined : b === best ? "best" : b === worst ? "worst" : undefined);
  const shown = given.flatMap((_, b) => (b < config.logSamples || picked(b) !== undefined ? [b] : []));
  const record = tokenRecords(facts);
  return shown.map((b) => ({ ...sample(facts, b, hasValues), ...record(b), ...(picked(b) && { picked: picked(b) }) }));
}

function sample({ config, data, answered, kl }: CommonFacts, b: number, hasValues: boolean) {
  const { width } = data.batch;
  const tokens = Array.from(data.responses[b]);
  const values = hasValues ? Array.from(data.values.subarray(b * width, b * width + tokens.length)) : [];
  const { prompt, messages, response, responseWithSpecialTokens } = answered.episodes[b];
  return {
    prompt,
    ...(messages && { messages }),
    response,
    responseWithSpecialTokens,
    score: answered.scores[b],
    ...(kl && { kl: loggedKl(kl, config).perSequence[b] }),
    tokens,
    values,
  };
}

/** Mean and unbiased standard deviation (0 for a single number). */
function moments(values: readonly number[]): { mean: number; std: number } {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((a, b) => a + (b - mean) ** 2, 0);
  return { mean, std: values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0 };
}

type Lap =
  | "time/get_response"
  | "time/get_scores"
  | "time/forward_pass"
  | "time/updates"
  | "time/ppo/forward_pass"
  | "time/ppo/compute_rewards"
  | "time/ppo/compute_advantages"
  | "time/ppo/optimize_step";

/** Seconds between laps, by metric name, and the memory at the end. */
export class Stopwatch {
  readonly #laps: Partial<Record<Lap, number>> = {};
  readonly #start = performance.now();
  #last = this.#start;

  lap(name: Lap): void {
    const now = performance.now();
    this.#laps[name] = (now - this.#last) / 1000;
    this.#last = now;
  }

  times(): Partial<Record<Lap | "time/total" | "memory/resident_bytes", number>> {
    const total = (performance.now() - this.#start) / 1000;
    return { ...this.#laps, "time/total": total, "memory/resident_bytes": residentBytes() };
  }

  /** With what PPO took after the scores were known. */
  ppoTimes(): Metrics {
    const times = this.times();
    const sampling = (times["time/get_response"] ?? 0) + (times["time/get_scores"] ?? 0);
    return { ...times, "time/ppo/total": (times["time/total"] as number) - sampling };
  }
}
