/**
 * @file RLOO, REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740): a response is one action, its reward holds the KL
 * of the whole response, and the baseline is the mean reward of the other responses to the same prompt.
 *
 *     R_i  = r_i - beta sum over tokens of (log pi_old(x_t) - log pi_ref(x_t))
 *     A_i  = R_i - mean of R_j over the others of the group
 *     loss = mean over responses i of max(-A_i ratio_i, -A_i clip(ratio_i, 1 - e, 1 + e'))   ratio_i = pi(x) / pi_old(x) of the response
 *
 * In the first minibatch the ratio is 1 and this is REINFORCE; it is there for several minibatches and epochs, as in TRL.
 */
import type { z } from "zod";
import { notNegative, onOff } from "../base/option-values.ts";
import { librarySource, type OptionSource } from "../base/options.ts";
import type { PromptQueue } from "../data/prompt-queue.ts";
import type { Answered } from "../experience/collect.ts";
import { askReference } from "../experience/reference.ts";
import { rescore } from "../experience/rescore.ts";
import { clipFraction, leaveOneOut, toTokens } from "../rl/groups.ts";
import { sequenceWeights } from "../rl/importance.ts";
import type { TrainEvent } from "./events.ts";
import { type GroupConfig, groupPairs, groupTables } from "./grpo.ts";
import { rlooLoss } from "./losses.ts";
import { type Followed, resolveConfig } from "./options/config.ts";
import { defaultsOf, type RolloutTrainerOptions } from "./options/ppo-options.ts";
import { groupReport, type Stopwatch, stepSignals } from "./report.ts";
import { RolloutTrainer } from "./rollout.ts";
import { responseRatios, updateWeights } from "./update.ts";

/** Every option of an RLOO run. */
export interface RLOOConfig extends GroupConfig {
  /** Beta, what a nat of a response's KL from the reference costs. A number, at least 0. Default: 0.05. */
  klCoef: number;
  /** Scale advantages to mean 0 and standard deviation 1 over the batch. Default: false. */
  normalizeAdvantages: boolean;
}

const [first, last] = groupTables;

/** One line for each option. @internal */
export const rlooOptions = {
  ...first,
  klCoef: [notNegative, 0.05, "beta, what a nat of a response's KL from the reference costs"],
  normalizeAdvantages: [onOff, false, "scale advantages to mean 0 and standard deviation 1 over the batch"],
  ...last,
} as const satisfies {
  readonly [K in keyof RLOOConfig]: readonly [z.ZodType<RLOOConfig[K]>, RLOOConfig[K], string];
};

/** The default of every RLOO option. */
export const RLOO_DEFAULTS: Readonly<RLOOConfig> = defaultsOf<RLOOConfig>(rlooOptions);

/** The config from several sources, the later before the earlier. @throws config @internal */
export const resolveRLOOConfig = (
  sources: readonly OptionSource[],
): { config: RLOOConfig; followed: readonly Followed[] } => resolveConfig<RLOOConfig>(rlooOptions, sources, groupPairs);

/**
 * A complete, checked config from some options. Defaults follow what is given: with a batchSize of 16 the miniBatchSize is 16 too.
 * @param where what errors call their origin
 * @throws config - an unknown name, a value out of range, options that contradict each other
 */
export const rlooConfig = (options: Readonly<Partial<RLOOConfig>> = {}, where = "options"): RLOOConfig =>
  resolveRLOOConfig([librarySource({ ...options }, where)]).config;

/** What an {@link RLOOTrainer} trains, and by what. */
export type RLOOTrainerOptions = RolloutTrainerOptions<RLOOConfig>;

/** Trains a model by RLOO: `train` on prompts, `step` on responses that you sampled and scored. It needs no value head. */
export class RLOOTrainer extends RolloutTrainer<RLOOConfig> {
  /** @throws config, usage - the model is in train mode, options that do not fit each other or the vocabulary */
  constructor(options: RLOOTrainerOptions) {
    super("RLOO", options, rlooConfig(options.config));
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

    // 4 rewards = score - beta KL of the response; the reference is asked about the same tokens under the same kept sets
    const asked = answered.reference;
    const { refLogprobs, kl } = await askReference(model, reference, data, passes, false, asked);
    this.checkFinite(data, answered, { "log-probs": logprobs, "reference log-probs": refLogprobs });
    clock.lap("time/forward_pass");
    const audit = yield* this.audit({ data, drawnLogprobs: drawn.logprobs, refLogprobs, kl, importance, draws });
    const rewards = scores.map((score, b) => score - (kl ? klCoef * kl.k1.perSequence[b] : 0));

    // 5 advantages: better than the others of its group, the same for every token of a response
    const advantages = leaveOneOut(rewards, numGenerations, config.normalizeAdvantages);
    const weights = importance && sequenceWeights(importance, batch, config.importanceWeightCap);
    const perToken = toTokens(
      advantages.map((a, b) => a * (weights?.[b] ?? 1)),
      batch,
    );
    this.checkFinite(data, answered, { advantages: perToken });

    // 6 updates: epochs times through the batch, in minibatches
    const sequence = toTokens(
      Int32Array.from(advantages, (_, b) => b),
      batch,
    );
    const tokens = { oldLogprobs: logprobs, advantages: perToken, sequence };
    const objective = {
      policy: rlooLoss(config),
      given: ({ length }: Int32Array) => ({
        ...tokens,
        weight: toTokens(
          advantages.map(() => 1 / length),
          batch,
        ),
      }),
    };
    const learning = { ...config, learningRate: this.learningRate };
    const place = { algorithm: this.algorithm, step, skippedBefore: this.skippedUpdates };
    const update = yield* updateWeights(this.learners, data, objective, passes, learning, place);
    clock.lap("time/updates");

    // 7 report
    const { skippedUpdates } = update;
    this.settle({ step, prompts: answered.prompts, scores: moments, audit: audit.state, skippedUpdates });
    const moved = responseRatios(update, data);
    const clipped = clipFraction(
      moved.logRatios,
      moved.rows.map((b) => advantages[b]),
      config,
    );
    const { tokenizer } = this;
    const batchFacts = { config, data, importance, answered, scores, kl, klCoef, refLogprobs, tokenizer };
    const facts = { ...batchFacts, advantages, update, optimizer, clipFraction: clipped };
    const { metrics, samples } = groupReport(facts);
    yield* this.idle(stepSignals(facts));
    const all = { ...metrics, ...audit.metrics, ...clock.times() };
    yield { type: "step", step, steps: config.steps, metrics: all, samples };
  }
}
