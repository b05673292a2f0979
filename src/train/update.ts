/** @file K epochs of minibatches: the only place where PPO changes weights. */
import { Rng } from "../base/rng.ts";
import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import { type ParameterBuffer, trainedPart } from "../gpt2/parameters.ts";
import { type AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import { ppoLoss } from "../rl/losses.ts";
import type { Targets } from "../rl/targets.ts";
import { auditRatio } from "./audit.ts";
import { ask, type Experience, pick } from "./batch.ts";
import type { PpoConfig } from "./config.ts";
import type { TrainEvent } from "./events.ts";
import { badGradient, badScores, badWeights, failMinibatch } from "./finite.ts";

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
  /** Optimizer steps of the run, up to now, that were left out because a number was not finite. */
  skippedUpdates: number;
  /** Passes over the batch. */
  epochs: number;
  /** Minibatches without an optimizer step, because of ratioThreshold. */
  skipped: number;
  /** Largest |ratio - 1| in the first minibatch, before any weight moved: 0 but for rounding, whatever the sampler. */
  firstRatioDeviation: number;
}

/** Random streams of a run, apart from those of single responses. */
const MINIBATCH_STREAM = 0x6d62;

/** Epochs end when the KL from the old policy exceeds this times targetKl, as in TRL's `_early_stop`. */
const EARLY_STOP_FACTOR = 1.5;

/**
 * Updates the model in place; yields progress, returns what happened.
 *
 * `targetKl` is compared after each epoch with k1 of its last minibatch, the mean over tokens of log π_old − log π;
 * `ratioThreshold` with the mean over tokens of π / π_old, before the optimizer's step.
 * Source: huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `step`, `_early_stop`, `loss`.
 * @param skippedBefore optimizer steps of the run that were left out because a number was not finite
 * @throws numbers - a loss or gradient that is not finite, beyond config.maxSkippedSteps or in every minibatch
 */
export async function* updatePolicy(
  model: GPT2HeadWithValueModel,
  optimizer: AdamW,
  grads: ParameterBuffer,
  data: Experience,
  targets: Targets,
  config: PpoConfig,
  step: number,
  skippedBefore = 0,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  const loss = ppoLoss(config);
  const keep = config.gradientCheckpointing ? "nothing" : "heavy";
  const { rows } = data.batch;
  const rng = new Rng(config.seed, MINIBATCH_STREAM, step);
  const parts: Pick<UpdateRecord, PerToken | "index">[] = [];
  let normSum = 0;
  let updateNormSum = 0;
  let skippedUpdates = skippedBefore;
  let optimizerSteps = 0;
  let firstRatioDeviation = 0;
  let skipped = 0;
  let epochs = 0;
  for (let policyKl = 0; epochs < config.ppoEpochs && !isFar(policyKl, config); epochs++) {
    const epoch = epochs;
    const order = rng.permutation(rows);
    for (let start = 0; start < rows; start += config.miniBatchSize) {
      const miniBatch = order.subarray(start, start + config.miniBatchSize);
      const { advantages, returns } = targets.ofRows?.(miniBatch) ?? targets;
      let ratio = 0;
      policyKl = 0;
      const tokens = miniBatch.reduce((n, b) => n + data.responses[b].length, 0);
      const first = parts.length === 0;
      const microBatchSize = config.microBatchSize || miniBatch.length;
      const partsBefore = parts.length;
      let bad: string | undefined;
      for (let micro = 0; micro < miniBatch.length; micro += microBatchSize) {
        const { asked, index } = ask(data, miniBatch.subarray(micro, micro + microBatchSize), model.config.nPositions);
        const inputs = {
          weight: new Float32Array(index.length).fill(1 / tokens),
          oldLogprobs: pick(data.logprobs, index),
          advantages: pick(advantages, index),
          oldValues: pick(data.values, index),
          returns: pick(returns, index),
        };
        const result = await model.lossAndGradients(asked, loss, inputs, grads, micro > 0, keep);
        bad = badScores(result, model.parameters);
        if (bad) break;
        result.logprobs.forEach((logprob, i) => {
          const d = logprob - inputs.oldLogprobs[i];
          ratio += Math.exp(d) / tokens;
          policyKl -= d / tokens;
          if (first) firstRatioDeviation = Math.max(firstRatioDeviation, Math.abs(Math.exp(d) - 1));
        });
        const { logprobs, values, entropies } = result;
        parts.push({ logprobs, values, entropies, advantages: inputs.advantages, returns: inputs.returns, index });
      }
      const norm = bad ? 0 : globalNorm(grads.data);
      const scale = clipFactor(norm, config.maxGradNorm);
      bad ??= badGradient(grads, norm, scale);
      if (bad) {
        parts.length = partsBefore; // the statistics are of what was learned from
        const nothingLearned = first && epoch === config.ppoEpochs - 1 && start + config.miniBatchSize >= rows;
        if (nothingLearned || skippedUpdates >= config.maxSkippedSteps)
          failMinibatch(step, epoch, start, bad, skippedUpdates);
        skippedUpdates++;
        yield { type: "warning", step, message: `an optimizer step was skipped: a number in ${bad} is not finite` };
        continue;
      }
      if (first) {
        const message = auditRatio(firstRatioDeviation, config, step);
        if (message) yield { type: "warning", step, message };
      }
      if (config.ratioThreshold > 0 && ratio > config.ratioThreshold) skipped++;
      else {
        const updateNorm = optimizer.update(trainedPart(model.parameters, grads), grads.data, scale);
        const spoiled = badWeights(model.parameters, updateNorm);
        if (spoiled) failMinibatch(step, epoch, start, spoiled, skippedUpdates);
        updateNormSum += updateNorm;
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

type PerToken = "logprobs" | "values" | "entropies" | "advantages" | "returns";

export const isFar = (policyKl: number, { targetKl }: Pick<PpoConfig, "targetKl">) =>
  targetKl > 0 && policyKl > EARLY_STOP_FACTOR * targetKl;
