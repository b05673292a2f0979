/**
 * @file What PPO, GRPO and RLOO share: a trainer that learns from responses of its own to prompts. Each of them writes one step,
 * `takeStep`; here is what stands around it: who learns, where prompts come from, what is kept from step to step.
 */
import type { IdList } from "../base/token-ids.ts";
import type { PromptGiven } from "../data/chat.ts";
import { encodePrompts, type PromptBatch, type PromptsGiven } from "../data/encode.ts";
import { PromptQueue } from "../data/prompt-queue.ts";
import { PromptSampler, type PromptSamplerState } from "../data/prompts.ts";
import type { Passes } from "../experience/ask.ts";
import { type Audited, auditStep } from "../experience/audit.ts";
import { type Answered, collect, type RemoteRollouts } from "../experience/collect.ts";
import type { Experience } from "../experience/experience.ts";
import { nameExtreme } from "../experience/extremes.ts";
import { checkFinite, checkWeights } from "../experience/finite.ts";
import type { AnswersGiven, GivenBatch } from "../experience/given.ts";
import { truncateOptions } from "../experience/options.ts";
import type { Responder, RolloutWorkers } from "../experience/parts/parts.ts";
import { asReference, keepsReference, wantsExactKlAtOnce } from "../experience/reference.ts";
import { rolloutRemarks } from "../experience/rescore.ts";
import { checkModelOptions, checkRoles, refuseTrainMode, takeWeights } from "../experience/roles.ts";
import type { RewardFunction } from "../experience/sample.ts";
import { drawableIds, drawableNotes } from "../model/drawable.ts";
import type { KeptSet } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { AdamW } from "../nn/adamw.ts";
import { scheduleFactor } from "../nn/schedules.ts";
import { IdleWatch, type StepSignals } from "../rl/idle.ts";
import { type MartingaleState, NO_STEPS } from "../rl/martingale.ts";
import type { Metrics } from "../rl/metrics.ts";
import { NO_MOMENTS, type RunningMoments, scoreFacts, shapeScores, type TruncateOptions } from "../rl/scores.ts";
import { responseEnds, turnNotes } from "../sample/ends.ts";
import type { GenerateOptions, SampledResponse } from "../sample/generate.ts";
import { samplingOptions } from "../sample/token-sampler.ts";
import { Adjustments, checkIds, type Transform } from "../sample/transforms.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { copiesIn, drawnAfter, laterSteps, PolicyVersions, placeOf, refuseAhead } from "./ahead.ts";
import { type OlderWeights, partsOf, type TrainedPart, type Trainer } from "./algorithm.ts";
import { learningOf, passSizes, samplingAs } from "./asking.ts";
import type { TrainEvent } from "./events.ts";
import { Learner, type LearnerOptions } from "./learner.ts";
import type { GradientWorkers } from "./microbatches.ts";
import { adapterNote, addAskedAdapter } from "./options/lora.ts";
import type { RolloutTrainerConfig, RolloutTrainerOptions } from "./options/ppo-options.ts";
import { Stopwatch } from "./report.ts";
import { checkState, type RolloutState, rolloutStateSchema } from "./trainer-state.ts";
import type { Learners } from "./update.ts";

/** What a step did. `warnings`: what the audit found, when config.audit is "warn". */
export type StepResult = Extract<TrainEvent, { type: "step" }> & { warnings: string[] };

/** Responses of a step, where the sampler of prompts is after it, and how many steps old the weights are that drew them. */
export type StepAnswers = Answered & { readonly prompts?: PromptSamplerState; readonly staleness: number };

/** A trainer on responses of its own: on prompts with `train`, on responses that you sampled and scored with `step`. */
export abstract class RolloutTrainer<C extends RolloutTrainerConfig> implements Trainer<PromptsGiven, RolloutState> {
  /** The policy; its weights are changed in place. */
  readonly model: CausalLMWithValueHead;
  /** What the KL is measured against, never changed; undefined: klLog is none. */
  readonly reference?: CausalLMWithValueHead;
  /** The model's. */
  readonly tokenizer: Tokenizer;
  /** Complete and checked. */
  readonly config: C;
  /** AdamW of the policy. */
  readonly optimizer: AdamW;
  /** The tokens that end a response, unless `stopAtEos` is off; empty: none does. */
  readonly eosTokenIds: readonly number[];
  /** What to tell the user about the model at the start. */
  readonly notes: readonly string[];
  /** Steps taken. */
  stepsTaken = 0;
  /** @internal */
  protected readonly policy: Learner;
  /** As errors call it. @internal */
  protected readonly algorithm: string;
  readonly #reward: RewardFunction;
  readonly #rewardName: string;
  readonly #transforms?: readonly Transform[];
  readonly #drawable?: KeptSet;
  readonly #truncation: TruncateOptions;
  readonly #versions: PolicyVersions;
  #scoreMoments: RunningMoments = NO_MOMENTS;
  #promptState?: PromptSamplerState;
  #audit = NO_STEPS;
  readonly #idle = new IdleWatch();
  /** What the reward said of the step that is under way. */
  #judged?: Answered;
  /** Optimizer steps at the end of the last step. */
  #settledAt = 0;
  #skippedUpdates = 0;

