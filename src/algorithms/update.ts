/** @file K epochs of minibatches: the only place where PPO, GRPO and RLOO change weights. */
import { fail } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import { ANY_TOKEN, type Passes } from "../experience/ask.ts";
import { auditRatio } from "../experience/audit.ts";
import type { Experience } from "../experience/experience.ts";
import { FINITE_FIX } from "../experience/finite.ts";
import type { HonestyConfig } from "../experience/options.ts";
import type { RowLoss, SeedLoss } from "../model/head.ts";
import type { OptimizerConfig } from "../nn/options.ts";
import { tokenWeights } from "../rl/groups.ts";
import type { Targets } from "../rl/targets.ts";
import type { SamplingConfig } from "../sample/options.ts";
import type { RunConfig } from "./algorithm.ts";
import type { TrainEvent } from "./events.ts";
import type { Learner, StepFacts } from "./learner.ts";
import { criticLoss, ppoLoss } from "./losses.ts";
import { type GradientWorkers, type Microbatch, microbatchesOf } from "./microbatches.ts";
import type { LossConfig, PassConfig } from "./options/ppo-options.ts";

/** Per token of every minibatch of every epoch, in the order they were used: what the loss was computed from. */
export interface UpdateRecord {
  logprobs: Float32Array;
  values: Float32Array;
  entropies: Float32Array;
  /** As the loss used them: with whitening per minibatch another number in each epoch. */
  advantages: Float32Array;
  /** Empty where the loss is given none. */
  returns: Float32Array;
  /** Index of each token in the batch's [B, W] arrays. */
  index: Int32Array;
  /** Mean over minibatches of the policy's loss. */
  loss: number;
  /** Mean over optimizer steps of the gradient norm before clipping. */
  gradNorm: number;
  /** Mean over optimizer steps of the norm of the weights' change. */
  updateNorm: number;
  /** Passes over the batch. */
  epochs: number;
  /** Minibatches without an optimizer step, because of ratioThreshold. */
  skipped: number;
  /** Optimizer steps of the run, up to now, that were left out because a number was not finite. */
  skippedUpdates: number;
  /** Largest |ratio - 1| in the first minibatch, before any weight moved: 0 but for rounding, whatever the sampler. */
  firstRatioDeviation: number;
}

type PerToken = "logprobs" | "values" | "entropies" | "advantages" | "returns";
type Part = Pick<UpdateRecord, PerToken | "index">;

/** What a minibatch is learned from. */
export interface Objective {
  /** Reads oldLogprobs, advantages and weight, and whatever else `given` has. */
  readonly policy: RowLoss | SeedLoss;
  /** Of a separate model for the values. */
  readonly critic?: RowLoss;
  /** What the losses are given of each token, by name, for the rows of one minibatch. [B, W] */
  given(rows: Int32Array): Given;
}
type Given = Readonly<Record<string, Float32Array>> & Readonly<Record<"oldLogprobs" | "advantages", Float32Array>>;

/** The options that all updates read. */
export type UpdateConfig = Omit<PassConfig, "ppoEpochs" | "gradientCheckpointing"> &
  Partial<Pick<LossConfig, "targetKl" | "ratioThreshold">> &
  HonestyConfig &
  Pick<OptimizerConfig, "learningRate" | "maxSkippedSteps"> &
  Pick<SamplingConfig, "temperature" | "repetitionPenalty"> &
  Pick<RunConfig, "seed"> & {
    /** Passes over each batch. */
    epochs: number;
  };

/** Who learns: the policy, and a model for the values where they are not a head on the policy. */
export interface Learners {
  policy: Learner;
  critic?: Learner;
  /** Others who may compute gradients of the policy. */
  workers?: GradientWorkers;
}

/** Epochs end when the KL from the old policy exceeds this times targetKl, as in TRL's `_early_stop`. */
const EARLY_STOP_FACTOR = 1.5;

/** PPO's updates: {@link updateWeights} with the clipped losses of policy and values. With a `critic` the value loss trains that. */
export function updatePolicy(
  learners: Learners,
  data: Experience,
  targets: Targets,
  passes: Pick<Passes, "adjustments">,
  config: Omit<UpdateConfig, "epochs"> & PassConfig & LossConfig,
  step: number,
  skippedBefore = 0,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  const objective: Objective = {
    policy: ppoLoss(learners.critic ? { ...config, vfCoef: 0 } : config),
    critic: criticLoss(config),
    given: (rows) => ({
      weight: tokenWeights(data.batch, rows),
      oldLogprobs: data.logprobs,
      oldValues: data.values,
      ...(({ advantages, returns }) => ({ advantages, returns }))(targets.ofRows?.(rows) ?? targets),
    }),
  };
  const all = { ...config, epochs: config.ppoEpochs };
  return updateWeights(learners, data, objective, passes, all, { algorithm: "PPO", step, skippedBefore });
}

