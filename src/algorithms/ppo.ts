/** @file PPO. `takeStep` is the algorithm: prompts, responses, scores, rewards, advantages, updates, report; rollout.ts is around it. */
import { stream } from "../base/streams.ts";
import type { PromptQueue } from "../data/prompt-queue.ts";
import type { Answered } from "../experience/collect.ts";
import { askReference, wantsExactKl } from "../experience/reference.ts";
import { rescore, weightTargets } from "../experience/rescore.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { type KLController, klController } from "../rl/controllers.ts";
import { loggedKl } from "../rl/kl.ts";
import { rewardsFromScores } from "../rl/rewards.ts";
import { learningTargets } from "../rl/targets.ts";
import { partsOf, type TrainedPart } from "./algorithm.ts";
import type { TrainEvent } from "./events.ts";
import { Learner } from "./learner.ts";
import { ppoConfig } from "./options/config.ts";
import type { PPOConfig, RolloutTrainerOptions, TrainedConfig } from "./options/ppo-options.ts";
import { type Stopwatch, stepReport, stepSignals } from "./report.ts";
import { RolloutTrainer } from "./rollout.ts";
import { checkedTrainerState, type TrainerState } from "./trainer-state.ts";
import { updatePolicy } from "./update.ts";

/** What a {@link PPOTrainer} trains, and by what. */
export type PPOTrainerOptions = RolloutTrainerOptions<PPOConfig>;

/** Trains a model by PPO: {@link PPOTrainer.train} on prompts, {@link PPOTrainer.step} on responses that you sampled and scored. */
export class PPOTrainer extends RolloutTrainer<PPOConfig> {
  /** The value model, when it is not a head on the policy. */
  readonly critic?: Learner;
  /** What chooses β, the coefficient of the KL penalty. */
  readonly klController: KLController;

  /** @throws config, usage - the model is in train mode, options that do not fit each other or the vocabulary */
  constructor(options: PPOTrainerOptions) {
    const config = ppoConfig(options.config);
    super("PPO", options, config, () => initializeValueHead(options.model, config));
    if (config.valueModel === "separate")
      this.critic = new Learner(this.model.frozenCopy(config.frozenLayers), {
        ...this.learning,
        name: "the value model",
      });
    this.klController = klController(config);
  }

  /** @internal */
  protected override async *takeStep(source: PromptQueue | Answered, clock: Stopwatch): AsyncGenerator<TrainEvent> {
    const { config, model, reference, critic, optimizer } = this;
    const [step, klCoef] = [this.stepsTaken + 1, this.klController.value];

    // 1 prompts, 2 respond, 3 score: the reward judges one part while the next is drawn
    const answered = yield* this.answers(source, clock);
    const { draws, scores: given, data: drawn } = answered;
    const passes = this.passes(answered);
    const { data, importance } = await rescore(model, drawn, config, passes, critic?.model); // where another policy drew them
    const { batch, logprobs, values } = data;
    const { scores, moments } = this.shape(given, data);

    // 4 rewards = score - beta KL; the reference is asked about the same tokens under the same kept sets
    const wantsExact = wantsExactKl(config);
    const asked = answered.reference;
    const { refLogprobs, exactKl, kl } = await askReference(model, reference, data, passes, wantsExact, asked);
    this.checkFinite(data, answered, { "log-probs": logprobs, values, "reference log-probs": refLogprobs });
    clock.lap("time/ppo/forward_pass");
    const audit = yield* this.audit({ data, drawnLogprobs: drawn.logprobs, refLogprobs, kl, importance, draws });
    const penalty = kl ? config.klPenalty : "k1"; // of 0 nats where there is no reference
    const inputs = { scores, logprobs, refLogprobs: refLogprobs ?? logprobs, exactKl, klCoef, penalty, batch };
    const { rewards, nonScoreRewards } = rewardsFromScores(inputs);
    clock.lap("time/ppo/compute_rewards");

    // 5 advantages
    const targets = weightTargets(learningTargets({ rewards, values, batch }, config), importance);
    this.checkFinite(data, answered, { rewards, returns: targets.returns, advantages: targets.advantages });
    clock.lap("time/ppo/compute_advantages");

    // 6 updates: ppoEpochs times through the batch, in minibatches
    const learning = { ...config, learningRate: this.learningRate };
    const learners = { ...this.learners, critic };
    const update = yield* updatePolicy(learners, data, targets, passes, learning, step, this.skippedUpdates);
    clock.lap("time/ppo/optimize_step");

    // 7 report
    if (kl) this.klController.update(loggedKl(kl, config).mean, batch.rows);
    const { skippedUpdates } = update;
    this.settle({ step, prompts: answered.prompts, scores: moments, audit: audit.state, skippedUpdates });
    const perToken = { refLogprobs, rewards, nonScoreRewards, tokenizer: this.tokenizer };
    const facts = { config, data, importance, answered, scores, kl, klCoef, update, optimizer, ...perToken };
    const { metrics, samples } = stepReport(facts);
    yield* this.idle(stepSignals(facts));
    const all = { ...metrics, ...audit.metrics, ...clock.ppoTimes() };
    yield { type: "step", step, steps: config.steps, metrics: all, samples };
  }

