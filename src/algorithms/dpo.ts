/**
 * @file DPO, direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290): learns from pairs of responses, one of which was
 * preferred, without a reward and without sampling.
 *
 *     d    = (log pi - log pi_ref)(chosen) - (log pi - log pi_ref)(rejected)      of whole responses
 *     loss = mean over pairs of -log sigmoid(beta d)
 *
 * IPO, hinge and robust losses and label smoothing (cDPO) are options: `pairLoss` in losses.ts has the formulas. The reference is the
 * model as it was: its log-probs are computed once, before a weight moves, and kept, so there is no second model.
 */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { count } from "../base/option-values.ts";
import type { EncodedPairs } from "../data/pairs.ts";
import { PromptSampler, type PromptSamplerState } from "../data/prompts.ts";
import { ask } from "../experience/ask.ts";
import { padded } from "../experience/experience.ts";
import { checkWeights, failUnlessFinite } from "../experience/finite.ts";
import { packKept } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { adamOptions } from "../nn/options.ts";
import { scheduleFactor } from "../nn/schedules.ts";
import { Adjustments } from "../sample/transforms.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { partsOf, type TrainedPart, type Trainer } from "./algorithm.ts";
import type { Metrics, TrainEvent } from "./events.ts";
import { Learner } from "./learner.ts";
import { type DPOLossName, dpoLoss, pairLoss } from "./losses.ts";
import { type DPOConfig, dpoConfig } from "./options/dpo-options.ts";
import { addAskedAdapter } from "./options/lora.ts";
import { checkState, samplerStateSchema } from "./trainer-state.ts";

/** Pairs to learn from, and pairs never learned from. */
export interface DPOData {
  /** What is learned from. */
  train: EncodedPairs;
  /** What the held-out loss is measured on. */
  heldOut?: EncodedPairs;
}

/** Log-probs of whole responses by the reference, nats: chosen and rejected of the first pair, of the second, ... */
export interface DPOReference {
  /** Of the pairs that are learned from. */
  train: number[];
  /** Of the held-out pairs. */
  heldOut: number[];
}

/** Where DPO is, without the weights. Plain data, safe for JSON. */
export interface DPOState {
  /** Steps taken. */
  step: number;
  /** Which pairs were used; undefined before the first step. */
  pairs?: PromptSamplerState;
  /** What the reference says of the pairs; undefined before it was asked. */
  reference?: DPOReference;
}

const logs = z.array(z.number().max(1));
/** @internal */
export const dpoStateSchema = z.strictObject({
  step: count(0),
  pairs: samplerStateSchema.optional(),
  reference: z.strictObject({ train: logs, heldOut: logs }).optional(),
} satisfies Record<keyof DPOState, z.ZodType>);

/** What a {@link DPOTrainer} is made of. */
export interface DPOTrainerOptions {
  /** The policy; its weights are changed in place. As it is at the first step it is the reference, too. */
  model: CausalLMWithValueHead;
  /** The model's; it made the token ids of the pairs. */
  tokenizer: Tokenizer;
  /** Options that differ from {@link DPO_DEFAULTS}. */
  config?: Partial<DPOConfig>;
  /** What the policy is held to, where it is not the model as it is at the first step. */
  reference?: CausalLMWithValueHead;
}

/** Trains a model by DPO on preference pairs. It needs no value head. */
export class DPOTrainer implements Trainer<DPOData, DPOState> {
  /** The policy; its weights are changed in place. */
  readonly model: CausalLMWithValueHead;
  /** The model's. */
  readonly tokenizer: Tokenizer;
  /** Complete and checked. */
  readonly config: DPOConfig;
  /** Steps taken. */
  stepsTaken = 0;
  readonly #learner: Learner;
  readonly #asked: CausalLMWithValueHead | undefined;
  #reference?: DPOReference;
  #pairs?: PromptSamplerState;
  /** Optimizer steps when the last step had ended. */
  #settledAt = 0;