/** Which step it is, of what. */
export interface UpdatePlace {
  /** As errors call it. */
  algorithm: string;
  step: number;
  /** Optimizer steps of the run that were left out before. */
  skippedBefore: number;
}

/**
 * Updates the weights in place; yields progress, returns what happened.
 *
 * `targetKl` is compared after each epoch with k1 of its last minibatch, the mean over tokens of log π_old − log π;
 * `ratioThreshold` with the mean over tokens of π / π_old, before the optimizer's step.
 * Source: huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `step`, `_early_stop`, `loss`.
 *
 * @throws numbers - a loss or gradient that is not finite, beyond config.maxSkippedSteps or in every minibatch
 */
export async function* updateWeights(
  learners: Learners,
  data: Experience,
  objective: Objective,
  passes: Pick<Passes, "adjustments">,
  config: UpdateConfig,
  { algorithm, step, skippedBefore }: UpdatePlace,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  const { policy, critic } = learners;
  for (const learner of [policy, critic]) if (learner) learner.optimizer.options.learningRate = config.learningRate;
  const { targetKl = 0, ratioThreshold = 0 } = config;
  const where = `${algorithm} step ${step}`;
  const { rows } = data.batch;
  const rng = stream(config.seed, "minibatches", step);
  const parts: Part[] = [];
  const steps: StepFacts[] = [];
  const losses: number[] = [];
  let [firstRatioDeviation, skipped, skippedUpdates, epochs, updates] = [0, 0, skippedBefore, 0, 0];
  for (let policyKl = 0; epochs < config.epochs && !isFar(policyKl, { targetKl }); epochs++) {
    const epoch = epochs;
    const order = rng.permutation(rows);
    for (let start = 0; start < rows; start += config.miniBatchSize) {
      const miniBatch = order.subarray(start, start + config.miniBatchSize);
      const place = { step, update: updates++ };
      const pass = yield* minibatchGradient(learners, data, objective, miniBatch, passes, config, place);
      const bad = pass.bad ?? (await policy.badGradient()) ?? (await critic?.badGradient());
      if (bad !== undefined) {
        const last = parts.length === 0 && epoch === config.epochs - 1 && start + config.miniBatchSize >= rows;
        if (last || skippedUpdates >= config.maxSkippedSteps) failMinibatch(where, epoch, start, bad, skippedUpdates);
        skippedUpdates++;
        yield { type: "warning", step, message: `an optimizer step was skipped: a number in ${bad} is not finite` };
        continue; // the statistics are of what was learned from
      }
      if (parts.length === 0) {
        firstRatioDeviation = pass.ratioDeviation;
        const message = auditRatio(firstRatioDeviation, policy.model, config, step, algorithm);
        if (message) yield { type: "warning", step, message };
      }
      parts.push(...pass.parts);
      losses.push(pass.loss);
      policyKl = pass.policyKl;
      if (ratioThreshold > 0 && pass.ratio > ratioThreshold) skipped++;
      else {
        const facts = await policy.apply();
        const spoiled = facts.spoiled ?? (await critic?.apply())?.spoiled;
        if (spoiled !== undefined) failMinibatch(where, epoch, start, spoiled, skippedUpdates);
        steps.push(facts);
      }
      const done = epoch * rows + Math.min(rows, start + config.miniBatchSize);
      yield { type: "progress", step, phase: "update", done, total: config.epochs * rows };
    }
  }
  const join = (name: PerToken) => Float32Array.from(parts.flatMap((p) => Array.from(p[name])));
  const mean = (name: "gradNorm" | "updateNorm") =>
    steps.length > 0 ? steps.reduce((sum, facts) => sum + facts[name], 0) / steps.length : 0;
  return {
    logprobs: join("logprobs"),
    values: join("values"),
    entropies: join("entropies"),
    advantages: join("advantages"),
    returns: join("returns"),
    index: Int32Array.from(parts.flatMap((p) => Array.from(p.index))),
    loss: losses.reduce((sum, loss) => sum + loss / losses.length, 0),
    gradNorm: mean("gradNorm"),
    updateNorm: mean("updateNorm"),
    epochs,
    skipped,
    skippedUpdates,
    firstRatioDeviation,
  };
}

