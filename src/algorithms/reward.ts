/**
 * @file Reward models and classifiers. From pairs, by Bradley and Terry (Ouyang et al. 2022, arXiv 2203.02155, equation 1), a number r
 * for every text:
 *
 *     loss = mean over pairs of -log sigmoid(r_chosen - r_rejected - margin)
 *
 * from scores the number itself (mean squared error), from labels a logit for each of them (cross-entropy). reward-losses.ts has the
 * formulas, model/classifier the model: transformers' AutoModelForSequenceClassification.
 */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { count } from "../base/option-values.ts";
import { type EncodedJudgements, type JudgementKind, refuseEqualTargets } from "../data/judgements.ts";
import { PromptSampler, type PromptSamplerState } from "../data/prompts.ts";
import { checkWeights, failUnlessFinite } from "../experience/finite.ts";
import type { OutputLoss, SequenceClassifier } from "../model/classifier/classifier.ts";
import { adamOptions } from "../nn/options.ts";
import { scheduleFactor } from "../nn/schedules.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { partsOf, type TrainedPart, type Trainer } from "./algorithm.ts";
import type { Metrics, TrainEvent } from "./events.ts";
import { Learner } from "./learner.ts";
import { type RewardConfig, rewardConfig } from "./options/reward-options.ts";
import { bradleyTerryLoss, classificationLoss, regressionLoss } from "./reward-losses.ts";
import { checkState, samplerStateSchema } from "./trainer-state.ts";

/** Judgements to learn from, and judgements never learned from. */
export interface RewardData {
  /** What is learned from. */
  train: EncodedJudgements;
  /** What the held-out loss is measured on. */
  heldOut?: EncodedJudgements;
}

/** Where training is, without the weights. Plain data, safe for JSON. */
export interface RewardState {
  /** Steps taken. */
  step: number;
  /** Which judgements were used; undefined before the first step. */
  judgements?: PromptSamplerState;
}

/** @internal */
export const rewardStateSchema = z.strictObject({
  step: count(0),
  judgements: samplerStateSchema.optional(),
} satisfies Record<keyof RewardState, z.ZodType>);

/** What a {@link RewardTrainer} is made of. */
export interface RewardTrainerOptions {
  /** Its weights are changed in place. For pairs and scores it has one output, for labels one for each. */
  model: SequenceClassifier;
  /** The model's; it made the token ids of the texts. */
  tokenizer: Tokenizer;
  /** Options that differ from {@link REWARD_DEFAULTS}. */
  config?: Partial<RewardConfig>;
}

/** Trains a reward model on preference pairs or scores, or a classifier on labels. */
export class RewardTrainer implements Trainer<RewardData, RewardState> {
  /** Its weights are changed in place. */
  readonly model: SequenceClassifier;
  /** The model's. */
  readonly tokenizer: Tokenizer;
  /** Complete and checked. */
  readonly config: RewardConfig;
  /** Steps taken. */
  stepsTaken = 0;
  readonly #learner: Learner<SequenceClassifier>;
  #judgements?: PromptSamplerState;
  /** Optimizer steps when the last step had ended. */
  #settledAt = 0;

