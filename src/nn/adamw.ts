/** @file AdamW over flat buffers, and gradient clipping. */
import type { Kept } from "../backend/kept.ts";
import { fail } from "../base/errors.ts";
import { type AdamScalars, adamRange, sumOfSquares, zeros } from "./adamw-kernel.ts";

/** Options of {@link AdamW}. */
export interface AdamWOptions {
  /** Step size. Default 1e-3. */
  learningRate: number;
  /** Decay of the first moment, per step. Default 0.9. */
  beta1: number;
  /** Decay of the second moment, per step. Default 0.999. */
  beta2: number;
  /** Added to the root of the second moment. Default 1e-8. */
  epsilon: number;
  /** Where epsilon stands: beside the corrected root of the second moment (PyTorch) or the raw one (TensorFlow). */
  biasCorrection: "pytorch" | "tensorflow";
  /** Decoupled: p <- p - learningRate * weightDecay * p, for ranges that ask for it. */
  weightDecay: number;
}

export const ADAMW_DEFAULTS: AdamWOptions = {
  learningRate: 1e-3,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  biasCorrection: "pytorch",
  weightDecay: 0,
};

/** A parameter that is trained: where its gradient and moments lie in their buffers, and whether it decays. */
export interface TrainedRow {
  /** Name of the parameter. */
  readonly name: string;
  /** Its first element in the buffers of gradients and moments. */
  readonly start: number;
  /** The element after its last one. */
  readonly end: number;
  /** Whether weight decay applies. */
  readonly decay: boolean;
}

/** Numbers by name of the parameter. */
export interface NamedViews {
  /** The numbers of that parameter, row-major; changing them changes the parameter. */
  view(name: string): Float32Array;
}

/** Numbers of parameters, their gradients or moments, row by row. */
export interface Rowed extends NamedViews {
  readonly table: readonly (TrainedRow & { readonly shape: readonly number[] })[];
  readonly data: Float32Array;
  /** What a program is given for a row. */
  slot(name: string): Float32Array;
}

/** Both moments, laid out as the rows. */
interface Moments {
  readonly m: Float32Array;
  readonly v: Float32Array;
}

/** What a step is computed from, beside gradients and parameters. */
export interface AdamStep extends Moments {
  /** The formula's numbers for a row. */
  scalarsOf(row: Pick<TrainedRow, "decay">): AdamScalars;
}

/**
 * AdamW (Loshchilov and Hutter 2019, algorithm 2), with PyTorch's bias correction:
 *
 *     m <- b1 m + (1 - b1) g         v <- b2 v + (1 - b2) g^2
 *     p <- p - lr wd p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
 *
 * or TensorFlow's, whose eps is larger by 1 / sqrt(1 - b2^t), 32 times at the first step with b2 0.999, and holds early
 * updates back (Kingma and Ba 2015, end of section 2; tf.train.AdamOptimizer):
 *
 *     p <- p - lr wd p - lr (sqrt(1 - b2^t) / (1 - b1^t)) m / (sqrt(v) + eps)
 *
 * Moments take memory from the first step on: a model that is only used costs nothing. On a device that keeps them (on-device.ts)
 * what is here are the host's copies, and {@link AdamW.refresh} brings them up to date.
 */
export class AdamW {
  /** As given, defaults filled in. They may be changed between steps. */
  readonly options: AdamWOptions;
  readonly #rows: readonly TrainedRow[];
  #moments?: Moments;
  /** The gradients' memory: a step copies neither where the moments lie in it, too. @internal */
  near?: ArrayBufferLike;
  /** The moments row by row, where a device keeps them. */
  #rowsKept?: { kept: Kept; m: Float32Array[]; v: Float32Array[] };
  /** Steps taken. */
  step = 0;

  /** @param rows what is trained, laid out one after another from 0 */
  constructor(rows: readonly TrainedRow[], options: Partial<AdamWOptions> = {}) {
    this.#rows = rows;
    this.options = { ...ADAMW_DEFAULTS, ...options };
  }

