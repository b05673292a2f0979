/** @file PPO. `train` is the loop and `step` the algorithm: prompts, responses, scores, rewards, advantages, updates, report. */
import { fail } from "../base/errors.ts";
import { PromptSampler, type PromptSamplerState } from "../data/prompts.ts";
import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import { ParameterBuffer } from "../gpt2/parameters.ts";
import { AdamW } from "../nn/adamw.ts";
import { scheduleFactor } from "../nn/schedules.ts";
import { gae } from "../rl/advantages.ts";
import {
  AdaptiveKLController,
  FixedKLController,
  type KLController,
  type KLControllerState,
} from "../rl/controllers.ts";
import { type KlEstimate, klEstimates } from "../rl/kl.ts";
import { rewardsFromScores } from "../rl/rewards.ts";
import { whiten } from "../rl/whiten.ts";
import { type GenerateOptions, generate } from "../sample/generate.ts";
import { decodingWeights } from "../sample/precision.ts";
import { checkIds, type Transform } from "../sample/transforms.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { auditExperience } from "./audit.ts";
import { type Experience, experience, scoreReference } from "./batch.ts";
import { type PpoConfig, ppoConfig } from "./config.ts";
import type { TrainEvent } from "./events.ts";
import { encodePrompts } from "./prompts.ts";
import { stepReport } from "./report.ts";
import { rescore, rolloutRemarks, weightAdvantages } from "./rescore.ts";
import { computeScores, type RewardFunction } from "./rewards.ts";
import { updatePolicy } from "./update.ts";

export interface PPOTrainerOptions {
  model: GPT2HeadWithValueModel;
  tokenizer: Tokenizer;
  reward: RewardFunction;
  /** How errors call the reward. */
  rewardName?: string;
  config?: Partial<PpoConfig>;
  /** Changes of the logits beyond those of the config. To resume a run, give them again. */
  transforms?: readonly Transform[];
  /** What the KL is measured against; default: a frozen copy of the model as it is now. */
  reference?: GPT2HeadWithValueModel;
}

/** Where a run is, without the weights. Plain data, safe for JSON; the optimizer's moments go beside it. */
export interface TrainerState {
  step: number;
  kl: KLControllerState;
  prompts?: PromptSamplerState;
}

export class PPOTrainer {
  readonly model: GPT2HeadWithValueModel;
  readonly reference: GPT2HeadWithValueModel;
  readonly tokenizer: Tokenizer;
  readonly config: PpoConfig;
  readonly optimizer: AdamW;
  readonly klController: KLController;
  /** PPO steps taken. */
  stepsTaken = 0;
  readonly #reward: RewardFunction;
  readonly #rewardName: string;
  readonly #transforms?: readonly Transform[];
  readonly #grads: ParameterBuffer;
  #promptState?: PromptSamplerState;
  /** Optimizer steps at the end of the last PPO step. */
  #settledAt = 0;

  /** @throws config, usage - the model is in train mode, options that do not fit each other or the vocabulary */
  constructor(options: PPOTrainerOptions) {
    const { model, tokenizer, reward, rewardName = "function", config = {}, transforms, reference } = options;
    refuseTrainMode(model);
    this.model = model;
    this.tokenizer = tokenizer;
    this.config = ppoConfig(config);
    checkIds(this.config.bannedTokens, "bannedTokens", model.config.vocabSize);
    this.reference = reference ?? model.frozenCopy();
    this.#reward = reward;
    this.#rewardName = rewardName;
    this.#transforms = transforms;
    this.#grads = new ParameterBuffer(model.parameters.table);
    const { learningRate, beta1, beta2, adamEpsilon: epsilon, weightDecay } = this.config;
    this.optimizer = new AdamW(model.parameters.table, { learningRate, beta1, beta2, epsilon, weightDecay });
    const { klCoef, klTarget, klHorizon } = this.config;
    this.klController =
      this.config.klController === "adaptive"
        ? new AdaptiveKLController(klCoef, klTarget, klHorizon)
        : new FixedKLController(klCoef);
  }

