/** @file PPO. `train` is the loop and `step` the algorithm: prompts, responses, scores, rewards, advantages, updates, report. */
import { fail } from "../base/errors.ts";
import type { IdList } from "../base/token-ids.ts";
import { encodePrompts, type PromptsGiven } from "../data/encode.ts";
import { type Prompt, PromptSampler, type PromptSamplerState } from "../data/prompts.ts";
import type { Passes } from "../experience/ask.ts";
import { auditStep } from "../experience/audit.ts";
import { type Responder, respondAndScore } from "../experience/collect.ts";
import { type Experience, experience } from "../experience/experience.ts";
import { namingExtremes } from "../experience/extremes.ts";
import { checkFinite, checkWeights } from "../experience/finite.ts";
import { checkDrawn, type GivenBatch, givenExperience, readGiven, unlikeRecord } from "../experience/given.ts";
import { truncateOptions } from "../experience/options.ts";
import { scoreReference } from "../experience/reference.ts";
import { rescore, rolloutRemarks, scoreAll, scoreValues, weightTargets } from "../experience/rescore.ts";
import type { RewardFunction } from "../experience/rewards.ts";
import { checkModelOptions, checkRoles, takeWeights } from "../experience/roles.ts";
import { type RewardSample, readSample } from "../experience/sample.ts";
import { drawableIds, drawableNotes } from "../model/drawable.ts";
import type { KeptSet } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { AdamW } from "../nn/adamw.ts";
import { adamOptions } from "../nn/options.ts";
import { scheduleFactor } from "../nn/schedules.ts";
import { AdaptiveKLController, FixedKLController, type KLController } from "../rl/controllers.ts";
import type { Draws } from "../rl/draws.ts";
import { IdleWatch } from "../rl/idle.ts";
import { type KLEstimate, klEstimates } from "../rl/kl.ts";
import { NO_STEPS } from "../rl/martingale.ts";
import { rewardsFromScores } from "../rl/rewards.ts";
import { NO_MOMENTS, type RunningMoments, shapeScores } from "../rl/scores.ts";
import { learningTargets } from "../rl/targets.ts";
import { scoreFacts, type TruncateOptions } from "../rl/truncate.ts";
import { samplingOptions } from "../sample/distribution.ts";
import { responseEnds } from "../sample/ends.ts";
import type { GenerateOptions, SampledResponse } from "../sample/generate.ts";
import { decodingWeights } from "../sample/precision.ts";
import { Adjustments, checkIds, type Transform } from "../sample/transforms.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { partsOf, type TrainedPart, type Trainer } from "./algorithm.ts";
import { ppoConfig } from "./config.ts";
import type { TrainEvent } from "./events.ts";
import { Learner, type LearnerOptions } from "./learner.ts";
import type { PPOConfig } from "./options.ts";
import { Stopwatch, stepReport, stepSignals } from "./report.ts";
import { checkedTrainerState, type TrainerState } from "./trainer-state.ts";
import { updatePolicy } from "./update.ts";
import { initializeValueHead } from "./value-head-init.ts";

export interface PPOTrainerOptions {
  model: CausalLMWithValueHead;
  tokenizer: Tokenizer;
  reward: RewardFunction;
  /** How errors call the reward. */
  rewardName?: string;
  config?: Partial<PPOConfig>;
  /** Changes of the logits beyond those of the config. To resume a run, give them again. */
  transforms?: readonly Transform[];
  /** What the KL is measured against; default: a frozen copy of the model as it is now. */
  reference?: CausalLMWithValueHead;
}

/** What {@link PPOTrainer.step} did. `warnings`: what the audit found, when config.audit is "warn". */
export type StepResult = Extract<TrainEvent, { type: "step" }> & { warnings: string[] };

/** A batch of experience, as text, and what the reward function said. */
interface Answered {
  data: Experience;
  passes: Passes;
  episodes: readonly RewardSample[];
  scores: number[];
  /** Of token ids that came without a record. */
  draws?: Draws;
}

