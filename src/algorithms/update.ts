/** @file K epochs of minibatches: the only place where PPO changes weights. */
import { stream } from "../base/streams.ts";
import type { RowLoss } from "../model/head.ts";
import type { GPT2HeadWithValueModel } from "../model/model.ts";
import { type ParameterBuffer, trainedPart } from "../model/parameters.ts";
import { type AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import type { Targets } from "../rl/targets.ts";
import { auditRatio } from "./audit.ts";
import { ask, type Experience, pick } from "./batch.ts";
import type { PPOConfig } from "./config.ts";
import type { Critic } from "./critic.ts";
import type { TrainEvent } from "./events.ts";
import { badGradient, badScores, badWeights, failMinibatch } from "./finite.ts";
import { ppoLoss } from "./losses.ts";

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

/** Epochs end when the KL from the old policy exceeds this times targetKl, as in TRL's `_early_stop`. */
const EARLY_STOP_FACTOR = 1.5;

/**
 * Updates the model in place; yields progress, returns what happened. With a `critic` the value loss trains that instead.
 *
 * `targetKl` is compared after each epoch with k1 of its last minibatch, the mean over tokens of log π_old − log π;
 * `ratioThreshold` with the mean over tokens of π / π_old, before the optimizer's step.
 * Source: huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `step`, `_early_stop`, `loss`.
 *
 * @param skippedBefore optimizer steps of the run that were left out before
 * @throws numbers - a loss or gradient that is not finite, beyond config.maxSkippedSteps or in every minibatch
 */
export async function* updatePolicy(
  model: GPT2HeadWithValueModel,
  optimizer: AdamW,
  grads: ParameterBuffer,
  data: Experience,
  targets: Targets,
  config: PPOConfig,
  step: number,
  skippedBefore = 0,
  critic?: Critic,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  const loss = ppoLoss(critic ? { ...config, vfCoef: 0 } : config);
  const { rows } = data.batch;
  const rng = stream(config.seed, "minibatches", step);
  const parts: Part[] = [];
  let [normSum, updateNormSum, optimizerSteps] = [0, 0, 0];
  let [firstRatioDeviation, skipped, skippedUpdates, epochs] = [0, 0, skippedBefore, 0];
  for (let policyKl = 0; epochs < config.ppoEpochs && !isFar(policyKl, config); epochs++) {
    const epoch = epochs;
    const order = rng.permutation(rows);
    for (let start = 0; start < rows; start += config.miniBatchSize) {
      const miniBatch = order.subarray(start, start + config.miniBatchSize);
      const pass = await minibatchGradient(model, loss, grads, data, targets, miniBatch, config, critic);
      const norm = pass.bad === undefined ? globalNorm(grads.data) : 0;
      const scale = clipFactor(norm, config.maxGradNorm);
      const bad = pass.bad ?? badGradient(grads, norm, scale) ?? critic?.badGradient();
      if (bad !== undefined) {
        const last = parts.length === 0 && epoch === config.ppoEpochs - 1 && start + config.miniBatchSize >= rows;
        if (last || skippedUpdates >= config.maxSkippedSteps) failMinibatch(step, epoch, start, bad, skippedUpdates);
        skippedUpdates++;
        yield { type: "warning", step, message: `an optimizer step was skipped: a number in ${bad} is not finite` };
        continue; // the statistics are of what was learned from
      }
      if (parts.length === 0) {
        firstRatioDeviation = pass.ratioDeviation;
        const message = auditRatio(firstRatioDeviation, model, config, step);
        if (message) yield { type: "warning", step, message };
      }
      parts.push(...pass.parts);
      policyKl = pass.policyKl;
      if (config.ratioThreshold > 0 && pass.ratio > config.ratioThreshold) skipped++;
      else {
        const change = optimizer.update(trainedPart(model.parameters, grads), grads.data, scale);
        const spoiled = badWeights(model.parameters, change) ?? critic?.update(optimizer.options.learningRate);
        if (spoiled !== undefined) failMinibatch(step, epoch, start, spoiled, skippedUpdates);
        updateNormSum += change;
        normSum += norm;
        optimizerSteps++;
      }
      const done = epoch * rows + Math.min(rows, start + config.miniBatchSize);
      yield { type: "progress", step, phase: "update", done, total: config.ppoEpochs * rows };
    }
  }
  const join = (name: PerToken) => Float32Array.from(parts.flatMap((p) => Array.from(p[name])));
  return {
    logprobs: join("logprobs"),
    values: join("values"),
    entropies: join("entropies"),
    advantages: join("advantages"),
    returns: join("returns"),
    index: Int32Array.from(parts.flatMap((p) => Array.from(p.index))),
    gradNorm: optimizerSteps > 0 ? normSum / optimizerSteps : 0,
    updateNorm: optimizerSteps > 0 ? updateNormSum / optimizerSteps : 0,
    epochs,
    skipped,
    skippedUpdates,
    firstRatioDeviation,
  };
}

export const isFar = (policyKl: number, { targetKl }: Pick<PPOConfig, "targetKl">) =>
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

/** The gradient of a minibatch's mean loss over tokens into `grads`, in passes of microBatchSize responses. */
async function minibatchGradient(
  model: GPT2HeadWithValueModel,
  loss: RowLoss,
  grads: ParameterBuffer,
  data: Experience,
  targets: Targets,
  miniBatch: Int32Array,
  config: PPOConfig,
  critic: Critic | undefined,
): Promise<MinibatchPass> {
  const { advantages, returns } = targets.ofRows?.(miniBatch) ?? targets;
  const tokens = miniBatch.reduce((n, b) => n + data.responses[b].length, 0);
  const size = config.microBatchSize || miniBatch.length;
  const keep = config.gradientCheckpointing ? "nothing" : "heavy";
  const pass: MinibatchPass = { parts: [], ratio: 0, policyKl: 0, ratioDeviation: 0 };
  for (let micro = 0; micro < miniBatch.length && pass.bad === undefined; micro += size) {
    const { asked, index } = ask(data, miniBatch.subarray(micro, micro + size), model.config.nPositions);
    const inputs = {
      weight: new Float32Array(index.length).fill(1 / tokens),
      oldLogprobs: pick(data.logprobs, index),
      advantages: pick(advantages, index),
      oldValues: pick(data.values, index),
      returns: pick(returns, index),
    };
    const result = await model.lossAndGradients(asked, loss, inputs, grads, micro > 0, keep);
    const learned = await critic?.learn(asked, inputs, micro > 0, keep);
    pass.bad = badScores(result, model.parameters) ?? learned?.bad;
    const { logprobs, entropies } = result;
    const { values } = learned ?? result;
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