  /** @throws config, numbers - an option out of range; weights that are not finite */
  constructor({ model, tokenizer, config = {} }: RewardTrainerOptions) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.config = rewardConfig(config);
    checkWeights("model", model.parameters);
    const { maxGradNorm, frozenLayers, gradientCheckpointing } = this.config;
    const optimizer = adamOptions({ ...this.config, maxSkippedSteps: 0 });
    this.#learner = new Learner(model, { optimizer, maxGradNorm, frozenLayers, gradientCheckpointing });
  }

  /**
   * Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first.
   * @throws data - labels or scores that are all equal
   * @throws usage - a model with another number of outputs than there are labels
   * @throws numbers - a loss or gradient that is not finite
   */
  async *train(data: RewardData, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const { config } = this;
    const { signal } = options;
    refuseEqualTargets(data.train);
    checkOutputs(this.model, data.train);
    const sampler = new PromptSampler(data.train.targets.length, config.seed);
    if (this.#judgements) sampler.setState(this.#judgements);
    while (this.stepsTaken < config.steps && !signal?.aborted) {
      const start = performance.now();
      const step = this.stepsTaken + 1;
      this.#learner.optimizer.options.learningRate =
        config.learningRate * scheduleFactor(config.schedule, step - 1, config.steps, config.warmupSteps);
      const metrics = await rewardStep(this.#learner, data.train, sampler.next(config.batchSize), config, step);
      const state = sampler.getState();
      this.#settle({ step, judgements: state });
      const due = step === config.steps || (config.evalEvery > 0 && step % config.evalEvery === 0);
      const measured = data.heldOut && due ? yield* this.#measure(data.heldOut) : {};
      const more: Metrics = {
        "reward/epoch": state.epoch + state.position / state.count,
        "time/total": (performance.now() - start) / 1000,
      };
      yield { type: "step", step, steps: config.steps, metrics: { ...metrics, ...measured, ...more }, samples: [] };
    }
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < config.steps };
  }

  async *#measure(heldOut: EncodedJudgements): AsyncGenerator<TrainEvent, Metrics> {
    const total = heldOut.targets.length;
    const size = 4 * (this.config.microBatchSize || this.config.batchSize);
    const outputs: number[] = [];
    for (let start = 0; start < total; start += size) {
      const part = Array.from({ length: Math.min(size, total - start) }, (_, i) => start + i);
      outputs.push(...(await this.model.outputs(textsOf(heldOut, part))));
      yield { type: "progress", step: this.stepsTaken, phase: "evaluate", done: start + part.length, total };
    }
    const all = Array.from(heldOut.targets, (_, i) => i);
    const { loss } = lossOf(heldOut, all, this.config, 1 / total).seeds(Float32Array.from(outputs));
    const { accuracy, margin } = summary(heldOut, all, outputs);
    return {
      "eval/loss": loss,
      ...(accuracy !== undefined && { "eval/accuracy": accuracy }),
      ...(margin !== undefined && { "eval/margin": margin }),
      ...(heldOut.kind === "scores" && { "eval/correlation": correlation(outputs, heldOut.targets) }),
    };
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
  getState(): RewardState {
    return { step: this.stepsTaken, judgements: this.#judgements };
  }

  /**
   * Go on from a saved state. Whoever saved them restores the model's weights and, before this, the optimizer.
   * @throws checkpoint - a state that no trainer can have been in
   */
  setState(state: RewardState): void {
    checkState(state, "Reward", rewardStateSchema);
    this.#settle(state);
  }

  #settle({ step, judgements }: RewardState): void {
    this.stepsTaken = step;
    this.#judgements = judgements;
    this.#settledAt = this.#learner.optimizer.step;
  }
}

/** One step: the mean loss over a batch of judgements, one optimizer step. */
async function rewardStep(
  learner: Learner<SequenceClassifier>,
  data: EncodedJudgements,
  drawn: readonly number[],
  config: RewardConfig,
  step: number,
): Promise<Metrics> {
  const { batchSize, microBatchSize } = config;
  let loss = 0;
  const outputs: number[] = [];
  const lengthOf = (i: number) => Math.max(...textsOf(data, [i]).map(({ length }) => length));
  const batch = [...drawn].sort((a, b) => lengthOf(a) - lengthOf(b)); // texts of one pass are about as long: little is padding
  learner.discard();
  for (let start = 0; start < batchSize; start += microBatchSize || batchSize) {
    const part = batch.slice(start, start + (microBatchSize || batchSize));
    const result = await learner.accumulateOutputs(textsOf(data, part), lossOf(data, part, config, 1 / batchSize));
    if (learner.badScores !== undefined) break;
    loss += result.loss;
    outputs.push(...result.outputs);
  }
  failUnlessFinite(learner.badScores ?? (await learner.badGradient()), `reward step ${step}`);
  const { gradNorm, updateNorm, spoiled } = await learner.apply();
  failUnlessFinite(spoiled, `reward step ${step}`);
  const { accuracy, margin, mean } = summary(data, batch, outputs);
  return {
    "reward/loss": loss,
    ...(accuracy !== undefined && { "reward/accuracy": accuracy }),
    ...(margin !== undefined && { "reward/margin": margin }),
    ...(mean !== undefined && { "reward/mean": mean }),
    "reward/grad_norm": gradNorm,
    "reward/update_norm": updateNorm,
    "reward/learning_rate": learner.optimizer.options.learningRate,
  };
}

