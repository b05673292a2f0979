/**
 * @file GRPO (Shao et al. 2024, arXiv 2402.03300): PPO without a value function. Several responses to each prompt are compared with
 * each other: an advantage is how much better a response scored than the others of its group.
 *
 *     A_i  = (r_i - mean of the group) / std of the group
 *     loss = mean over responses i of mean over tokens t of
 *            max(-A_i ratio_t, -A_i clip(ratio_t, 1 - e, 1 + e')) + beta k3_t      ratio_t = pi(x_t) / pi_old(x_t)
 *
 * The variants are options: advantageScaling none and lengthNormalization constant are Dr. GRPO (Liu et al. 2025, arXiv 2503.20783);
 * lengthNormalization token and clipRangeHigh are DAPO (Yu et al. 2025, arXiv 2503.14476).
 */
import type { z } from "zod";
import { choice, count, notNegative, onOff, positive } from "../base/option-values.ts";
import { librarySource, type OptionSource } from "../base/options.ts";
import { promptTable } from "../data/encode.ts";
import type { PromptQueue } from "../data/prompt-queue.ts";
import type { Answered } from "../experience/collect.ts";
import { honestyTable, judgedTable, rewardTable, rolloutTable } from "../experience/options.ts";
import { askReference } from "../experience/reference.ts";
import { rescore } from "../experience/rescore.ts";
import { optimizerTable } from "../nn/options.ts";
import {
  type AdvantageScaling,
  clipFraction,
  groupAdvantages,
  type LengthNormalization,
  tokenWeights,
  toTokens,
} from "../rl/groups.ts";
import { klTable, scoreTable } from "../rl/options.ts";
import { samplingTable } from "../sample/options.ts";
import type { TrainEvent } from "./events.ts";
import { grpoLoss } from "./losses.ts";
import { type Followed, type Pair, resolveConfig, rolloutPairs } from "./options/config.ts";
import { loraTable } from "./options/lora.ts";
import {
  defaultsOf,
  keptTable,
  modelTable,
  passTable,
  type RolloutTrainerConfig,
  type RolloutTrainerOptions,
  runTable,
} from "./options/ppo-options.ts";
import { groupReport, type Stopwatch, stepSignals } from "./report.ts";
import { RolloutTrainer } from "./rollout.ts";
import { updateWeights } from "./update.ts";

/** Options of GRPO and RLOO. */
export interface GroupConfig extends RolloutTrainerConfig {
  /** Responses per step: a multiple of numGenerations. A whole number, at least 2. Default: 128. */
  batchSize: number;
  /** Responses to each prompt, compared with each other. A whole number, at least 2. Default: 8. */
  numGenerations: number;
  /** Passes over each batch. A whole number, at least 1. Default: 1. */
  epochs: number;
  /** Ratio clip downwards, and upwards where clipRangeHigh does not say. A number, more than 0. Default: 0.2. */
  clipRange: number;
  /** Ratio clip upwards; null: as downwards. DAPO has 0.28. A number, more than 0. Default: null. */
  clipRangeHigh: number | null;
  /** Estimate of the KL in the log; none: with a klCoef of 0 no reference is kept, nor asked. Default: "k1". */
  klLog: "k1" | "k2" | "k3" | "none";
}

/** Every option of a GRPO run. */
export interface GRPOConfig extends GroupConfig {
  /** What an advantage is divided by: the standard deviation of its group's scores, of all scores, or nothing. Default: "group". */
  advantageScaling: AdvantageScaling;
  /** How tokens are averaged: within their response first, all alike, or divided by maxNewTokens. Default: "token". */
  lengthNormalization: LengthNormalization;
  /** Beta, weight of the KL from the reference in the loss; 0: none. A number, at least 0. Default: 0.04. */
  klCoef: number;
  /** Multiply the KL by the policy ratio, which makes its gradient that of the KL; GRPO was published without. Default: false. */
  klCorrection: boolean;
  /** Weight of an entropy bonus. A number, at least 0. Default: 0. */
  entropyCoef: number;
}