export class PPOTrainer implements Trainer<PromptsGiven, TrainerState> {
  readonly model: CausalLMWithValueHead;
  readonly reference: CausalLMWithValueHead;
  readonly tokenizer: Tokenizer;
  readonly config: PPOConfig;
  readonly optimizer: AdamW;
  /** The value model, when it is not a head on the policy. */
  readonly critic?: Learner;
  readonly klController: KLController;
  /** The tokens that end a response, unless `stopAtEos` is off; empty: none does. */
  readonly eosTokenIds: readonly number[];
  /** What to tell the user about the model at the start. */
  readonly notes: readonly string[];
  /** PPO steps taken. */
  stepsTaken = 0;
  readonly #reward: RewardFunction;
  readonly #rewardName: string;
  readonly #transforms?: readonly Transform[];
  readonly #drawable?: KeptSet;
  readonly #policy: Learner;
  readonly #truncation: TruncateOptions;
  #scoreMoments: RunningMoments = NO_MOMENTS;
  #promptState?: PromptSamplerState;
  #audit = NO_STEPS;
  readonly #idle = new IdleWatch();
  /** Optimizer steps at the end of the last PPO step. */
  #settledAt = 0;
  #skippedUpdates = 0;

  /** @throws config, usage - the model is in train mode, options that do not fit each other or the vocabulary */
  constructor(options: PPOTrainerOptions) {
    const { model, tokenizer, reward, rewardName = "function", config = {}, transforms, reference } = options;
    refuseTrainMode(model);
    this.model = model;
    this.tokenizer = tokenizer;
    this.config = ppoConfig(config);
    checkIds(this.config.bannedTokens, "bannedTokens", model.sizes.vocabSize);
    this.#truncation = truncateOptions(this.config, tokenizer);
    const ends = responseEnds(model, tokenizer);
    this.eosTokenIds = ends.ids;
    checkModelOptions(this.config, model.sizes, ends.ids);
    checkRoles(model, reference, this.config.frozenLayers);
    checkWeights("policy", model.parameters);
    if (reference) checkWeights("reference", reference.parameters);
    this.#drawable = drawableIds(tokenizer, model.sizes.vocabSize);
    const note = initializeValueHead(model, this.config);
    this.notes = [
      ...(note === undefined ? [] : [note]),
      ...(this.config.stopAtEos ? ends.notes : []),
      ...(this.#drawable?.size === model.drawable?.size ? [] : drawableNotes(this.#drawable, model.sizes.vocabSize)),
    ];
    this.reference = reference ?? model.frozenCopy(this.config.frozenLayers);
    this.#reward = reward;
    this.#rewardName = rewardName;
    this.#transforms = transforms;
    this.#policy = new Learner(model, learnerOptions(this.config));
    this.optimizer = this.#policy.optimizer;
    if (this.config.valueModel === "separate")
      this.critic = new Learner(model.frozenCopy(this.config.frozenLayers), {
        ...learnerOptions(this.config),
        name: "the value model",
      });
    const { klCoef, klTarget, klHorizon } = this.config;
    this.klController =
      this.config.klController === "adaptive"
        ? new AdaptiveKLController(klCoef, klTarget, klHorizon)
        : new FixedKLController(klCoef);
  }

  /**
   * Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first.
   * @param given texts, rows of a file, or what {@link encodePrompts} made of either
   */
  async *train(given: PromptsGiven, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const encode = (texts: readonly (string | Prompt)[]) =>
      encodePrompts(texts, this.tokenizer, this.model.sizes, this.config);
    const { prompts, ids, notes } = "ids" in given ? given : encode(given);
    const sampler = new PromptSampler(prompts.length, this.config.seed);
    if (this.#promptState) sampler.setState(this.#promptState);
    if (!("ids" in given)) for (const message of notes) yield { type: "warning", step: this.stepsTaken, message };
    if (!this.config.maskReplay) yield { type: "warning", step: this.stepsTaken, message: NO_REPLAY };
    for (const remark of rolloutRemarks(this.config)) yield { ...remark, step: this.stepsTaken };
    while (this.stepsTaken < this.config.steps && !options.signal?.aborted) {
      const chosen = Array.from(sampler.next(this.config.batchSize)); // 1 prompts
      const [asked, queries] = [chosen.map((i) => prompts[i]), chosen.map((i) => ids[i])];
      yield* this.#step(asked, queries, sampler.getState());
    }
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < this.config.steps };
  }

  /** A PPO step: prompts were chosen (1); respond and score (2, 3), then learn (4 to 7). */
  async *#step(
    prompts: readonly Prompt[],
    queries: readonly Int32Array[],
    promptState: PromptSamplerState,
  ): AsyncGenerator<TrainEvent> {
    refuseTrainMode(this.model);
    const release = takeWeights(this.model);
    try {
      const clock = new Stopwatch();
      const answered = yield* this.#respondAndScore(prompts, queries, clock); // 2 respond, 3 score
      yield* namingExtremes(this.#learn(answered, promptState, clock), answered, this.config); // 4 to 7
    } finally {
      release();
    }
  }

  async *#learn(
    { data: answered, passes, episodes, scores: given, draws }: Answered,
    promptState: PromptSamplerState | undefined,
    clock: Stopwatch,
  ): AsyncGenerator<TrainEvent> {
    const { config, klController, optimizer } = this;
    const step = this.stepsTaken + 1;
    const klCoef = klController.value;
    const { data: scored, importance } = await rescore(this.model, answered, config, passes); // where another policy drew them
    const data = this.critic ? { ...scored, values: await scoreValues(this.critic.model, scored, passes) } : scored;
    const { batch, logprobs, values } = data;
    const asked = episodes.map(({ prompt }) => prompt);
    const responseFacts = scoreFacts(data.responses, this.#truncation, this.eosTokenIds);
    const { scores, moments } = shapeScores(given, responseFacts, config, this.#scoreMoments);

    // 4 rewards = score - beta KL; the reference is asked about the same tokens under the same kept sets
    const wantsExact = config.klPenalty === "exact" || config.klLog === "exact";
    const reference = await scoreReference(this.model, this.reference, data, passes, wantsExact);
    checkFinite(step, data, asked, { "log-probs": logprobs, values, "reference log-probs": reference.refLogprobs });
    clock.lap("time/ppo/forward_pass");
    const kl = klEstimates(logprobs, reference.refLogprobs, batch, reference.exactKl);
    const endTokens = this.#endOfResponse;
    const tokens = { data, drawnLogprobs: answered.logprobs, ...reference, kl, importance, draws, endTokens };
    const audit = auditStep(this.#audit, tokens, config, step);
    for (const message of audit.warnings) yield { type: "warning", step, message };
    const logged = kl[config.klLog] as KLEstimate; // exact too: it was asked for
    const inputs = { scores, logprobs, ...reference, klCoef, penalty: config.klPenalty, batch };
    const { rewards, nonScoreRewards } = rewardsFromScores(inputs);
    clock.lap("time/ppo/compute_rewards");

    // 5 advantages
    const targets = weightTargets(learningTargets({ rewards, values, batch }, config), importance);
    checkFinite(step, data, asked, { rewards, returns: targets.returns, advantages: targets.advantages });
    clock.lap("time/ppo/compute_advantages");

    // 6 K epochs of updates
    const learners = { policy: this.#policy, critic: this.critic };
    for (const learner of [learners.policy, learners.critic])
      if (learner) learner.optimizer.options.learningRate = config.learningRate * this.#schedule(step);
    const update = yield* updatePolicy(learners, data, targets, passes, config, step, this.#skippedUpdates);
    clock.lap("time/ppo/optimize_step");

    // 7 report
    klController.update(logged.mean, batch.rows);
    this.stepsTaken = step;
    this.#promptState = promptState;
    this.#scoreMoments = moments;
    this.#settledAt = optimizer.step;
    this.#skippedUpdates = update.skippedUpdates;
    this.#audit = audit.state ?? NO_STEPS;
    const facts = { config, data, importance, episodes, given, scores, kl, klCoef, nonScoreRewards };
    const { metrics, samples } = stepReport({ ...facts, update, optimizer });
    const remark = this.#idle.look(stepSignals({ ...facts, update, optimizer }));
    if (remark) yield { ...remark, step };
    yield {
      type: "step",
      step,
      steps: config.steps,
      metrics: { ...metrics, ...audit.metrics, ...clock.times() },
      samples,
    };
  }

  /**
   * One PPO step on responses you sampled, with the scores you gave them: parts 4 to 7 of {@link train}.
   *
   * @param queries token ids of each prompt: Int32Arrays or plain arrays
   * @param responses what {@link generate} returned with this trainer's {@link sampling} options: each token is scored as it
   *   was drawn, once it is known that the policy says of it what was recorded. Or token ids alone, from elsewhere: they are
   *   scored now, as draws from the whole distribution of the policy at the config's temperature, and the audit tests whether
   *   they can be that (experience/given.ts).
   * @param scores higher is better, one for each response
   * @throws usage, input - what does not fit together, or is no token id; another step has not ended
   * @throws audit - as {@link train}; a record that is not what the policy says
   */
  async step(
    queries: readonly IdList[],
    responses: readonly IdList[] | readonly SampledResponse[],
    scores: ArrayLike<number | boolean>,
  ): Promise<StepResult> {
    refuseTrainMode(this.model);
    const given = readGiven(this.model.sizes, queries, responses, scores);
    checkDrawn(given.tokens, this.#drawable);
    const release = takeWeights(this.model);
    try {
      return await this.#stepOn(given);
    } finally {
      release();
    }
  }

  async #stepOn({ queries, tokens, recorded, scores }: GivenBatch): Promise<StepResult> {
    const { config, model, tokenizer } = this;
    const clock = new Stopwatch();
    const warnings: string[] = [];
    const adjustments = new Adjustments(samplingOptions(this.sampling()), model.sizes.vocabSize);
    const passes = { adjustments, partSize: this.#partSize };
    const { data, draws } = recorded
      ? { data: experience([{ queries, responses: recorded }], config.maskReplay), draws: undefined }
      : await givenExperience(model, queries, tokens, passes, config.audit !== "off");
    if (recorded && config.audit !== "off" && config.maskReplay && config.rolloutPrecision === "fp32") {
      const unlike = unlikeRecord(data, await scoreAll(model, data, passes), data.batch);
      const where = `PPO step ${this.stepsTaken + 1}`;
      if (unlike && config.audit === "stop") fail("audit", { where, ...unlike });
      if (unlike) warnings.push(`found ${unlike.found}, expected ${unlike.expected}. ${unlike.fix}`);
    }
    const { reader } = this.responder;
    const episodes = data.responses.map((response, b) =>
      readSample(reader, { prompt: tokenizer.decode(queries[b]), row: {} }, queries[b], response),
    );
    const answered = { data, passes, episodes, scores: [...scores], draws };
    const events = namingExtremes(this.#learn(answered, this.#promptState, clock), answered, config);
    for await (const event of events) {
      if (event.type === "warning") warnings.push(event.message);
      if (event.type === "step") return { ...event, warnings };
    }
    throw new Error("a step ended without a report");
  }

  /** How responses are sampled, all but the random streams. */
  sampling(): GenerateOptions {
    const { stop: strings, ...config } = this.config;
    const stop = strings.length > 0 ? { strings, tokenizer: this.tokenizer } : undefined;
    const [eosTokenId, transforms, drawable] = [this.#endOfResponse, this.#transforms, this.#drawable];
    return { ...config, stop, eosTokenId, transforms, drawable };
  }

  /** Who answers prompts, and who judges: the reward function is shown a response as far as truncateToken. @internal */
  get responder(): Responder {
    const { model, tokenizer, config } = this;
    const reader = { tokenizer, truncation: this.#truncation };
    return { model, reader, reward: this.#reward, rewardName: this.#rewardName, config, sampling: this.sampling() };
  }

  get #partSize(): number {
    return this.config.microBatchSize || this.config.miniBatchSize;
  }

  /** The tokens that end a response. */
  get #endOfResponse(): readonly number[] {
    return this.config.stopAtEos ? this.eosTokenIds : [];
  }

  #schedule(step: number): number {
    return scheduleFactor(this.config.schedule, step - 1, this.config.steps, this.config.warmupSteps);
  }

  async *#respondAndScore(
    prompts: readonly Prompt[],
    queries: readonly Int32Array[],
    clock: Stopwatch,
  ): AsyncGenerator<TrainEvent, Answered> {
    const { rolloutPrecision: precision, rolloutBatchSize, maxNewTokens, batchSize, maskReplay } = this.config;
    const form = { precision, rows: Math.min(queries.length, rolloutBatchSize), steps: maxNewTokens };
    const weights = decodingWeights(this.model, form, this.#policy.grads); // those of the last step are not needed any more
    const responder = { ...this.responder, sampling: { ...this.sampling(), weights } };
    const lap = (done: "respond" | "score") => {
      if (done === "respond") weights.release(); // where an error got in before, the garbage collector frees it
      clock.lap(done === "respond" ? "time/get_response" : "time/get_scores");
    };
    const place = { step: this.stepsTaken + 1, streamOf: (i: number) => this.stepsTaken * batchSize + i, lap };
    const { rollouts, samples, scores } = yield* respondAndScore(responder, prompts, queries, place);
    const passes = { adjustments: rollouts[0].adjustments, partSize: this.#partSize };
    return { data: experience(rollouts, maskReplay), passes, episodes: samples, scores };
  }

  /** The policy, and the value model where it is one of its own. */
  get parts(): readonly TrainedPart[] {
    return partsOf({ "": this.#policy, value_model: this.critic });
  }

  /** Whether weights, optimizer and state belong together: false while a step's updates are under way. */
  get canBeSaved(): boolean {
    return this.unsettledUpdates === 0;
  }

  /** Optimizer steps of a PPO step that has not ended, or did not end well. */
  get unsettledUpdates(): number {
    return this.optimizer.step - this.#settledAt;
  }

  /** Begin a new test of whether tokens are draws from the policy, once a gap that the audit found is closed. */
  resetAudit(): void {
    this.#audit = NO_STEPS;
  }

  getState(): TrainerState {
    const scores = this.config.scoreScaling === "none" ? undefined : this.#scoreMoments;
    const [step, skippedUpdates] = [this.stepsTaken, this.#skippedUpdates];
    const audit = this.#audit === NO_STEPS ? undefined : this.#audit;
    return { step, kl: this.klController.getState(), prompts: this.#promptState, scores, skippedUpdates, audit };
  }

  /**
   * Continue from a saved state. Whoever saved them restores the model's weights and, before this, the optimizer.
   * @throws checkpoint - a state that no trainer can have been in
   */
  setState(state: TrainerState): void {
    checkedTrainerState(state);
    this.#settledAt = this.optimizer.step;
    this.stepsTaken = state.step;
    this.klController.setState(state.kl);
    this.#promptState = state.prompts;
    this.#scoreMoments = state.scores ?? NO_MOMENTS;
    this.#skippedUpdates = state.skippedUpdates ?? 0;
    this.#audit = state.audit ?? NO_STEPS;
  }
}

const learnerOptions = (config: PPOConfig): LearnerOptions => {
  const { maxGradNorm, frozenLayers, gradientCheckpointing } = config;
  return { optimizer: adamOptions(config), maxGradNorm, frozenLayers, gradientCheckpointing };
};

const NO_REPLAY =
  "maskReplay is off: tokens drawn from a truncated distribution are scored under the whole one. The policy ratio is then " +
  "about the probability of the kept set instead of 1, and PPO learns to exploit the difference";

function refuseTrainMode(model: CausalLMWithValueHead): void {
  if (model.training)
    fail("config", {
      where: "PPOTrainer, model",
      found: "a model in train mode",
      expected: "eval mode: PPO compares with earlier values, and with dropout the same weights do not give them again",
      fix: "call model.eval()",
    });
}
