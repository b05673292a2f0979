/** @file K epochs of minibatches: the only place where PPO changes weights. */
import { fail } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import { ANY_TOKEN, ask, type Passes, pick } from "../experience/ask.ts";
import { auditRatio } from "../experience/audit.ts";
import type { Experience } from "../experience/experience.ts";
import { FINITE_FIX } from "../experience/finite.ts";
import type { HonestyConfig } from "../experience/options.ts";
import type { RowLoss } from "../model/head.ts";
import type { OptimizerConfig } from "../nn/options.ts";
import type { Targets } from "../rl/targets.ts";
import type { SamplingConfig } from "../sample/options.ts";
import type { RunConfig } from "./algorithm.ts";
import type { TrainEvent } from "./events.ts";
import type { Learner, StepFacts } from "./learner.ts";
import { criticLoss, ppoLoss } from "./losses.ts";
import type { LossConfig, PassConfig } from "./options.ts";

/** Per token of every minibatch of every epoch, in the order they were used: what the loss was computed from. */
export interface UpdateRecord {
  logprobs: Float32Array;
  values: Float32Array;
  entropies: Float32Array;
  /** As the loss used them: with whitening per minibatch another number in each epoch. */
  advantages: Float32Array;
  returns: Float32Array;
  /** Index of each token in the batch's [B, W] arrays. */
  index: Int32Array;
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

/** The options that the updates read. */
export type UpdateConfig = PassConfig &
  LossConfig &
  HonestyConfig &
  Pick<OptimizerConfig, "learningRate" | "maxSkippedSteps"> &
  Pick<SamplingConfig, "temperature" | "repetitionPenalty"> &
  Pick<RunConfig, "seed">;

/** Who learns: the policy, and a model for the values where they are not a head on the policy. */
export interface Learners {
  policy: Learner;
  critic?: Learner;
}

/** Epochs end when the KL from the old policy exceeds this times targetKl, as in TRL's `_early_stop`. */
const EARLY_STOP_FACTOR = 1.5;

/**
 * Updates the weights in place; yields progress, returns what happened. With a `critic` the value loss trains that instead.
 *
 * `targetKl` is compared after each epoch with k1 of its last minibatch, the mean over tokens of log π_old − log π;
 * `ratioThreshold` with the mean over tokens of π / π_old, before the optimizer's step.
 * Source: huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `step`, `_early_stop`, `loss`.
 *
 * @param skippedBefore optimizer steps of the run that were left out before
 * @throws numbers - a loss or gradient that is not finite, beyond config.maxSkippedSteps or in every minibatch
 */
export async function* updatePolicy(
  { policy, critic }: Learners,
  data: Experience,
  targets: Targets,
  passes: Pick<Passes, "adjustments">,
  config: UpdateConfig,
  step: number,
  skippedBefore = 0,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  for (const learner of [policy, critic]) if (learner) learner.optimizer.options.learningRate = config.learningRate;
  const losses = { policy: ppoLoss(critic ? { ...config, vfCoef: 0 } : config), critic: criticLoss(config) };
  const { rows } = data.batch;
  const rng = stream(config.seed, "minibatches", step);
  const parts: Part[] = [];
  const steps: StepFacts[] = [];
  let [firstRatioDeviation, skipped, skippedUpdates, epochs] = [0, 0, skippedBefore, 0];
  for (let policyKl = 0; epochs < config.ppoEpochs && !isFar(policyKl, config); epochs++) {
    const epoch = epochs;
    const order = rng.permutation(rows);
    for (let start = 0; start < rows; start += config.miniBatchSize) {
      const miniBatch = order.subarray(start, start + config.miniBatchSize);
      const pass = await minibatchGradient({ policy, critic }, losses, data, targets, miniBatch, passes, config);
      const bad = pass.bad ?? policy.badGradient ?? critic?.badGradient;
      if (bad !== undefined) {
        const last = parts.length === 0 && epoch === config.ppoEpochs - 1 && start + config.miniBatchSize >= rows;
        if (last || skippedUpdates >= config.maxSkippedSteps) failMinibatch(step, epoch, start, bad, skippedUpdates);
        skippedUpdates++;
        yield { type: "warning", step, message: `an optimizer step was skipped: a number in ${bad} is not finite` };
        continue; // the statistics are of what was learned from
      }
      if (parts.length === 0) {
        firstRatioDeviation = pass.ratioDeviation;
        const message = auditRatio(firstRatioDeviation, policy.model, config, step);
        if (message) yield { type: "warning", step, message };
      }
      parts.push(...pass.parts);
      policyKl = pass.policyKl;
      if (config.ratioThreshold > 0 && pass.ratio > config.ratioThreshold) skipped++;
      else {
        const facts = policy.apply();
        const spoiled = facts.spoiled ?? critic?.apply().spoiled;
        if (spoiled !== undefined) failMinibatch(step, epoch, start, spoiled, skippedUpdates);
        steps.push(facts);
      }
      const done = epoch * rows + Math.min(rows, start + config.miniBatchSize);
      yield { type: "progress", step, phase: "update", done, total: config.ppoEpochs * rows };
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
    gradNorm: mean("gradNorm"),
    updateNorm: mean("updateNorm"),
    epochs,
    skipped,
    skippedUpdates,
    firstRatioDeviation,
  };
}

export const isFar = (policyKl: number, { targetKl }: Pick<LossConfig, "targetKl">) =>
  targetKl > 0 && policyKl > EARLY_STOP_FACTOR * targetKl;

/** What a pass over a minibatch says. Means are over its tokens, with d = log π − log π_old. */
interface MinibatchPass {
  parts: Part[];
  /** Mean of exp(d). */
  ratio: number;
  /** Mean of −d. */
  policyKl: number;
  /** Largest |exp(d) − 1|. */
  ratioDeviation: number;
  /** What is not finite, in words. */
  bad?: string;
}

/** The gradient of a minibatch's mean loss over tokens, in passes of microBatchSize responses. */
async function minibatchGradient(
  { policy, critic }: Learners,
  losses: Readonly<Record<keyof Learners, RowLoss>>,
  data: Experience,
  targets: Targets,
  miniBatch: Int32Array,
  { adjustments }: Pick<Passes, "adjustments">,
  config: PassConfig,
): Promise<MinibatchPass> {
  const { advantages, returns } = targets.ofRows?.(miniBatch) ?? targets;
  const tokens = miniBatch.reduce((n, b) => n + data.responses[b].length, 0);
  const size = config.microBatchSize || miniBatch.length;
  const pass: MinibatchPass = { parts: [], ratio: 0, policyKl: 0, ratioDeviation: 0 };
  for (const learner of [policy, critic]) learner?.discard();
  for (let micro = 0; micro < miniBatch.length && pass.bad === undefined; micro += size) {
    const part = miniBatch.subarray(micro, micro + size);
    const { asked, index } = ask(data, part, policy.model.sizes.context, adjustments);
    const inputs = {
      weight: new Float32Array(index.length).fill(1 / tokens),
      oldLogprobs: pick(data.logprobs, index),
      advantages: pick(advantages, index),
      oldValues: pick(data.values, index),
      returns: pick(returns, index),
    };
    const scores = await policy.accumulate(asked, losses.policy, inputs);
    const learned = await critic?.accumulate({ ...asked, distribution: ANY_TOKEN }, losses.critic, inputs);
    pass.bad = policy.badScores ?? critic?.badScores;
    const { logprobs, entropies } = scores;
    const { values } = learned ?? scores;
    logprobs.forEach((logprob, i) => {
      const d = logprob - inputs.oldLogprobs[i];
      pass.ratio += Math.exp(d) / tokens;
      pass.policyKl -= d / tokens;
      pass.ratioDeviation = Math.max(pass.ratioDeviation, Math.abs(Math.exp(d) - 1));
    });
    pass.parts.push({ logprobs, values, entropies, advantages: inputs.advantages, returns: inputs.returns, index });
  }
  return pass;
}

/** @throws numbers - a minibatch cannot be learned from */
function failMinibatch(step: number, epoch: number, start: number, bad: string, skipped: number): never {
  const before = skipped > 0 ? `, after ${skipped} optimizer steps of the run were skipped for the same reason` : "";
  return fail("numbers", {
    where: `PPO step ${step}, epoch ${epoch + 1}, minibatch from response ${start}`,
    found: `a number that is not finite in ${bad}${before}`,
    expected: "finite numbers",
    fix: FINITE_FIX,
  });
}