  /** The policy, and the value model where it is one of its own. */
  override get parts(): readonly TrainedPart[] {
    return partsOf({ "": this.policy, value_model: this.critic });
  }

  /** Where it is, to be saved beside weights and moments. */
  override getState(): TrainerState {
    const { step, ...rest } = super.getState();
    return { step, kl: this.klController.getState(), ...rest };
  }

  /**
   * Continue from a saved state. Whoever saved them restores the model's weights and, before this, the optimizer.
   * @throws checkpoint - a state that no trainer can have been in
   */
  override setState(state: TrainerState): void {
    checkedTrainerState(state);
    this.klController.setState(state.kl);
    this.settle(state);
  }
}

/**
 * How a value head begins that the checkpoint did not have.
 * - `normal`: N(0, valueHeadStd), bias 0; with valueHeadStd 0 the head stays as it was made, N(0, initializer_range).
 *   TRL's v_head_init_strategy "normal" takes 0.2 (huggingface/trl@v0.11.4:trl/models/modeling_value_head.py).
 * - `zero`: openai/lm-human-preferences:lm_human_preferences/language/model.py, scale 0 for the head named value.
 * - `uniform`: weight and bias U(-1 / sqrt(C), 1 / sqrt(C)), torch.nn.Linear's own and TRL's default.
 *
 * Changes the model in place. A value head that was loaded is left alone.
 * @returns what to tell the user; undefined: nothing
 */
export function initializeValueHead(
  { parameters, sizes, valueHeadIsNew }: CausalLMWithValueHead,
  { valueHeadInit, valueHeadStd, seed }: TrainedConfig & { seed: number },
): string | undefined {
  if (valueHeadInit === "normal" && valueHeadStd === 0) return undefined;
  if (!valueHeadIsNew || !parameters.has("v_head.summary.weight"))
    return `valueHeadInit ${valueHeadInit} is not applied: the model comes with a value head`;
  const rng = stream(seed, "valueHead");
  const bound = 1 / Math.sqrt(sizes.width);
  const draw = {
    normal: (isBias: boolean) => (isBias ? 0 : valueHeadStd * rng.normal()),
    zero: () => 0,
    uniform: () => (2 * rng.uniform() - 1) * bound,
  }[valueHeadInit];
  for (const name of ["weight", "bias"]) {
    const view = parameters.view(`v_head.summary.${name}`);
    for (let i = 0; i < view.length; i++) view[i] = draw(name === "bias");
  }
  return `the new value head begins ${{ normal: `N(0, ${valueHeadStd})`, zero: "at zero", uniform: `U(-${bound.toPrecision(3)}, ${bound.toPrecision(3)})` }[valueHeadInit]} (valueHeadInit)`;
}