const { miniBatchSize, microBatchSize, gradientCheckpointing } = passTable;
const { maskReplay, audit } = honestyTable;
const { steps, seed } = runTable;

/** The options that GRPO and RLOO share, in the order they are shown: up to the optimizer, and what comes last. @internal */
export const groupTables = [
  {
    steps,
    seed,
    batchSize: [count(2), 128, "responses per step: a multiple of numGenerations"],
    numGenerations: [count(2), 8, "responses to each prompt, compared with each other"],
    miniBatchSize,
    microBatchSize,
    ...rolloutTable,
    epochs: [count(), 1, "passes over each batch"],
    ...samplingTable,
    ...promptTable,
    ...rewardTable,
    maskReplay,
    ...judgedTable,
    ...scoreTable,
    ...optimizerTable,
    frozenLayers: modelTable.frozenLayers,
    ...loraTable,
  },
  {
    klLog: [choice(["k1", "k2", "k3", "none"]), "k1", klTable.klLog[2].replace(/,[^;]*/, "")],
    clipRange: [positive, 0.2, "ratio clip downwards, and upwards where clipRangeHigh does not say"],
    clipRangeHigh: [
      positive.nullable().describe(`${positive.description}, or null for none`),
      null,
      "ratio clip upwards; none: as downwards. DAPO has 0.28",
    ],
    gradientCheckpointing,
    ...keptTable,
    audit,
  },
] as const;

const [first, last] = groupTables;

/** One line for each option. @internal */
export const grpoOptions = {
  ...first,
  advantageScaling: [
    choice(["group", "batch", "none"]),
    "group",
    "what an advantage is divided by: the standard deviation of its group's scores, of all scores, or nothing",
  ],
  lengthNormalization: [
    choice(["sequence", "token", "constant"]),
    "token",
    "how tokens are averaged: within their response first, all alike, or divided by maxNewTokens",
  ],
  klCoef: [notNegative, 0.04, "beta, weight of the KL from the reference in the loss; 0: none"],
  klCorrection: [
    onOff,
    false,
    "multiply the KL by the policy ratio, which makes its gradient that of the KL; GRPO was published without",
  ],
  entropyCoef: [notNegative, 0, "weight of an entropy bonus"],
  ...last,
} as const satisfies {
  readonly [K in keyof GRPOConfig]: readonly [z.ZodType<GRPOConfig[K]>, GRPOConfig[K], string];
};

/** The default of every GRPO option. */
export const GRPO_DEFAULTS: Readonly<GRPOConfig> = defaultsOf<GRPOConfig>(grpoOptions);

/** Whole groups, and what fits no run on prompts. @internal */
export const groupPairs = (c: GroupConfig): readonly Pair<keyof GroupConfig>[] => {
  const { batchSize, numGenerations: n } = c;
  const smaller = Array.from({ length: n }, (_, i) => n - i).find((k) => k > 1 && batchSize % k === 0);
  return [
    {
      between: ["numGenerations", "batchSize"],
      wrong: batchSize % n !== 0,
      found: `${n}`,
      expected: (other) => `a divisor of ${other}, for whole groups`,
      follow: {
        batchSize: n * Math.max(1, Math.floor(batchSize / n)),
        ...(smaller !== undefined && { numGenerations: smaller }),
      },
    },
    ...rolloutPairs(c),
  ];
};

/** The config from several sources, the later before the earlier. @throws config @internal */
export const resolveGRPOConfig = (
  sources: readonly OptionSource[],
): { config: GRPOConfig; followed: readonly Followed[] } => resolveConfig<GRPOConfig>(grpoOptions, sources, groupPairs);

/**
 * A complete, checked config from some options. Defaults follow what is given: with a batchSize of 16 the miniBatchSize is 16 too.
 * @param where what errors call their origin
 * @throws config - an unknown name, a value out of range, options that contradict each other
 */
