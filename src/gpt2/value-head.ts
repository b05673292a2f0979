/** @file The value head: a scalar for every position, "what is still to come" (the notebook's ValueHead). */
import { linear, stopGradient, tanh } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";
import type { GPT2Config } from "./config.ts";

/**
 * summary -> activation, driven by the config as in the notebook: `summaryUseProj` false leaves the hidden state as it is,
 * `summaryProjToLabels` false projects to nEmbd instead of one number, `summaryActivation` "tanh" is the only activation.
 * Dropout (`summaryFirstDropout`, `summaryLastDropout`) is not applied: with it, the same token has another value each time
 * it is asked for.
 */
export class ValueHead {
  /** When true, the value loss moves the head alone: no gradient reaches the body. */
  detachHead = false;
  readonly #config: GPT2Config;

  constructor(config: GPT2Config) {
    this.#config = config;
  }

  /** Numbers per position: 1, or nEmbd. */
  get width(): number {
    return valueHeadWidth(this.#config);
  }

  /** Part of a program's key. */
  get key(): string {
    return `${this.width}.${this.#config.summaryUseProj}.${this.#config.summaryActivation}${this.detachHead ? ".detached" : ""}`;
  }

  /** normed [R, C], the hidden state after the final layer norm -> [R, width] */
  build(normed: Tensor, parameters: Readonly<Record<string, Tensor>>): Tensor {
    const hidden = this.detachHead ? stopGradient(normed) : normed;
    const summary = this.#config.summaryUseProj
      ? linear(hidden, parameters["v_head.summary.weight"], parameters["v_head.summary.bias"], { transW: true })
      : hidden;
    return this.#config.summaryActivation === "tanh" ? tanh(summary) : summary;
  }
}

export function valueHeadWidth({ summaryUseProj, summaryProjToLabels, numLabels, nEmbd }: GPT2Config): number {
  return summaryUseProj && summaryProjToLabels && numLabels > 0 ? numLabels : nEmbd;
}