/** log π(x) − log π_old(x) of each response, as often as it was learned from, and which row of the batch it is. */
export function responseRatios({ logprobs, index }: UpdateRecord, data: Experience) {
  const [logRatios, rows]: [number[], number[]] = [[], []];
  index.forEach((j, i) => {
    // Its first token begins a response: tokens follow each other.
    if (j % data.batch.width === 0) {
      rows.push(Math.floor(j / data.batch.width));
      logRatios.push(0);
    }
    logRatios[logRatios.length - 1] += logprobs[i] - data.logprobs[j];
  });
  return { logRatios, rows };
}

export const isFar = (policyKl: number, { targetKl }: Pick<LossConfig, "targetKl">) =>
  targetKl > 0 && policyKl > EARLY_STOP_FACTOR * targetKl;

/** What a pass over a minibatch says. Means are over its tokens, with d = log π − log π_old. */
interface MinibatchPass {
  parts: Part[];
  /** Of the policy. */
  loss: number;
  /** Mean of exp(d). */
  ratio: number;
  /** Mean of −d. */
  policyKl: number;
  /** Largest |exp(d) − 1|. */
  ratioDeviation: number;
  /** What is not finite, in words. */
  bad?: string;
}

/** The gradient of a minibatch's loss, in passes of microBatchSize responses: by workers, or one after the other here. */
async function* minibatchGradient(
  { policy, critic, workers }: Learners,
  data: Experience,
  objective: Objective,
  miniBatch: Int32Array,
  passes: Pick<Passes, "adjustments">,
  config: Pick<PassConfig, "microBatchSize">,
  place: { step: number; update: number },
): AsyncGenerator<TrainEvent, MinibatchPass> {
  const tokens = miniBatch.reduce((n, b) => n + data.responses[b].length, 0);
  const size = config.microBatchSize || miniBatch.length;
  const microbatches = microbatchesOf(
    data,
    miniBatch,
    size,
    objective.given(miniBatch),
    policy.model.sizes.context,
    passes,
  );
  const pass: MinibatchPass = { parts: [], loss: 0, ratio: 0, policyKl: 0, ratioDeviation: 0 };
  for (const learner of [policy, critic]) learner?.discard();
  const here = ({ asked, inputs }: Microbatch) => policy.gradient(asked, objective.policy, inputs);
  const request = { ...place, data, microbatches, seconds: policy.quickest, here };
  const gradients = workers && (yield* workers.gradients(request));
  for (const { index: micro, asked, inputs: all, places } of microbatches) {
    if (pass.bad !== undefined) break;
    const inputs = all as Given;
    if (gradients) await policy.add(gradients[micro]);
    const scores = gradients?.[micro] ?? (await policy.accumulate(asked, objective.policy, inputs));
    const { critic: loss } = objective;
    const learned = loss && (await critic?.accumulate({ ...asked, distribution: ANY_TOKEN }, loss, inputs));
    pass.bad = policy.badScores ?? critic?.badScores;
    pass.loss += scores.loss;
    const { logprobs, entropies } = scores;
    const { values } = learned ?? scores;
    logprobs.forEach((logprob, i) => {
      const d = logprob - inputs.oldLogprobs[i];
      pass.ratio += Math.exp(d) / tokens;
      pass.policyKl -= d / tokens;
      pass.ratioDeviation = Math.max(pass.ratioDeviation, Math.abs(Math.exp(d) - 1));
    });
    const { advantages, returns = new Float32Array() } = inputs;
    pass.parts.push({ logprobs, values, entropies, advantages, returns, index: places });
  }
  return pass;
}

/** @throws numbers - a minibatch cannot be learned from */
function failMinibatch(where: string, epoch: number, start: number, bad: string, skipped: number): never {
  const before = skipped > 0 ? `, after ${skipped} optimizer steps of the run were skipped for the same reason` : "";
  return fail("numbers", {
    where: `${where}, epoch ${epoch + 1}, minibatch from response ${start}`,
    found: `a number that is not finite in ${bad}${before}`,
    expected: "finite numbers",
    fix: FINITE_FIX,
  });
}