  /**
   * @param algorithm as errors call it
   * @param config complete and checked
   * @param prepare changes the model before it is copied for the reference; returns what to tell the user
   * @throws config, usage - the model is in train mode, options that do not fit each other or the vocabulary
   * @internal
   */
  constructor(algorithm: string, options: RolloutTrainerOptions<C>, config: C, prepare?: () => string | undefined) {
    const { model, tokenizer, reward, rewardName = "function", transforms, reference } = options;
    const name = `${algorithm}Trainer`;
    this.algorithm = algorithm;
    refuseTrainMode(model, algorithm);
    this.model = model;
    this.tokenizer = tokenizer;
    this.config = config;
    checkIds(config.bannedTokens, "bannedTokens", model.sizes.vocabSize);
    this.#truncation = truncateOptions(config, tokenizer);
    const ends = responseEnds(model, tokenizer);
    this.eosTokenIds = ends.ids;
    checkModelOptions(config, model.sizes, ends.ids);
    checkWeights("policy", model.parameters);
    addAskedAdapter(model, config);
    checkRoles(model, reference, config, name);
    if (reference) checkWeights("reference", reference.parameters);
    this.#drawable = drawableIds(tokenizer, model.sizes.vocabSize);
    const note = prepare?.();
    this.notes = [
      ...(note === undefined ? [] : [note]),
      ...adapterNote(model),
      ...(config.stopAtEos ? ends.notes : []),
      ...(this.#drawable?.size === model.drawable?.size ? [] : drawableNotes(this.#drawable, model.sizes.vocabSize)),
    ];
    this.reference = keepsReference(config) ? (reference ?? asReference(model, config.frozenLayers)) : undefined;
    this.#reward = reward;
    this.#rewardName = rewardName;
    this.#transforms = transforms;
    this.policy = new Learner(model, this.learning);
    this.optimizer = this.policy.optimizer;
    this.#versions = new PolicyVersions(model, config.async, config.frozenLayers);
  }

  /** A step on the next prompts; or, from scores on, on what a caller of {@link step} gave. @internal */
  protected abstract takeStep(source: PromptQueue | Answered, clock: Stopwatch): AsyncGenerator<TrainEvent>;

  /**
   * Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first.
   * @param given texts, conversations, rows of a file, or what {@link encodePrompts} made of them
   */
  async *train(given: PromptsGiven, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const encode = (prompts: readonly PromptGiven[]) =>
      encodePrompts(prompts, this.tokenizer, this.model.sizes, this.config);
    const encoded = "ids" in given ? given : encode(given);
    const sampler = new PromptSampler(encoded.prompts.length, this.config.seed);
    if (this.#promptState) sampler.setState(this.#promptState);
    if (!("ids" in given))
      for (const message of [...encoded.notes, ...turnNotes(encoded.prompts, this.tokenizer, this.#ends)])
        yield { type: "warning", step: this.stepsTaken, message };
    for (const remark of rolloutRemarks(this.config)) yield { ...remark, step: this.stepsTaken };
    const [copies, prompts] = [this.#copies, this.config.batchSize / this.#copies];
    const queue = new PromptQueue(encoded, sampler, { prompts, copies });
    while (this.stepsTaken < this.config.steps && !options.signal?.aborted)
      yield* this.#alone(this.takeStep(queue, new Stopwatch()));
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < this.config.steps };
  }

  /**
   * One step on responses you sampled, with the scores you gave them, in place of prompts, sampling and reward of {@link train}.
   *
   * @param queries token ids of each prompt: Int32Arrays or plain arrays. With `numGenerations` in the config each comes as often,
   *   one after another
   * @param responses what {@link generate} returned with this trainer's {@link sampling} options: each token is scored as it
   *   was drawn, once it is known that the policy says of it what was recorded. Or token ids alone, from elsewhere: they are
   *   scored now, as draws from the whole distribution of the policy at the config's temperature, and the audit tests whether
   *   they can be that (experience/given.ts).
   * @param scores higher is better, one for each response
   * @throws usage, input - what does not fit together, or is no token id; another step has not ended; a config with async
   * @throws audit - as {@link train}; a record that is not what the policy says
   */
  async step(
    queries: readonly IdList[],
    responses: readonly IdList[] | readonly SampledResponse[],
    scores: ArrayLike<number | boolean>,
  ): Promise<StepResult> {
    refuseTrainMode(this.model, this.algorithm);
    refuseAhead(this.config, `${this.algorithm}Trainer.step`);
    const { answersGiven, checkDrawn, readGiven } = await import("../experience/given.ts"); // a page loads it here
    const given = readGiven(this.model.sizes, queries, responses, scores, this.#copies);
    checkDrawn(given.tokens, this.#drawable);
    const warnings: string[] = [];
    for await (const event of this.#alone(this.#stepOn(given, answersGiven))) {
      if (event.type === "warning") warnings.push(event.message);
      if (event.type === "step") return { ...event, warnings };
    }
    throw new Error("a step ended without a report");
  }

  async *#stepOn(given: GivenBatch, answersGiven: AnswersGiven): AsyncGenerator<TrainEvent> {
    const { config, model, algorithm } = this;
    const [clock, step] = [new Stopwatch(), this.stepsTaken + 1];
    const adjustments = new Adjustments(samplingOptions(this.sampling()), model.sizes.vocabSize);
    const [passes, reader] = [this.passes({ adjustments }), this.responder.reader];
    const where = `${algorithm} step ${step}`;
    const { answered, warning } = await answersGiven(model, given, passes, reader, config, where, this.#copies);
    if (warning !== undefined) yield { type: "warning", step, message: warning };
    yield* this.takeStep(answered, clock);
  }

  /** The events of a step while no other is at work on the weights. Where numbers go bad because of a reward, the error says which. */
  async *#alone(events: AsyncGenerator<TrainEvent>): AsyncGenerator<TrainEvent> {
    refuseTrainMode(this.model, this.algorithm);
    const release = takeWeights(this.model, `${this.algorithm}Trainer`);
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
   * The next prompts, responses to them and what the reward says; or what a caller of {@link step} gave. The reward judges one
   * part while the next is drawn.
   * @internal
   */
  protected async *answers(source: PromptQueue | Answered, clock: Stopwatch): AsyncGenerator<TrainEvent, StepAnswers> {
    const [asked, taken] = [source instanceof PromptQueue ? source.next() : undefined, this.stepsTaken];
    const answered = asked
      ? yield* this.#respond(asked, source as PromptQueue, clock)
      : { ...(source as Answered), prompts: this.#promptState };
    this.#judged = answered;
    await this.#versions.keep(taken);
    return { ...answered, staleness: taken - drawnAfter(taken + 1, this.config.async) };
  }

  /** Responses by the weights that draw this step's, and what the reward says. */
  async *#respond(
    asked: PromptBatch,
    queue: PromptQueue,
    clock: Stopwatch,
  ): AsyncGenerator<TrainEvent, Answered & Pick<StepAnswers, "prompts">> {
    const step = this.stepsTaken + 1;
    const responder = { ...this.responder, model: this.#policyOf(step) };
    const place = placeOf(step, this.config, clock);
    const answered = yield* collect(responder, asked, place, this.policy.grads, this.#remote(queue));
    return { ...answered, prompts: asked.state };
  }

  /** Who draws the responses of a step. */
  #policyOf = (step: number): CausalLMWithValueHead => this.#versions.of(step, this.stepsTaken);

  /** Scores as they are learned from: after penalties, scaling and clipping. @internal */
  protected shape(scores: readonly number[], { responses }: Experience) {
    const facts = scoreFacts(responses, this.#truncation, this.eosTokenIds);
    return shapeScores(scores, facts, this.config, this.#scoreMoments);
  }

  /** How a batch goes through a model. @internal */
  protected passes({ adjustments }: Pick<Passes, "adjustments">): Passes {
    return { adjustments, ...passSizes(this.config) };
  }

  /** Others who may answer prompts. @internal */
  workers?: RolloutWorkers;
  /** Others who may compute gradients. @internal */
  gradientWorkers?: GradientWorkers;

  /** Who learns in the updates, and with whom. @internal */
  protected get learners(): Learners {
    return { policy: this.policy, workers: this.gradientWorkers };
  }

  /**
   * Add up gradients in an order that does not depend on who computes them, as an adapter's always are. Before the first step.
   * @internal
   */
  sumGradientsApart(): void {
    this.policy.sumsApart = true;
  }

  /** Others who may answer, this step and those that may be begun. */
  #remote(queue: PromptQueue): RemoteRollouts | undefined {
    const { workers, reference, config } = this;
    if (!workers) return undefined;
    const asked = { passes: passSizes(config), wantsExact: wantsExactKlAtOnce(config) };
    const later = laterSteps(queue, this.stepsTaken, config);
    return { workers, reference, ...asked, later, policyOf: this.#policyOf };
  }

  /** Whether tokens can be draws from the policy, this step's and all before. @internal */
  protected *audit(
    seen: Omit<Audited, "endTokens">,
  ): Generator<TrainEvent, { state?: MartingaleState; metrics: Metrics }> {
    const step = this.stepsTaken + 1;
    const result = auditStep(this.#audit, { ...seen, endTokens: this.#ends }, this.config, step, this.algorithm);
    for (const message of result.warnings) yield { type: "warning", step, message };
    return result;
  }

  /** @throws numbers - per-token arrays, by name, with a number that is not finite @internal */
  protected checkFinite(
    data: Experience,
    { episodes }: Pick<Answered, "episodes">,
    arrays: Readonly<Record<string, Float32Array | undefined>>,
  ): void {
    const prompts = episodes.map(({ prompt }) => prompt);
    checkFinite(this.stepsTaken + 1, data, prompts, arrays, this.algorithm);
  }

  /** The learning rate of the step in progress. @internal */
  protected get learningRate(): number {
    const { learningRate, schedule, steps, warmupSteps } = this.config;
    return learningRate * scheduleFactor(schedule, this.stepsTaken, steps, warmupSteps);
  }

  /** Optimizer steps of the run so far that were left out. @internal */
  protected get skippedUpdates(): number {
    return this.#skippedUpdates;
  }

  /** What to say of a step in which nothing can be learned. @internal */
  protected *idle(signals: StepSignals): Generator<TrainEvent> {
    const remark = this.#idle.look(signals);
    if (remark) yield { ...remark, step: this.stepsTaken };
  }

  /** How responses are sampled, all but the random streams. */
  sampling(): GenerateOptions {
    const [transforms, drawable] = [this.#transforms, this.#drawable];
    return { ...samplingAs(this.config, this.tokenizer, this.eosTokenIds), transforms, drawable };
  }

  /** Who answers prompts, and who judges: the reward function is shown a response as far as truncateToken. @internal */
  get responder(): Responder & { config: C } {
    const { model, tokenizer, config } = this;
    const reader = { tokenizer, truncation: this.#truncation };
    return { model, reader, reward: this.#reward, rewardName: this.#rewardName, config, sampling: this.sampling() };
  }

  /** Responses to each prompt. */
  get #copies(): number {
    return copiesIn(this.config);
  }

  /** The tokens that end a response. */
  get #ends(): readonly number[] {
    return this.config.stopAtEos ? this.eosTokenIds : [];
  }

  /** How the policy learns, and whatever learns beside it. @internal */
  protected get learning(): LearnerOptions {
    return learningOf(this.config, this.algorithm === "PPO");
  }

  /** What is trained. */
  get parts(): readonly TrainedPart[] {
    return partsOf({ "": this.policy });
  }

  /** What responses of the next steps are drawn with, beside the model, where they are drawn ahead. */
  get olderWeights(): OlderWeights | undefined {
    return this.config.async > 0 ? this.#versions : undefined;
  }

  /** Whether weights, optimizer and state belong together: false while a step's updates are under way. */
  get canBeSaved(): boolean {
    return this.unsettledUpdates === 0;
  }

  /** Optimizer steps of a step that has not ended, or did not end well. */
  get unsettledUpdates(): number {
    return this.optimizer.step - this.#settledAt;
  }

  /** Begin a new test of whether tokens are draws from the policy, once a gap that the audit found is closed. */
  resetAudit(): void {
    this.#audit = NO_STEPS;
  }

  /** Where it is, to be saved beside weights and moments. */
  getState(): RolloutState {
    const scores = this.config.scoreScaling === "none" ? undefined : this.#scoreMoments;
    const [step, skippedUpdates] = [this.stepsTaken, this.#skippedUpdates];
    const audit = this.#audit === NO_STEPS ? undefined : this.#audit;
    return { step, prompts: this.#promptState, scores, skippedUpdates, audit };
  }

  /**
   * Continue from a saved state. Whoever saved them restores the model's weights and, before this, the optimizer.
   * @throws checkpoint - a state that no trainer can have been in
   */
  setState(state: RolloutState): void {
    checkState(state, this.algorithm, rolloutStateSchema);
    this.settle(state);
  }

  /** Weights, optimizer and this belong together: a step has ended. @internal */
  protected settle({ step, prompts, scores, skippedUpdates, audit }: RolloutState): void {
    this.#settledAt = this.optimizer.step;
    this.stepsTaken = step;
    this.#versions.forget(step);
    this.#promptState = prompts;
    this.#scoreMoments = scores ?? NO_MOMENTS;
    this.#skippedUpdates = skippedUpdates ?? 0;
    this.#audit = audit ?? NO_STEPS;
  }
}