  /**
   * One step, in place.
   * @param parameters have those that are trained
   * @param grads     gradients of these, laid out as the rows say
   * @param gradScale gradients are multiplied by this first (1, or what clipping asks for)
   * @returns the Euclidean norm of the change of the parameters
   */
  update(parameters: NamedViews, grads: Float32Array, gradScale = 1): number {
    const { m, v, scalarsOf } = this.begin(gradScale);
    let squares = 0;
    for (const row of this.#rows) {
      const [g, mOf, vOf] = [grads, m, v].map((all) => all.subarray(row.start, row.end));
      squares += adamRange(parameters.view(row.name), g, mOf, vOf, scalarsOf(row));
    }
    return Math.sqrt(squares);
  }

  /** Moments that are 0, to begin with or to be read into. @internal */
  moments(): Moments {
    const m = zeros(this.size, 1, this.near) ?? new Float32Array(this.size);
    return { m, v: zeros(this.size, 0, m.buffer) ?? new Float32Array(this.size) };
  }

  /** Begin a step that somebody else computes. @internal */
  begin(gradScale: number): AdamStep {
    this.#moments ??= this.moments();
    this.step++;
    const { learningRate, beta1, beta2, epsilon, biasCorrection, weightDecay } = this.options;
    // PyTorch: (m / c1) / (sqrt(v / c2) + eps) = (m / (sqrt(v) + eps sqrt(c2))) * sqrt(c2) / c1
    const rootC2 = Math.sqrt(1 - beta2 ** this.step);
    const rate = (learningRate * rootC2) / (1 - beta1 ** this.step);
    const eps = biasCorrection === "pytorch" ? epsilon * rootC2 : epsilon;
    const scalars = { gradScale, beta1, oneMinusBeta1: 1 - beta1, beta2, oneMinusBeta2: 1 - beta2, eps, rate };
    const scalarsOf = ({ decay }: Pick<TrainedRow, "decay">) => ({
      ...scalars,
      decay: decay ? learningRate * weightDecay : 0,
    });
    return { ...this.#moments, scalarsOf };
  }

  /** The moments of a step that has begun, row by row as programs are given them. @internal */
  rowsIn(kept: Kept, { m, v }: AdamStep): { m: Float32Array[]; v: Float32Array[] } {
    if (this.#rowsKept) return this.#rowsKept;
    const rowsOf = (all: Float32Array) => this.#rows.map(({ start, end }) => all.subarray(start, end));
    this.#rowsKept = { kept, m: rowsOf(m), v: rowsOf(v) };
    kept.keep([...this.#rowsKept.m, ...this.#rowsKept.v]);
    return this.#rowsKept;
  }

  /** Bring the moments up to date: programs change them on a device. On a GPU `await` this, then read {@link AdamW.state}. */
  async refresh(): Promise<void> {
    const { kept, m, v } = this.#rowsKept ?? {};
    await kept?.refresh([...(m ?? []), ...(v ?? [])]);
  }

  /** Parameters that are trained, and hence the length of each moment. */
  get size(): number {
    return this.#rows.at(-1)?.end ?? 0;
  }

  /**
   * Moments for a checkpoint; undefined before the first step.
   * @throws usage - a device has newer ones
   */
  get state(): { step: number; m?: Float32Array; v?: Float32Array } {
    const { kept, m, v } = this.#rowsKept ?? {};
    if ([...(m ?? []), ...(v ?? [])].some((row) => kept?.isStale(row)))
      fail("usage", {
        where: "the optimizer's state",
        found: "moments that were changed on the GPU since the host read them",
        expected: "the host's copy to be up to date before it is used",
        fix: "await optimizer.refresh() first",
      });
    return { step: this.step, m: undefined, v: undefined, ...this.#moments };
  }

  /** Continue from a checkpoint. The buffers are taken over, not copied. */
  setState(state: { step: number; m?: Float32Array; v?: Float32Array }): void {
    const { step, m, v } = state;
    this.step = step;
    this.#moments = m && v && { m, v };
    this.#rowsKept = undefined;
  }
}

/** sqrt(sum g^2), summed in double precision. */
export const globalNorm = (grads: Float32Array): number => Math.sqrt(sumOfSquares(grads));

/** The factor that brings a gradient of that norm down to maxNorm; 1 when it is below already or maxNorm is 0. */
export function clipFactor(norm: number, maxNorm: number): number {
  return maxNorm > 0 && norm > maxNorm ? maxNorm / norm : 1;
}
