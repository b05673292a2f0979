/** @file PPO. `train` is the loop and `#step` the algorithm: prompts, responses, scores, rewards, advantages, updates, report. */
import { fail } from "../base/errors.ts";
import type { IdList } from "../base/token-ids.ts";
import { type EncodedPrompts, encodePrompts, nextPrompts, type PromptsGiven } from "../data/encode.ts";
import { type Prompt, PromptSampler, type PromptSamplerState } from "../data/prompts.ts";
import { auditStep } from "../experience/audit.ts";
import { type Answered, collect, type Place, type Responder } from "../experience/collect.ts";
import { nameExtreme } from "../experience/extremes.ts";
import { checkFinite, checkWeights } from "../experience/finite.ts";
import { answersGiven, checkDrawn, type GivenBatch, readGiven } from "../experience/given.ts";
import { truncateOptions } from "../experience/options.ts";
import { scoreReference } from "../experience/reference.ts";
import { rescore, rolloutRemarks, weightTargets } from "../experience/rescore.ts";
import type { RewardFunction } from "../experience/reward-functions.ts";
import { checkModelOptions, checkRoles, takeWeights } from "../experience/roles.ts";
import { drawableIds, drawableNotes } from "../model/drawable.ts";
import type { KeptSet } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { AdamW } from "../nn/adamw.ts";
import { adamOptions } from "../nn/options.ts";
import { scheduleFactor } from "../nn/schedules.ts";
import { type KLController, klController } from "../rl/controllers.ts";
import { IdleWatch } from "../rl/idle.ts";
import { type KLEstimate, klEstimates } from "../rl/kl.ts";
import { NO_STEPS } from "../rl/martingale.ts";
import { rewardsFromScores } from "../rl/rewards.ts";
import { NO_MOMENTS, type RunningMoments, shapeScores } from "../rl/scores.ts";
import { learningTargets } from "../rl/targets.ts";
import { scoreFacts, type TruncateOptions } from "../rl/truncate.ts";
import { responseEnds } from "../sample/ends.ts";
import type { GenerateOptions, SampledResponse } from "../sample/generate.ts";
import { samplingOptions } from "../sample/token-sampler.ts";
import { Adjustments, checkIds, type Transform } from "../sample/transforms.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { partsOf, type TrainedPart, type Trainer } from "./algorithm.ts";
import { ppoConfig } from "./config.ts";
import type { TrainEvent } from "./events.ts";
import { Learner } from "./learner.ts";
import type { PPOConfig } from "./options.ts";
import { Stopwatch, stepReport, stepSignals } from "./report.ts";
import { checkedTrainerState, type TrainerState } from "./trainer-state.ts";
import { updatePolicy } from "./update.ts";
import { initializeValueHead } from "./value-head-init.ts";

/** What a {@link PPOTrainer} trains, and by what. */
export interface PPOTrainerOptions {
  /** The policy. In eval mode; its weights are changed in place. */
  model: CausalLMWithValueHead;
  /** The model's. */
  tokenizer: Tokenizer;
  /** Judges responses: higher is better. */
  reward: RewardFunction;
  /** How errors call the reward. */
  rewardName?: string;
  /** Options that differ from {@link PPO_DEFAULTS}. */
  config?: Partial<PPOConfig>;
  /** Changes of the logits beyond those of the config. To resume a run, give them again. */
  transforms?: readonly Transform[];
  /** What the KL is measured against; default: a frozen copy of the model as it is now. */
  reference?: CausalLMWithValueHead;
}

/** What {@link PPOTrainer.step} did. `warnings`: what the audit found, when config.audit is "warn". */
export type StepResult = Extract<TrainEvent, { type: "step" }> & { warnings: string[] };

/** Where prompts come from. */
interface PromptSource {
  encoded: EncodedPrompts;
  sampler: PromptSampler;
}