  /** @throws config, numbers - an option out of range; weights that are not finite */
  constructor({ model, tokenizer, config = {}, reference }: DPOTrainerOptions) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.config = dpoConfig(config);
    checkWeights("policy", model.parameters);
    addAskedAdapter(model, this.config);
    if (reference) checkWeights("reference", reference.parameters);
    this.#asked = reference;
    const { maxGradNorm, frozenLayers, gradientCheckpointing } = this.config;
    const adam = adamOptions({ ...this.config, maxSkippedSteps: 0 });
    const learning = { optimizer: adam, maxGradNorm, frozenLayers, gradientCheckpointing, valueHead: false };
    this.#learner = new Learner(model, learning);
  }

  /**
   * Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first.
   * @throws numbers - a loss or gradient that is not finite
   * @throws usage - pairs other than those that the reference was asked about
   */
  async *train(data: DPOData, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const { config } = this;
    const { signal } = options;
    const sampler = new PromptSampler(data.train.prompts.length, config.seed);
    if (this.#pairs) sampler.setState(this.#pairs);
    const reference = this.#reference ?? (yield* this.#askReference(data, signal));
    if (reference) checkReference(reference, data);
    while (reference && this.stepsTaken < config.steps && !signal?.aborted) {
      const start = performance.now();
      const step = this.stepsTaken + 1;
      this.#learner.optimizer.options.learningRate =
        config.learningRate * scheduleFactor(config.schedule, step - 1, config.steps, config.warmupSteps);
      const chosen = sampler.next(config.batchSize);
      const metrics = await dpoStep(this.#learner, data.train, reference.train, chosen, config, step);
      const state = sampler.getState();
      this.#settle({ step, pairs: state, reference });
      const due = step === config.steps || (config.evalEvery > 0 && step % config.evalEvery === 0);
      const measured = data.heldOut && due ? yield* this.#measure(data.heldOut, reference.heldOut) : {};
      const more: Metrics = {
        "dpo/epoch": state.epoch + state.position / state.count,
        "time/total": (performance.now() - start) / 1000,
      };
      yield { type: "step", step, steps: config.steps, metrics: { ...metrics, ...measured, ...more }, samples: [] };
    }
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < config.steps };
  }

  /** What the reference says of all pairs; undefined: interrupted. Before the first step the model is its own reference. */
  async *#askReference(data: DPOData, signal?: AbortSignal): AsyncGenerator<TrainEvent, DPOReference | undefined> {
    if (this.#asked === undefined && this.stepsTaken > 0)
      fail("usage", {
        where: "DPOTrainer",
        found: `a model after ${this.stepsTaken} steps, and no word of what the reference said`,
        expected: "the state that was saved with it, or a reference",
        fix: "pass the state as getState() gave it, or the model that training began with as reference",
      });
    const model = this.#asked ?? this.model;
    const said: DPOReference = { train: [], heldOut: [] };
    const total = data.train.prompts.length + (data.heldOut?.prompts.length ?? 0);
    for (const name of ["train", "heldOut"] as const) {
      const pairs = data[name];
      if (!pairs) continue;
      for (const part of partsOfPairs(pairs, this.#size)) {
        if (signal?.aborted) return undefined;
        said[name].push(...(await responseLogprobs(model, pairs, part)));
        const done = (said.train.length + said.heldOut.length) / 2;
        yield { type: "progress", step: this.stepsTaken, phase: "reference", done, total };
      }
    }
    this.#reference = said;
    return said;
  }

  async *#measure(pairs: EncodedPairs, reference: readonly number[]): AsyncGenerator<TrainEvent, Metrics> {
    const total = pairs.prompts.length;
    let [loss, correct, margin, done] = [0, 0, 0, 0];
    for (const part of partsOfPairs(pairs, this.#size)) {
      const now = await responseLogprobs(this.model, pairs, part);
      part.forEach((p, i) => {
        const [a, b] = [now[2 * i] - reference[2 * p], now[2 * i + 1] - reference[2 * p + 1]];
        loss += pairLoss(this.config, difference(this.config.loss, a, b, pairs, p)).loss / total;
        correct += Number(a > b) / total;
        margin += (this.config.beta * (a - b)) / total;
      });
      done += part.length;
      yield { type: "progress", step: this.stepsTaken, phase: "evaluate", done, total };
    }
    return { "eval/loss": loss, "eval/accuracy": correct, "eval/margin": margin };
  }

  get #size(): number {
    return this.config.microBatchSize || this.config.batchSize;
  }

  /** The model. */
  get parts(): readonly TrainedPart[] {
    return partsOf({ "": this.#learner });
  }

  /** Whether weights, optimizer and state belong together: false while a step's update is under way. */
  get canBeSaved(): boolean {
    return this.unsettledUpdates === 0;
  }

  /** Optimizer steps of a step that did not end well: 0 or 1. */
  get unsettledUpdates(): number {
    return this.#learner.optimizer.step - this.#settledAt;
  }

  /** Where it is, to be saved with the parts. */
  getState(): DPOState {
    return { step: this.stepsTaken, pairs: this.#pairs, reference: this.#reference };
  }

  /**
   * Go on from a saved state. Whoever saved them restores the model's weights and, before this, the optimizer.
   * @throws checkpoint - a state that no trainer can have been in
   */
  setState(state: DPOState): void {
    checkState(state, "DPO", dpoStateSchema);
    this.#settle(state);
  }

  #settle({ step, pairs, reference }: DPOState): void {
    this.stepsTaken = step;
    this.#pairs = pairs;
    this.#reference = reference;
    this.#settledAt = this.#learner.optimizer.step;
  }
}

/** One step: the mean loss over a batch of pairs, one optimizer step. */
async function dpoStep(
  learner: Learner,
  pairs: EncodedPairs,
  reference: readonly number[],
  batch: readonly number[],
  config: DPOConfig,
  step: number,
): Promise<Metrics> {
  const { beta, batchSize, microBatchSize } = config;
  const loss = dpoLoss(config);
  const sums = { loss: 0, chosen: 0, rejected: 0, correct: 0, logpsChosen: 0, logpsRejected: 0 };
  learner.discard();
  for (let start = 0; start < batchSize; start += microBatchSize || batchSize) {
    const part = batch.slice(start, start + (microBatchSize || batchSize));
    const { asked, sequence } = askPairs(learner.model, pairs, part);
    const said = (s: number) => reference[2 * part[s >> 1] + (s % 2)];
    const result = await learner.accumulate(asked, loss, {
      sequence: Float32Array.from(sequence),
      refLogprobs: Float32Array.from(sequence, said),
      weight: new Float32Array(sequence.length).fill(1 / batchSize),
    });
    if (learner.badScores !== undefined) break;
    const now = sumsOf(result.logprobs, sequence, 2 * part.length);
    sums.loss += result.loss;
    for (let p = 0; p < part.length; p++) {
      const [chosen, rejected] = [now[2 * p] - said(2 * p), now[2 * p + 1] - said(2 * p + 1)];
      sums.chosen += (beta * chosen) / batchSize;
      sums.rejected += (beta * rejected) / batchSize;
      sums.correct += Number(chosen > rejected) / batchSize;
      sums.logpsChosen += now[2 * p] / batchSize;
      sums.logpsRejected += now[2 * p + 1] / batchSize;
    }
  }
  failUnlessFinite(learner.badScores ?? (await learner.badGradient()), `DPO step ${step}`);
  const { gradNorm, updateNorm, spoiled } = await learner.apply();
  failUnlessFinite(spoiled, `DPO step ${step}`);
  return {
    "dpo/loss": sums.loss,
    "dpo/accuracy": sums.correct,
    "dpo/margin": sums.chosen - sums.rejected,
    "dpo/rewards_chosen": sums.chosen,
    "dpo/rewards_rejected": sums.rejected,
    "dpo/logps_chosen": sums.logpsChosen,
    "dpo/logps_rejected": sums.logpsRejected,
    "dpo/grad_norm": gradNorm,
    "dpo/update_norm": updateNorm,
    "dpo/learning_rate": learner.optimizer.options.learningRate,
  };
}

/** Both responses of some pairs as a question to the model, and of each asked token which response it is of: 2 p or 2 p + 1. */
function askPairs({ sizes }: CausalLMWithValueHead, pairs: EncodedPairs, part: readonly number[]) {
  const responses = part.flatMap((p) => [pairs.chosen[p], pairs.rejected[p]]);
  const batch = padded(responses);
  const size = batch.rows * batch.width;
  const data = {
    queries: part.flatMap((p) => [pairs.prompts[p], pairs.prompts[p]]),
    responses,
    batch,
    logprobs: new Float32Array(),
    values: new Float32Array(),
    kept: packKept(new Array(size).fill(undefined)),
    keptMass: new Float64Array(),
  };
  const rows = responses.map((_, s) => s);
  const { asked, index } = ask(
    data,
    rows,
    sizes.context,
    new Adjustments({ temperature: 1, repetitionPenalty: 1 }, sizes.vocabSize),
  );
  return { asked, sequence: index.map((j) => Math.floor(j / batch.width)) };
}

/** log p of whole responses, nats: chosen and rejected of the first pair, of the second, ... */
async function responseLogprobs(model: CausalLMWithValueHead, pairs: EncodedPairs, part: readonly number[]) {
  const { asked, sequence } = askPairs(model, pairs, part);
  const { logprobs } = await model.score(asked, ["logprobs"]);
  return sumsOf(logprobs, sequence, 2 * part.length);
}

/** In double precision, rounded once: a sum does not depend on what else was asked. */
function sumsOf(logprobs: Float32Array, sequence: Int32Array, n: number): number[] {
  const sums = new Array<number>(n).fill(0);
  sequence.forEach((s, i) => {
    sums[s] += logprobs[i];
  });
  return sums.map(Math.fround);
}

/** What the loss is a function of, from the log ratios of both responses. */
function difference(loss: DPOLossName, chosen: number, rejected: number, pairs: EncodedPairs, p: number): number {
  return loss === "ipo" ? chosen / pairs.chosen[p].length - rejected / pairs.rejected[p].length : chosen - rejected;
}

function* partsOfPairs({ prompts }: EncodedPairs, size: number): Generator<number[]> {
  for (let start = 0; start < prompts.length; start += size)
    yield Array.from({ length: Math.min(size, prompts.length - start) }, (_, i) => start + i);
}

/** @throws usage - the reference was asked about other pairs */
function checkReference({ train, heldOut }: DPOReference, data: DPOData): void {
  for (const [said, pairs] of [
    [train, data.train],
    [heldOut, data.heldOut],
  ] as const)
    if (pairs && said.length !== 2 * pairs.prompts.length)
      fail("usage", {
        where: "DPOTrainer, train",
        found: `${pairs.prompts.length} pairs`,
        expected: `the ${said.length / 2} that the reference was asked about`,
        fix: "go on with the pairs it began with, or begin anew",
      });
}
