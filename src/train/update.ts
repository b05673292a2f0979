/** @file K epochs of minibatches: the only place where PPO changes weights. */
import { Rng } from "../base/rng.ts";
import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import type { ParameterBuffer } from "../gpt2/parameters.ts";
import { type AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import { ppoLoss } from "../rl/losses.ts";
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
  /** Index of each token in the batch's [B, W] arrays. */
  index: Int32Array;
  /** Mean over optimizer steps of the gradient norm before clipping. */
  gradNorm: number;
  /** Mean over optimizer steps of the norm of the weights' change. */
  updateNorm: number;
  /** Optimizer steps of the run, up to now, that were left out because a number was not finite. */
  skippedUpdates: number;
  /** Largest |ratio - 1| in the first minibatch, before any weight moved: 0 but for rounding, whatever the sampler. */
  firstRatioDeviation: number;
}

/** Random streams of a run, apart from those of single responses. */
const MINIBATCH_STREAM = 0x6d62;

/**
 * Updates the model in place; yields progress, returns what happened.
 * @param skippedBefore optimizer steps of the run that were left out before
 * @throws numbers - a loss or gradient that is not finite, beyond config.maxSkippedSteps or in every minibatch
 */
export async function* updatePolicy(
  model: GPT2HeadWithValueModel,
  optimizer: AdamW,
  grads: ParameterBuffer,
  data: Experience,
  targets: { advantages: Float32Array; returns: Float32Array },
  config: PpoConfig,
  step: number,
  skippedBefore = 0,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  const loss = ppoLoss(config);
  const keep = config.gradientCheckpointing ? "nothing" : "heavy";
  const { rows } = data.batch;
  const rng = new Rng(config.seed, MINIBATCH_STREAM, step);
  const parts: Pick<UpdateRecord, "logprobs" | "values" | "entropies" | "index">[] = [];
  let normSum = 0;
  let updateNormSum = 0;
  let skippedUpdates = skippedBefore;
  let optimizerSteps = 0;
  let firstRatioDeviation = 0;
  for (let epoch = 0; epoch < config.ppoEpochs; epoch++) {
    const order = rng.permutation(rows);
    for (let start = 0; start < rows; start += config.miniBatchSize) {
      const miniBatch = order.subarray(start, start + config.miniBatchSize);
      const tokens = miniBatch.reduce((n, b) => n + data.responses[b].length, 0);
      const microBatchSize = config.microBatchSize || miniBatch.length;
      const partsBefore = parts.length;
      let bad: string | undefined;
      for (let micro = 0; micro < miniBatch.length && !bad; micro += microBatchSize) {
        const { asked, index } = ask(data, miniBatch.subarray(micro, micro + microBatchSize), model.config.nPositions);
        const inputs = {
          weight: new Float32Array(index.length).fill(1 / tokens),
          oldLogprobs: pick(data.logprobs, index),
          advantages: pick(targets.advantages, index),
          oldValues: pick(data.values, index),
          returns: pick(targets.returns, index),
        };
        const result = await model.lossAndGradients(asked, loss, inputs, grads, micro > 0, keep);
        bad = badScores(result, model.parameters);
        if (optimizerSteps === 0 && !bad)
          result.logprobs.forEach((logprob, i) => {
            firstRatioDeviation = Math.max(
              firstRatioDeviation,
              Math.abs(Math.exp(logprob - inputs.oldLogprobs[i]) - 1),
            );
          });
        parts.push({ logprobs: result.logprobs, values: result.values, entropies: result.entropies, index });
      }
      const norm = bad ? 0 : globalNorm(grads.data);
      const scale = clipFactor(norm, config.maxGradNorm);
      bad ??= badGradient(grads, norm, scale);
      if (bad) {
        const last = optimizerSteps === 0 && epoch === config.ppoEpochs - 1 && start + config.miniBatchSize >= rows;
        if (last || skippedUpdates >= config.maxSkippedSteps) failMinibatch(step, epoch, start, bad, skippedUpdates);
        skippedUpdates++;
        parts.length = partsBefore; // the statistics are of what was learned from
        yield { type: "warning", step, message: `an optimizer step was skipped: a number in ${bad} is not finite` };
        continue;
      }
      if (optimizerSteps === 0) {
        const message = auditRatio(firstRatioDeviation, config, step);
        if (message) yield { type: "warning", step, message };
      }
      const updateNorm = optimizer.update(model.parameters.data, grads.data, scale);
      const spoiled = badWeights(model.parameters, updateNorm);
      if (spoiled) failMinibatch(step, epoch, start, spoiled, skippedUpdates);
      updateNormSum += updateNorm;
      normSum += norm;
      optimizerSteps++;
      const done = epoch * rows + Math.min(rows, start + config.miniBatchSize);
      yield { type: "progress", step, phase: "update", done, total: config.ppoEpochs * rows };
    }
  }
  const join = (name: "logprobs" | "values" | "entropies") =>
    Float32Array.from(parts.flatMap((p) => Array.from(p[name])));
  return {
    logprobs: join("logprobs"),
    values: join("values"),
    entropies: join("entropies"),
    index: Int32Array.from(parts.flatMap((p) => Array.from(p.index))),
    gradNorm: normSum / optimizerSteps,
    updateNorm: updateNormSum / optimizerSteps,
    skippedUpdates,
    firstRatioDeviation,
  };
}
