/** @file A value model of its own: the same architecture as the policy, trained by the value loss alone. */
import { fail } from "../base/errors.ts";
import type { AskedTokens, GPT2HeadWithValueModel } from "../gpt2/model.ts";
import { ParameterBuffer, trainedPart, trainedTable } from "../gpt2/parameters.ts";
import type { Keep } from "../graph/partition.ts";
import { AdamW, clipFactor, globalNorm } from "../nn/adamw.ts";
import { criticLoss } from "../rl/losses.ts";
import { ask, type Experience, put } from "./batch.ts";
import type { PpoConfig } from "./config.ts";
import { adamOptions } from "./model-options.ts";

/**
 * The policy's body then learns from the policy loss alone. As in huggingface/trl:trl/experimental/ppo/ppo_trainer.py, which
 * starts it from the reward model; here it is a copy of the policy as it was at the start.
 */
export class Critic {
  readonly model: GPT2HeadWithValueModel;
  readonly optimizer: AdamW;
  readonly #config: PpoConfig;
  readonly #grads: ParameterBuffer;

  /** @param model weights of its own; those of frozen layers may be the policy's */
  constructor(model: GPT2HeadWithValueModel, config: PpoConfig) {
    const trained = trainedTable(model.parameters.table, config.frozenLayers);
    this.model = model;
    this.#config = config;
    this.#grads = new ParameterBuffer(trained);
    this.optimizer = new AdamW(trained, adamOptions(config));
  }

  /** The values of a batch, [B, W], in parts of `partSize` rows. */
  async values(data: Experience, partSize: number): Promise<Float32Array> {
    const { rows, width } = data.batch;
    const values = new Float32Array(rows * width);
    for (let start = 0; start < rows; start += partSize) {
      const part = Array.from({ length: Math.min(partSize, rows - start) }, (_, i) => start + i);
      const { asked, index } = ask(data, part, this.model.config.nPositions);
      put((await this.model.score(asked)).values, values, index);
    }
    return values;
  }

  /**
   * Gradients of the value loss on a part of a minibatch.
   * @param inputs oldValues, returns and weight, each [R]
   * @returns the values of the weights as they are, [R], and the loss
   */
  async learn(
    asked: AskedTokens,
    inputs: Readonly<Record<string, Float32Array>>,
    accumulate: boolean,
    keep: Keep,
  ): Promise<{ values: Float32Array; loss: number }> {
    return this.model.lossAndGradients(asked, criticLoss(this.#config), inputs, this.#grads, accumulate, keep);
  }

  /**
   * An optimizer step, clipped by its own gradient norm.
   * @throws numbers - a gradient that is not finite
   */
  update(learningRate: number): void {
    const norm = globalNorm(this.#grads.data);
    if (!Number.isFinite(norm))
      fail("numbers", {
        where: "value model",
        found: `a gradient norm of ${norm}`,
        expected: "finite numbers",
        fix: "resume from the last checkpoint with a lower learningRate or a smaller maxGradNorm",
      });
    this.optimizer.options.learningRate = learningRate;
    const weights = trainedPart(this.model.parameters, this.#grads);
    this.optimizer.update(weights, this.#grads.data, clipFactor(norm, this.#config.maxGradNorm));
  }
}
