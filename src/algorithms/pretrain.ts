/** @file Language-model training: the loop that made the embedded model. */

import { fail } from "../base/errors.ts";
import type { TokenIds } from "../data/corpus.ts";
import { type CorpusSampler, consecutiveWindows } from "../data/sampler.ts";
import type { AskedTokens } from "../model/asked.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { ParameterBuffer } from "../model/parameters.ts";
import { AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import { type ScheduleName, scheduleFactor } from "../nn/schedules.ts";
import { languageModelLoss } from "./losses.ts";

export interface PretrainConfig {
  /** Tokens per sequence, at most nPositions. */
  sequenceLength: number;
  /** Sequences per step. */
  batchSize: number;
  steps: number;
  learningRate: number;
  schedule: ScheduleName;
  /** Steps of linear warm-up. */
  warmupSteps: number;
  /** The schedule ends at this fraction of the learning rate. */
  finalFactor: number;
  weightDecay: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Gradients are scaled down to this global norm; 0: never. */
  maxGradNorm: number;
  /** Steps between measurements of the held-out loss; 0: only at the end. */
  evalEvery: number;
  seed: number;
}

export const PRETRAIN_DEFAULTS: PretrainConfig = {
  sequenceLength: 256,
  batchSize: 8,
  steps: 1000,
  learningRate: 1e-3,
  schedule: "cosine",
  warmupSteps: 100,
  finalFactor: 0.05,
  weightDecay: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  maxGradNorm: 1,
  evalEvery: 500,
  seed: 0,
};

export type PretrainEvent =
  | {
      type: "step";
      /** Steps taken, from 1. */
      step: number;
      epoch: number;
      /** Mean over the batch, nats per token. */
      loss: number;
      gradNorm: number;
      learningRate: number;
      tokensPerSecond: number;
    }
  | { type: "eval"; step: number; heldOut: HeldOutLoss };

export interface HeldOutLoss {
  /** Nats per token. */
  loss: number;
  bitsPerByte: number;
  tokens: number;
}

/** A batch [B, T + 1] as what is asked of the model: every position predicts the next token. */
function nextTokens(batch: Int32Array, B: number, T: number): AskedTokens {
  const ids = new Int32Array(B * T);
  const next = new Int32Array(B * T);
  for (let b = 0; b < B; b++) {
    ids.set(batch.subarray(b * (T + 1), b * (T + 1) + T), b * T);
    next.set(batch.subarray(b * (T + 1) + 1, (b + 1) * (T + 1)), b * T);
  }
  const rows = Int32Array.from({ length: B * T }, (_, n) => n);
  return { tokens: { ids, B, T }, rows, ids: next, distribution: { temperature: 1 } };
}

/**
 * Mean loss over a held-out corpus, and bits per byte: nats per token times tokens per byte over ln 2. The windows do not
 * overlap, so a token sees what came before it in its window only.
 */
export async function heldOutLoss(
  model: CausalLMWithValueHead,
  ids: TokenIds,
  bytes: number,
  sequenceLength: number,
  batchSize = 16,
): Promise<HeldOutLoss> {
  let nats = 0;
  let tokens = 0;
  for (const { ids: batch, rows } of consecutiveWindows(ids, { sequenceLength, batchSize })) {
    const { logprobs } = await model.score(nextTokens(batch, rows, sequenceLength));
    for (const logprob of logprobs) nats -= logprob;
    tokens += logprobs.length;
  }
  return { loss: nats / tokens, bitsPerByte: ((nats / tokens) * (ids.length / bytes)) / Math.LN2, tokens };
}

/** Trains in place. Stops after the step in progress when `signal` aborts. */
export async function* pretrain(
  model: CausalLMWithValueHead,
  sampler: CorpusSampler,
  config: PretrainConfig,
  options: { heldOut?: { ids: TokenIds; bytes: number }; signal?: AbortSignal } = {},
): AsyncGenerator<PretrainEvent> {
  const { parameters } = model;
  const grads = new ParameterBuffer(parameters.table);
  const optimizer = new AdamW(parameters.table, config);
  const B = sampler.batchSize;
  const T = sampler.sequenceLength;
  const weight = new Float32Array(B * T).fill(1 / (B * T));
  for (let step = 0; step < config.steps; step++) {
    if (options.signal?.aborted) return;
    const start = performance.now();
    const asked = nextTokens(sampler.next(), B, T);
    const { loss } = await model.lossAndGradients(asked, languageModelLoss, { weight }, grads);
    const gradNorm = globalNorm(grads.data);
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm))
      fail("numbers", {
        where: `step ${step + 1}`,
        found: `loss ${loss}, gradient norm ${gradNorm}`,
        expected: "finite numbers",
        fix: "lower the learning rate or clip gradients harder (maxGradNorm)",
      });
    const factor = scheduleFactor(config.schedule, step, config.steps, config.warmupSteps, config.finalFactor);
    optimizer.options.learningRate = config.learningRate * factor;
    optimizer.update(parameters, grads.data, clipFactor(gradNorm, config.maxGradNorm));
    const tokensPerSecond = (1000 * B * T) / (performance.now() - start);
    const { epoch } = sampler;
    yield {
      type: "step",
      step: step + 1,
      epoch,
      loss,
      gradNorm,
      learningRate: optimizer.options.learningRate,
      tokensPerSecond,
    };
    const last = step + 1 === config.steps;
    if (options.heldOut && (last || (config.evalEvery > 0 && (step + 1) % config.evalEvery === 0))) {
      const heldOut = await heldOutLoss(model, options.heldOut.ids, options.heldOut.bytes, T);
      yield { type: "eval", step: step + 1, heldOut };
    }
    await new Promise((resolve) => setTimeout(resolve)); // let timers and messages through
  }
}
