/** @file K epochs of minibatches: the only place where PPO changes weights. */
import { fail } from "../base/errors.ts";
import { Rng } from "../base/rng.ts";
import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import { type ParameterBuffer, trainedPart } from "../gpt2/parameters.ts";
import { type AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import { ppoLoss } from "../rl/losses.ts";
import type { Targets } from "../rl/targets.ts";
import { auditRatio } from "./audit.ts";
import { ask, type Experience, pick } from "./batch.ts";
import type { PpoConfig } from "./config.ts";
import type { Critic } from "./critic.ts";
import type { TrainEvent } from "./events.ts";

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
 * Updates the model in place; yields progress, returns what happened. With a `critic` the value loss trains that instead.
 *
 * `targetKl` is compared after each epoch with k1 of its last minibatch, the mean over tokens of log π_old − log π;
 * `ratioThreshold` with the mean over tokens of π / π_old, before the optimizer's step.
 * Source: huggingface/trl@v0.11.4:trl/trainer/ppo_trainer.py `step`, `_early_stop`, `loss`.
 */
export async function* updatePolicy(
  model: GPT2HeadWithValueModel,
  optimizer: AdamW,
  grads: ParameterBuffer,
  data: Experience,
  targets: Targets,
  config: PpoConfig,
  step: number,
  critic?: Critic,
): AsyncGenerator<TrainEvent, UpdateRecord> {
  const loss = ppoLoss(critic ? { ...config, vfCoef: 0 } : config);
  const keep = config.gradientCheckpointing ? "nothing" : "heavy";
  const { rows } = data.batch;
  const rng = new Rng(config.seed, MINIBATCH_STREAM, step);
  const parts: Pick<UpdateRecord, PerToken | "index">[] = [];
  let normSum = 0;
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
        if (!Number.isFinite(result.loss)) notFinite(step, epoch, "the loss", result.loss);
        result.logprobs.forEach((logprob, i) => {
          const d = logprob - inputs.oldLogprobs[i];
          ratio += Math.exp(d) / tokens;
          policyKl -= d / tokens;
          if (first) firstRatioDeviation = Math.max(firstRatioDeviation, Math.abs(Math.exp(d) - 1));
        });
        const { logprobs, entropies } = result;
        const { values } = (await critic?.learn(asked, inputs, micro > 0, keep)) ?? result;
        parts.push({ logprobs, values, entropies, advantages: inputs.advantages, returns: inputs.returns, index });
      }
      if (first) {
        const message = auditRatio(firstRatioDeviation, config, step);
        if (message) yield { type: "warning", step, message };
      }
      const norm = globalNorm(grads.data);
      if (!Number.isFinite(norm)) notFinite(step, epoch, `the gradient of ${firstBadParameter(grads)}`, norm);
      if (config.ratioThreshold > 0 && ratio > config.ratioThreshold) skipped++;
      else {
        optimizer.update(trainedPart(model.parameters, grads), grads.data, clipFactor(norm, config.maxGradNorm));
        critic?.update(optimizer.options.learningRate);
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
    epochs,
    skipped,
    firstRatioDeviation,
  };
}

type PerToken = "logprobs" | "values" | "entropies" | "advantages" | "returns";

export const isFar = (policyKl: number, { targetKl }: Pick<PpoConfig, "targetKl">) =>
  targetKl > 0 && policyKl > EARLY_STOP_FACTOR * targetKl;

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
