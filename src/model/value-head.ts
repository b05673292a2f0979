/** @file The value head: a scalar for every position, "what is still to come" (the notebook's ValueHead). */
import { fail } from "../base/errors.ts";
import type { RNG } from "../base/rng.ts";
import { stream } from "../base/streams.ts";
import { linear, mul, reduceSum, reshape, scale, stopGradient, tanh } from "../graph/ops/index.ts";
import { dims, input, type Tensor } from "../graph/tensor.ts";
import type { ValueHeadConfig } from "./family.ts";

/** What the value head's part of a graph depends on, beside the config; plain data. */
export interface ValueHeadForm {
  /** Multiply with what {@link ValueHead.drawMasks} gives, inputs of the program. */
  readonly dropout: boolean;
  /** No gradient reaches the body. */
  readonly detached: boolean;
}

/**
 * dropout -> summary -> activation -> dropout, driven by the config as in the notebook: `summaryUseProj` false leaves the
 * hidden state as it is, `summaryProjToLabels` false projects to its width instead of one number,
 * `summaryActivation` "tanh" is the only activation, any other name means none.
 *
 * Where there is none (`valueHead` false) values are 0.
 *
 * Dropout is on in train mode only, in forward() and in the loss; log-probs, values and sampling never have it. With
 * `summaryFirstDropout` p each number of the hidden state is 0 with probability p and 1 / (1 - p) times itself otherwise,
 * with `summaryLastDropout` each output. Every call draws new masks from `dropoutRng`: row after row, the numbers of the
 * hidden state for the first dropout and then the outputs for the last.
 */
export class ValueHead {
  /** When true, the value loss moves the head alone: no gradient reaches the body. */
  detachHead = false;
  /** Train mode. False for a new model. */
  training = false;
  /** Where masks come from. `getState()` and `setState()` continue or repeat a run. */
  readonly dropoutRng: RNG;
  readonly #config: ValueHeadConfig;
  readonly #streamWidth: number;

  /** @param streamWidth C, the width of the hidden state */
  constructor(config: ValueHeadConfig, streamWidth: number, seed = 0) {
    this.#config = config;
    this.#streamWidth = streamWidth;
    this.dropoutRng = stream(seed, "dropout");
  }

  /** Numbers per position: 1, or the width of the hidden state. */
  get width(): number {
    return valueHeadWidth(this.#config, this.#streamWidth);
  }

  /**
   * For whatever takes a value to be one number: sampling, scoring, losses.
   * @throws config - it is more
   * @internal
   */
  requireScalar(): void {
    if (this.width !== 1)
      fail("config", {
        where: "value head",
        found: `${this.width} numbers per position`,
        expected: "one: a value is a scalar",
        fix: "set summary_use_proj and summary_proj_to_labels to true in config.json",
      });
  }

  /** The form it has now, with dropout or without. @internal */
  form(dropout: boolean): ValueHeadForm {
    return { dropout: dropout && this.#config.valueHead !== false, detached: this.detachHead };
  }

  /** normed [R, C], the hidden state after the final layer norm -> [R, width]. @internal */
  build(normed: Tensor, parameters: Readonly<Record<string, Tensor>>, { dropout, detached }: ValueHeadForm): Tensor {
    const { summaryUseProj, summaryActivation, summaryFirstDropout, summaryLastDropout } = this.#config;
    const [{ size: R }, { size: C }] = normed.shape;
    if (this.#config.valueHead === false) {
      const zero = scale(reduceSum(mul(normed, normed), [1]), 0); // squares: 0, and not -0
      return reshape(zero, dims({ R, L: 1 })); // [R] -> [R, 1]
    }
    const drop = (x: Tensor, p: number, name: string, sizes: Record<string, number>) =>
      dropout && p > 0 ? mul(x, input(name, sizes)) : x;
    const hidden = detached ? stopGradient(normed) : normed;
    const dropped = drop(hidden, summaryFirstDropout, "dropout.first", { R, C });
    const summary = summaryUseProj
      ? linear(dropped, parameters["v_head.summary.weight"], parameters["v_head.summary.bias"], { transW: true })
      : dropped;
    const active = summaryActivation === "tanh" ? tanh(summary) : summary;
    return drop(active, summaryLastDropout, "dropout.last", summaryUseProj ? { R, L: this.width } : { R, C });
  }

  /** New masks for `rows` rows, by the names of the program's inputs; rows beyond them, up to R, get zeros. @internal */
  drawMasks(rows: number, R: number): Record<string, Float32Array> {
    const { summaryFirstDropout, summaryLastDropout } = this.#config;
    const masks = [
      { name: "dropout.first", p: summaryFirstDropout, width: this.#streamWidth },
      { name: "dropout.last", p: summaryLastDropout, width: this.width },
    ]
      .filter(({ p }) => p > 0)
      .map((mask) => ({ ...mask, data: new Float32Array(R * mask.width) }));
    for (let r = 0; r < rows; r++)
      for (const { p, width, data } of masks)
        for (let i = 0; i < width; i++) data[r * width + i] = this.dropoutRng.uniform() < p ? 0 : 1 / (1 - p);
    return Object.fromEntries(masks.map(({ name, data }) => [name, data]));
  }
}

/** Numbers per position that a value head of this config makes of hidden states of width C. */
export const valueHeadWidth = (config: ValueHeadConfig, width: number): number =>
  config.valueHead === false || (config.summaryUseProj && config.summaryProjToLabels) ? 1 : width;
