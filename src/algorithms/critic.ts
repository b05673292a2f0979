/** @file A value model of its own: the same architecture as the policy, trained by the value loss alone. */

import type { Keep } from "../graph/partition.ts";
import type { AskedTokens } from "../model/asked.ts";
import type { GPT2HeadWithValueModel } from "../model/model.ts";
import { ParameterBuffer, trainedPart, trainedTable } from "../model/parameters.ts";
import { AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import { askInParts, type Experience, put } from "./batch.ts";
import type { PPOConfig } from "./config.ts";
import { badGradient, badScores, badWeights } from "./finite.ts";
import { criticLoss } from "./losses.ts";
import { adamOptions } from "./model-options.ts";

/** Values do not ask what could be drawn. */
const NONE = { temperature: 1 };

/**
 * The policy's body then learns from the policy loss alone. As in huggingface/trl:trl/experimental/ppo/ppo_trainer.py, which
 * starts it from the reward model; here it is a copy of the policy as it was at the start.
 */
export class Critic {
  readonly model: GPT2HeadWithValueModel;
  readonly optimizer: AdamW;
  readonly #config: PPOConfig;
  readonly #grads: ParameterBuffer;
  /** What clipping multiplies the gradient with. */
  #scale = 1;

  /** @param model weights of its own; those of frozen layers may be the policy's */
  constructor(model: GPT2HeadWithValueModel, config: PPOConfig) {
    const trained = trainedTable(model.parameters.table, config.frozenLayers);
    this.model = model;
    this.#config = config;
    this.#grads = new ParameterBuffer(trained);
    this.optimizer = new AdamW(trained, adamOptions(config));
  }

  /** The values of a batch, [B, W], in parts of `partSize` rows. @internal */
  async values(data: Experience, partSize: number): Promise<Float32Array> {
    const { rows, width } = data.batch;
    const values = new Float32Array(rows * width);
    for (const { asked, index } of askInParts(data, partSize, this.model.config.nPositions))
      put((await this.model.score({ ...asked, distribution: NONE }, ["values"])).values, values, index);
    return values;
  }

  /**
   * Gradients of the value loss on a part of a minibatch.
   * @param inputs oldValues, returns and weight, each [R]
   * @returns the values of the weights as they are, [R], the loss, and what is not finite, in words
   * @internal
   */
  async learn(
    asked: AskedTokens,
    inputs: Readonly<Record<string, Float32Array>>,
    accumulate: boolean,
    keep: Keep,
  ): Promise<{ values: Float32Array; loss: number; bad: string | undefined }> {
    const loss = criticLoss(this.#config);
    const question = { ...asked, distribution: NONE };
    const result = await this.model.lossAndGradients(question, loss, inputs, this.#grads, accumulate, keep);
    return { values: result.values, loss: result.loss, bad: ofThis(badScores(result, this.model.parameters)) };
  }

  /** Take the gradient's norm. @returns what is wrong with the gradient, in words; undefined when all is well */
  badGradient(): string | undefined {
    const norm = globalNorm(this.#grads.data);
    this.#scale = clipFactor(norm, this.#config.maxGradNorm);
    return ofThis(badGradient(this.#grads, norm, this.#scale));
  }

  /** An optimizer step, clipped by the norm that {@link badGradient} took. @returns what it spoiled, in words; undefined when all is well */
  update(learningRate: number): string | undefined {
    this.optimizer.options.learningRate = learningRate;
    const weights = trainedPart(this.model.parameters, this.#grads);
    const change = this.optimizer.update(weights, this.#grads.data, this.#scale);
    return ofThis(badWeights(this.model.parameters, change));
  }
}

const ofThis = (bad: string | undefined) => (bad === undefined ? undefined : `the value model: ${bad}`);