  /** Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first. */
  async *train(prompts: readonly string[], options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const queries = encodePrompts(prompts, this.tokenizer, this.model.config, this.config.maxNewTokens);
    const sampler = new PromptSampler(prompts.length, this.config.seed);
    if (this.#promptState) sampler.setState(this.#promptState);
    if (!this.config.maskReplay) yield { type: "warning", step: this.stepsTaken, message: NO_REPLAY };
    for (const remark of rolloutRemarks(this.config)) yield { ...remark, step: this.stepsTaken };
    while (this.stepsTaken < this.config.steps && !options.signal?.aborted) {
      const chosen = Array.from(sampler.next(this.config.batchSize)); // 1 prompts
      const [texts, ids] = [chosen.map((i) => prompts[i]), chosen.map((i) => queries[i])];
      yield* this.#step(texts, ids, sampler.getState());
    }
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < this.config.steps };
  }

  async *#step(
    prompts: readonly string[],
    queries: readonly Int32Array[],
    promptState: PromptSamplerState,
  ): AsyncGenerator<TrainEvent> {
    refuseTrainMode(this.model);
    const { config, klController, optimizer } = this;
    const { gamma, lambda, klPenalty: penalty } = config;
    const step = this.stepsTaken + 1;
    const klCoef = klController.value;
    const clock = new Stopwatch();

    // 2 respond, 3 score
    const { drawn, texts, scores } = yield* this.#respondAndScore(prompts, queries, clock);
    const { data, importance } = await rescore(this.model, drawn, config); // where another policy drew them
    const { batch, logprobs, values } = data;

    // 4 rewards = score - beta KL; the reference is asked about the same tokens under the same kept sets
    const wantsExact = penalty === "exact" || config.klLog === "exact";
    const reference = await scoreReference(this.model, this.reference, data, config.miniBatchSize, wantsExact);
    clock.lap("time/ppo/forward_pass");
    const kl = klEstimates(logprobs, reference.refLogprobs, batch, reference.exactKl);
    const message = auditExperience(data, kl, this.model.config.eosTokenId, config, step, importance);
    if (message) yield { type: "warning", step, message };
    const logged = kl[config.klLog] as KlEstimate; // exact too: it was asked for
    const { rewards, nonScoreRewards } = rewardsFromScores({
      scores,
      logprobs,
      ...reference,
      klCoef,
      penalty,
      batch,
    });
    const scaled = config.whitenRewards ? whiten(rewards, batch.mask, { shiftMean: false }) : rewards;
    clock.lap("time/ppo/compute_rewards");

    // 5 advantages
    const { advantages: raw, returns } = gae({ rewards: scaled, values, batch, gamma, lambda });
    const whitened = config.whitenAdvantages ? whiten(raw, batch.mask) : raw;
    const targets = { advantages: weightAdvantages(whitened, importance), returns };
    clock.lap("time/ppo/compute_advantages");

    // 6 K epochs of updates
    optimizer.options.learningRate = config.learningRate * this.#schedule(step);
    const update = yield* updatePolicy(this.model, optimizer, this.#grads, data, targets, config, step);
    clock.lap("time/ppo/optimize_step");

    // 7 report
    klController.update(logged.mean, queries.length);
    this.stepsTaken = step;
    this.#promptState = promptState;
    this.#settledAt = optimizer.step;
    const facts = { config, data, importance, texts, prompts, scores, kl, klCoef, nonScoreRewards, targets };
    const { metrics, samples } = stepReport({ ...facts, update, optimizer });
    yield { type: "step", step, steps: config.steps, metrics: { ...metrics, ...clock.times() }, samples };
  }

  /** How responses are sampled, all but the random streams. */
  sampling(): GenerateOptions {
    const { stop: strings, ...config } = this.config;
    const stop = strings.length > 0 ? { strings, tokenizer: this.tokenizer } : undefined;
    return { ...config, stop, transforms: this.#transforms };
  }

  /** The factor on the learning rate. */
  #schedule(step: number): number {
    return scheduleFactor(this.config.schedule, step - 1, this.config.steps, this.config.warmupSteps);
  }

  /** Sample part after part; the reward of one part runs while the next is sampled. */
  async *#respondAndScore(
    prompts: readonly string[],
    queries: readonly Int32Array[],
    clock: Stopwatch,
  ): AsyncGenerator<TrainEvent, { drawn: Experience; texts: string[]; scores: number[] }> {
    const { config, tokenizer } = this;
    const step = this.stepsTaken + 1;
    const total = queries.length;
    const rollouts = [];
    const texts: string[] = [];
    const pending: Promise<number[]>[] = [];
    // The gradients of the last step are not needed any more: their buffer takes the transposed weights.
    const rows = Math.min(total, config.rolloutBatchSize);
    const form = { precision: config.rolloutPrecision, rows, steps: config.maxNewTokens };
    const weights = decodingWeights(this.model, form, this.#grads);
    for (let start = 0; start < total; start += config.rolloutBatchSize) {
      const part = queries.slice(start, start + config.rolloutBatchSize);
      const streams = part.map((_, i) => this.stepsTaken * config.batchSize + start + i);
      const rollout = await generate(this.model, part, { ...this.sampling(), streams, weights, rawLogprobs: false });
      const samples = rollout.responses.map((r, i) => {
        const prompt = prompts[start + i];
        const response = tokenizer.decode(r.tokens, { skipSpecialTokens: true });
        return { prompt, response, text: prompt + response };
      });
      const scoring = computeScores(this.#reward, samples, this.#rewardName);
      scoring.catch(() => {}); // reported below, when all parts are sampled
      pending.push(scoring);
      rollouts.push(rollout);
      texts.push(...samples.map((s) => s.response));
      yield { type: "progress", step, phase: "respond", done: start + part.length, total };
    }
    weights.release(); // where an error got in between, the garbage collector frees it
    clock.lap("time/get_response");
    const scores = (await Promise.all(pending)).flat();
    clock.lap("time/get_scores");
    yield { type: "progress", step, phase: "score", done: total, total };
    return { drawn: experience(rollouts, config.maskReplay), texts, scores };
  }

  /** Whether weights, optimizer and state belong together: false while a step's updates are under way. */
  get canBeSaved(): boolean {
    return this.optimizer.step === this.#settledAt;
  }

  getState(): TrainerState {
    return { step: this.stepsTaken, kl: this.klController.getState(), prompts: this.#promptState };
  }

  /** Continue from a saved state. Whoever saved them restores the model's weights and, before this, the optimizer. */
  setState(state: TrainerState): void {
    this.#settledAt = this.optimizer.step;
    this.stepsTaken = state.step;
    this.klController.setState(state.kl);
    this.#promptState = state.prompts;
  }
}

const NO_REPLAY =
  "maskReplay is off: tokens drawn from a truncated distribution are scored under the whole one. The policy ratio is then " +
  "about the probability of the kept set instead of 1, and PPO learns to exploit the difference";

type Lap =
  | "time/get_response"
  | "time/get_scores"
  | "time/ppo/forward_pass"
  | "time/ppo/compute_rewards"
  | "time/ppo/compute_advantages"
  | "time/ppo/optimize_step";

/** Seconds between laps, by metric name. */
class Stopwatch {
  readonly #laps: Partial<Record<Lap, number>> = {};
  readonly #start = performance.now();
  #last = this.#start;

  lap(name: Lap): void {
    const now = performance.now();
    this.#laps[name] = (now - this.#last) / 1000;
    this.#last = now;
  }

  times(): Partial<Record<Lap | "time/ppo/total" | "time/total", number>> {
    const total = (performance.now() - this.#start) / 1000;
    const sampling = (this.#laps["time/get_response"] ?? 0) + (this.#laps["time/get_scores"] ?? 0);
    return { ...this.#laps, "time/ppo/total": total - sampling, "time/total": total };
  }
}

function refuseTrainMode(model: GPT2HeadWithValueModel): void {
  if (model.training)
    fail("config", {
      where: "PPOTrainer, model",
      found: "a model in train mode",
      expected: "eval mode: PPO compares with earlier values, and with dropout the same weights do not give them again",
      fix: "call model.eval()",
    });
}