export const grpoConfig = (options: Readonly<Partial<GRPOConfig>> = {}, where = "options"): GRPOConfig =>
  resolveGRPOConfig([librarySource({ ...options }, where)]).config;

/** What a {@link GRPOTrainer} trains, and by what. */
export type GRPOTrainerOptions = RolloutTrainerOptions<GRPOConfig>;

/** Trains a model by GRPO: `train` on prompts, `step` on responses that you sampled and scored. It needs no value head. */
export class GRPOTrainer extends RolloutTrainer<GRPOConfig> {
  /** @throws config, usage - the model is in train mode, options that do not fit each other or the vocabulary */
  constructor(options: GRPOTrainerOptions) {
    super("GRPO", options, grpoConfig(options.config));
  }

  /** @internal */
  protected override async *takeStep(source: PromptQueue | Answered, clock: Stopwatch): AsyncGenerator<TrainEvent> {
    const { config, model, reference, optimizer } = this;
    const { numGenerations, klCoef } = config;
    const step = this.stepsTaken + 1;

    // 1 prompts, each numGenerations times; 2 respond, 3 score: the reward judges some groups while the next are drawn
    const answered = yield* this.answers(source, clock);
    const { draws, scores: given, data: drawn } = answered;
    const passes = this.passes(answered);
    const { data, importance } = await rescore(model, drawn, config, passes); // where another policy drew them
    const { batch, logprobs } = data;
    const { scores, moments } = this.shape(given, data);

    // 4 reference: asked about the same tokens under the same kept sets
    const asked = answered.reference;
    const { refLogprobs, kl } = await askReference(model, reference, data, passes, false, asked);
    this.checkFinite(data, answered, { "log-probs": logprobs, "reference log-probs": refLogprobs });
    clock.lap("time/forward_pass");
    const audit = yield* this.audit({ data, drawnLogprobs: drawn.logprobs, refLogprobs, kl, importance, draws });

    // 5 advantages: how much better than the others of its group, the same for every token of a response
    const advantages = groupAdvantages(scores, numGenerations, config.advantageScaling);
    const perToken = toTokens(advantages, batch).map((a, i) => a * (importance?.weights[i] ?? 1));
    this.checkFinite(data, answered, { advantages: perToken });

    // 6 updates: epochs times through the batch, in minibatches
    const exists = Float32Array.from(batch.mask);
    const tokens = { oldLogprobs: logprobs, advantages: perToken, exists, ...(refLogprobs && { refLogprobs }) };
    const { lengthNormalization, maxNewTokens } = config;
    const weight = (rows: Int32Array) => tokenWeights(batch, rows, lengthNormalization, maxNewTokens);
    const objective = {
      policy: grpoLoss(config),
      given: (rows: Int32Array) => ({ ...tokens, weight: weight(rows) }),
    };
    const learning = { ...config, learningRate: this.learningRate };
    const place = { algorithm: this.algorithm, step, skippedBefore: this.skippedUpdates };
    const update = yield* updateWeights(this.learners, data, objective, passes, learning, place);
    clock.lap("time/updates");

    // 7 report
    const { skippedUpdates } = update;
    this.settle({ step, prompts: answered.prompts, scores: moments, audit: audit.state, skippedUpdates });
    const logRatios = update.logprobs.map((x, i) => x - logprobs[update.index[i]]);
    const clipped = clipFraction(logRatios, update.advantages, config);
    const { tokenizer } = this;
    const batchFacts = { config, data, importance, answered, scores, kl, klCoef, refLogprobs, tokenizer };
    const facts = { ...batchFacts, advantages, update, optimizer, clipFraction: clipped };
    const { metrics, samples } = groupReport(facts);
    yield* this.idle(stepSignals(facts));
    const all = { ...metrics, ...audit.metrics, ...clock.times() };
    yield { type: "step", step, steps: config.steps, metrics: all, samples };
  }
}