/** The texts of some judgements: of pairs two each. */
const textsOf = ({ kind, texts }: EncodedJudgements, part: readonly number[]): Int32Array[] =>
  kind === "pairs" ? part.flatMap((p) => [texts[2 * p], texts[2 * p + 1]]) : part.map((i) => texts[i]);

/** The loss of some judgements, each of this weight. */
function lossOf(
  { kind, targets, labels }: EncodedJudgements,
  part: readonly number[],
  { centerRewards }: RewardConfig,
  weight: number,
): OutputLoss {
  const wanted = part.map((i) => targets[i]);
  if (kind === "pairs") return bradleyTerryLoss(wanted, weight, centerRewards);
  return kind === "scores" ? regressionLoss(wanted, weight) : classificationLoss(wanted, labels.length, weight);
}

/** What the outputs for some judgements say, in a few numbers. */
function summary(
  { kind, targets, labels }: EncodedJudgements,
  part: readonly number[],
  outputs: readonly number[],
): { accuracy?: number; margin?: number; mean?: number } {
  const n = part.length;
  const mean = outputs.reduce((sum, output) => sum + output, 0) / outputs.length;
  if (kind === "scores") return { mean };
  if (kind === "pairs") {
    const margins = part.map((_, i) => outputs[2 * i] - outputs[2 * i + 1]);
    const margin = margins.reduce((sum, d) => sum + d, 0) / n;
    return { accuracy: margins.filter((d) => d > 0).length / n, margin, mean };
  }
  const L = labels.length;
  const best = (row: readonly number[]) => row.indexOf(Math.max(...row));
  const right = part.filter((p, i) => best(outputs.slice(i * L, (i + 1) * L)) === targets[p]);
  return { accuracy: right.length / n };
}

/** Pearson's; 0 where one of the two does not vary. */
function correlation(a: readonly number[], b: ArrayLike<number>): number {
  const mean = (x: ArrayLike<number>) => Array.from(x).reduce((sum, y) => sum + y, 0) / x.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((x, i) => {
    ab += (x - ma) * (b[i] - mb);
    aa += (x - ma) ** 2;
    bb += (b[i] - mb) ** 2;
  });
  return aa === 0 || bb === 0 ? 0 : ab / Math.sqrt(aa * bb);
}

const WANTED: Readonly<Record<JudgementKind, string>> = {
  pairs: "one output, as pairs teach",
  scores: "one output, as scores teach",
  labels: "one output for each label",
};

/** @throws usage - a model with another number of outputs than the judgements teach */
function checkOutputs({ labels }: SequenceClassifier, data: EncodedJudgements): void {
  const wanted = data.kind === "labels" ? data.labels.length : 1;
  if (labels.length === wanted) return;
  fail("usage", {
    where: "RewardTrainer, train",
    found: `a model with ${labels.length} outputs (${labels.slice(0, 8).join(", ")}), and ${data.kind === "labels" ? `${wanted} labels` : data.kind}`,
    expected: WANTED[data.kind],
    fix: `open the model with loadClassifier(id, { head: { labels: [...] } }), with ${wanted} of them`,
  });
}
