/** @file K epochs of minibatches: the only place where PPO changes weights. */
import { fail } from "../base/errors.ts";
import { Rng } from "../base/rng.ts";
import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import type { ParameterBuffer } from "../gpt2/parameters.ts";
import { type AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import { ppoLoss } from "../rl/losses.ts";
import { auditRatio } from "./audit.ts";
import { ask, type Experience, pick } from "./batch.ts";
import type { PpoConfig } from "./config.ts";
import type { TrainEvent } from "./events.ts";

/** Per token of every minibatch of every epoch, in the order they were used: what the loss was computed from. */
export interface UpdateRecord {
  logprobs: Float32Array;
  values: Float32Array;
  entropies: Float32Array;
  /** Index of each token in the batch's [B, W] arrays. */
  index: Int32Array;
  /** Mean over optimizer steps of the gradient norm before clipping. */
  gradNorm: number;
  /** Largest |ratio - 1| in the first minibatch, before any weight moved: 0 but for rounding, whatever the sampler. */
  firstRatioDeviation: number;
}

/** Random streams of a run, apart from those of single responses. */
const MINIBATCH_STREAM = 0x6d62;

/** Updates the model in place; yields progress, returns what happened. */
export async function* updatePolicy(
  model: GPT2HeadWithValueModel,
  optimizer: AdamW,
  grads: ParameterBuffer,
  data: Experience,
  targets: { advantages: Float32Array; returns: Float32Array },
  config: PpoConfig,
  step: number,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  const loss = ppoLoss(config);
  const keep = config.gradientCheckpointing ? "nothing" : "heavy";
  const { rows } = data.batch;
  const rng = new Rng(config.seed, MINIBATCH_STREAM, step);
  const parts: Omit<UpdateRecord, "gradNorm" | "firstRatioDeviation">[] = [];
  let normSum = 0;
  let optimizerSteps = 0;
  let firstRatioDeviation = 0;
  for (let epoch = 0; epoch < config.ppoEpochs; epoch++) {
    const order = rng.permutation(rows);
    for (let start = 0; start < rows; start += config.miniBatchSize) {
      const miniBatch = order.subarray(start, start + config.miniBatchSize);
      const tokens = miniBatch.reduce((n, b) => n + data.responses[b].length, 0);
      const microBatchSize = config.microBatchSize || miniBatch.length;
      for (let micro = 0; micro < miniBatch.length; micro += microBatchSize) {
        const { asked, index } = ask(data, miniBatch.subarray(micro, micro + microBatchSize), model.config.nPositions);
        const inputs = {
          weight: new Float32Array(index.length).fill(1 / tokens),
          oldLogprobs: pick(data.logprobs, index),
          advantages: pick(targets.advantages, index),
          oldValues: pick(data.values, index),
          returns: pick(targets.returns, index),
        };
        const result = await model.lossAndGradients(asked, loss, inputs, grads, micro > 0, keep);
        if (!Number.isFinite(result.loss)) notFinite(step, epoch, "the loss", result.loss);
        if (optimizerSteps === 0)
          result.logprobs.forEach((logprob, i) => {
            firstRatioDeviation = Math.max(
              firstRatioDeviation,
              Math.abs(Math.exp(logprob - inputs.oldLogprobs[i]) - 1),
            );
          });
        parts.push({ logprobs: result.logprobs, values: result.values, entropies: result.entropies, index });
      }
      if (optimizerSteps === 0) {
        const message = auditRatio(firstRatioDeviation, config, step);
        if (message) yield { type: "warning", step, message };
      }
      const norm = globalNorm(grads.data);
      if (!Number.isFinite(norm)) notFinite(step, epoch, `the gradient of ${firstBadParameter(grads)}`, norm);
      optimizer.update(model.parameters.data, grads.data, clipFactor(norm, config.maxGradNorm));
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
    firstRatioDeviation,
  };
}

function firstBadParameter(grads: ParameterBuffer): string {
  return (
    grads.table.find((p) => !grads.view(p.name).every(Number.isFinite))?.name ?? "the parameters (the sum overflowed)"
  );
}

function notFinite(step: number, epoch: number, what: string, value: number): never {
  return fail("numbers", {
    where: `PPO step ${step}, epoch ${epoch + 1}`,
    found: `${value} in ${what}`,
    expected: "finite numbers",
    fix: "resume from the last checkpoint with a lower learningRate or a smaller maxGradNorm",
  });
}