/** Trains a model by PPO: {@link PPOTrainer.train} on prompts, {@link PPOTrainer.step} on responses that you sampled and scored. */
export class PPOTrainer implements Trainer<PromptsGiven, TrainerState> {
  /** The policy; its weights are changed in place. */
  readonly model: CausalLMWithValueHead;
  /** What the KL is measured against. Never changed. */
  readonly reference: CausalLMWithValueHead;
  /** The model's. */
  readonly tokenizer: Tokenizer;
  /** Complete and checked. */
  readonly config: PPOConfig;
  /** AdamW of the policy. */
  readonly optimizer: AdamW;
  /** The value model, when it is not a head on the policy. */
  readonly critic?: Learner;
  /** What chooses β, the coefficient of the KL penalty. */
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
  /** What the reward said of the step that is under way. */
  #judged?: Answered;
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
    const { maxGradNorm, frozenLayers, gradientCheckpointing } = this.config;
    const learning = { optimizer: adamOptions(this.config), maxGradNorm, frozenLayers, gradientCheckpointing };
    this.#policy = new Learner(model, learning);
    this.optimizer = this.#policy.optimizer;
    if (this.config.valueModel === "separate")
      this.critic = new Learner(model.frozenCopy(frozenLayers), { ...learning, name: "the value model" });
    this.klController = klController(this.config);
  }

  /**
   * Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first.
   * @param given texts, rows of a file, or what {@link encodePrompts} made of either
   */
  async *train(given: PromptsGiven, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const encode = (texts: readonly (string | Prompt)[]) =>
      encodePrompts(texts, this.tokenizer, this.model.sizes, this.config);
    const encoded = "ids" in given ? given : encode(given);
    const sampler = new PromptSampler(encoded.prompts.length, this.config.seed);
    if (this.#promptState) sampler.setState(this.#promptState);
    if (!("ids" in given))
      for (const message of encoded.notes) yield { type: "warning", step: this.stepsTaken, message };
    if (!this.config.maskReplay) yield { type: "warning", step: this.stepsTaken, message: NO_REPLAY };
    for (const remark of rolloutRemarks(this.config)) yield { ...remark, step: this.stepsTaken };
    while (this.stepsTaken < this.config.steps && !options.signal?.aborted)
      yield* this.#alone(this.#step({ encoded, sampler }, new Stopwatch()));
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < this.config.steps };
  }

  /** A PPO step on the next prompts; or, from scores on, on what a caller of {@link step} gave. */
  async *#step(source: PromptSource | Answered, clock: Stopwatch): AsyncGenerator<TrainEvent> {
    const { config, model, reference, critic, optimizer } = this;
    const [step, klCoef] = [this.stepsTaken + 1, this.klController.value];

    // 1 prompts
    const asked = "sampler" in source && nextPrompts(source.encoded, source.sampler, config.batchSize);

    // 2 respond, 3 score: the reward judges one part while the next is drawn
    const answered = asked
      ? yield* collect(this.responder, asked, this.#place(clock), this.#policy.grads)
      : (source as Answered);
    this.#judged = answered;
    const { adjustments, episodes, draws, scores: given, data: drawn } = answered;
    const passes = { adjustments, partSize: config.microBatchSize || config.miniBatchSize };
    const { data, importance } = await rescore(model, drawn, config, passes, critic?.model); // where another policy drew them
    const { batch, logprobs, values, responses } = data;
    const texts = episodes.map(({ prompt }) => prompt);
    const responseFacts = scoreFacts(responses, this.#truncation, this.eosTokenIds);
    const { scores, moments } = shapeScores(given, responseFacts, config, this.#scoreMoments);

    // 4 rewards = score - beta KL; the reference is asked about the same tokens under the same kept sets
    const wantsExact = config.klPenalty === "exact" || config.klLog === "exact";
    const { refLogprobs, exactKl } = await scoreReference(model, reference, data, passes, wantsExact);
    checkFinite(step, data, texts, { "log-probs": logprobs, values, "reference log-probs": refLogprobs });
    clock.lap("time/ppo/forward_pass");
    const kl = klEstimates(logprobs, refLogprobs, batch, exactKl);
    const seen = { data, drawnLogprobs: drawn.logprobs, refLogprobs, kl, importance, draws, endTokens: this.#ends };
    const audit = auditStep(this.#audit, seen, config, step);
    for (const message of audit.warnings) yield { type: "warning", step, message };
    const inputs = { scores, logprobs, refLogprobs, exactKl, klCoef, penalty: config.klPenalty, batch };
    const { rewards, nonScoreRewards } = rewardsFromScores(inputs);
    clock.lap("time/ppo/compute_rewards");

    // 5 advantages
    const targets = weightTargets(learningTargets({ rewards, values, batch }, config), importance);
    checkFinite(step, data, texts, { rewards, returns: targets.returns, advantages: targets.advantages });
    clock.lap("time/ppo/compute_advantages");

    // 6 updates: ppoEpochs times through the batch, in minibatches
    const schedule = scheduleFactor(config.schedule, step - 1, config.steps, config.warmupSteps);
    const learning = { ...config, learningRate: config.learningRate * schedule };
    const learners = { policy: this.#policy, critic };
    const update = yield* updatePolicy(learners, data, targets, passes, learning, step, this.#skippedUpdates);
    clock.lap("time/ppo/optimize_step");

    // 7 report
    this.klController.update((kl[config.klLog] as KLEstimate).mean, batch.rows); // exact too: it was asked for
    const after = { step, prompts: asked ? asked.state : this.#promptState, scores: moments, audit: audit.state };
    this.#settle({ ...after, skippedUpdates: update.skippedUpdates });
    const facts = { config, data, importance, episodes, given, scores, kl, klCoef, nonScoreRewards, update, optimizer };
    const { metrics, samples } = stepReport(facts);
    const remark = this.#idle.look(stepSignals(facts));
    if (remark) yield { ...remark, step };
    const all = { ...metrics, ...audit.metrics, ...clock.times() };
    yield { type: "step", step, steps: config.steps, metrics: all, samples };
  }

  /** The events of a step while no other is at work on the weights. Where numbers go bad because of a reward, the error says which. */
  async *#alone(events: AsyncGenerator<TrainEvent>): AsyncGenerator<TrainEvent> {
    refuseTrainMode(this.model);
    const release = takeWeights(this.model);
    try {
      yield* events;
    } catch (error) {
      throw nameExtreme(error, this.#judged, this.config);
    } finally {
      this.#judged = undefined;
      release();
    }
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
    const warnings: string[] = [];
    for await (const event of this.#alone(this.#stepOn(given))) {
      if (event.type === "warning") warnings.push(event.message);
      if (event.type === "step") return { ...event, warnings };
    }
    throw new Error("a step ended without a report");
  }

  async *#stepOn(given: GivenBatch): AsyncGenerator<TrainEvent> {
    const { config, model } = this;
    const clock = new Stopwatch();
    const step = this.stepsTaken + 1;
    const adjustments = new Adjustments(samplingOptions(this.sampling()), model.sizes.vocabSize);
    const passes = { adjustments, partSize: config.microBatchSize || config.miniBatchSize };
    const where = `PPO step ${step}`;
    const { answered, warning } = await answersGiven(model, given, passes, this.responder.reader, config, where);
    if (warning !== undefined) yield { type: "warning", step, message: warning };
    yield* this.#step(answered, clock);
  }

  /** How responses are sampled, all but the random streams. */
  sampling(): GenerateOptions {
    const { stop: strings, ...config } = this.config;
    const stop = strings.length > 0 ? { strings, tokenizer: this.tokenizer } : undefined;
    const [eosTokenId, transforms, drawable] = [this.#ends, this.#transforms, this.#drawable];
    return { ...config, stop, eosTokenId, transforms, drawable };
  }

  /** Who answers prompts, and who judges: the reward function is shown a response as far as truncateToken. @internal */
  get responder(): Responder & { config: PPOConfig } {
    const { model, tokenizer, config } = this;
    const reader = { tokenizer, truncation: this.#truncation };
    return { model, reader, reward: this.#reward, rewardName: this.#rewardName, config, sampling: this.sampling() };
  }

  /** The next step, and its random streams: each response has one of its own, whatever else is drawn beside it. */
  #place(clock: Stopwatch): Place {
    const [first, laps] = [this.stepsTaken * this.config.batchSize, { respond: "response", score: "scores" } as const];
    const lap = (done: keyof typeof laps) => clock.lap(`time/get_${laps[done]}`);
    return { step: this.stepsTaken + 1, streamOf: (i) => first + i, lap };
  }

  /** The tokens that end a response. */
  get #ends(): readonly number[] {
    return this.config.stopAtEos ? this.eosTokenIds : [];
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

  /** Where it is, to be saved beside weights and moments. */
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
    this.klController.setState(state.kl);
    this.#settle(state);
  }

  /** Weights, optimizer and this belong together. */
  #settle({ step, prompts, scores, skippedUpdates, audit }: Omit<TrainerState, "kl">): void {
    this.#settledAt = this.optimizer.step;
    this.stepsTaken = step;
    this.#promptState = prompts;
    this.#scoreMoments = scores ?? NO_MOMENTS;
    this.#skippedUpdates = skippedUpdates ?? 0;
    this.#audit = audit ?? NO_STEPS;
  }
}

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
