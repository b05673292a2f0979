/** @file The arithmetic of learning as programs, where a device keeps gradients, moments and weights in memory of its own. */
import type { DeviceBuffer } from "../backend/backend.ts";
import type { Engine } from "../backend/engine.ts";
import type { Kept } from "../backend/kept.ts";
import type { Program } from "../graph/onnx.ts";
import { add, div, mul, reduceSum, sqrt, sub } from "../graph/ops/index.ts";
import { input, type Tensor } from "../graph/tensor.ts";
import type { AdamW, Rowed } from "./adamw.ts";
import { SCALARS } from "./adamw-kernel.ts";

/** Programs over a row as a matrix of any size: a sum over rows first, so that many places of a GPU add. */
const FREE = ["R", "K"];
const matrix = (name: string) => input(name, { R: 2, K: 3 });
const one = (name: string) => input(name, { one: 1 });
/** before [1] + sum x^2 */
const plusSquares = (before: Tensor, x: Tensor) => add(before, reduceSum(reduceSum(mul(x, x), [1]), [0], true));

const SQUARES: Program = {
  name: "sum of squares",
  free: FREE,
  outputs: { "to.squares": plusSquares(one("squares"), matrix("x")) },
};

const SUM: Program = { name: "sum", free: FREE, outputs: { to: add(matrix("x"), matrix("y")) } };

/** The formula of {@link AdamW}, as the kernel in WebAssembly computes it. */
const ADAM: Program = (() => {
  const [p, grad, before, squared] = ["p", "g", "m", "v"].map(matrix);
  const scalar = Object.fromEntries(SCALARS.map((name) => [name, one(name)]));
  const g = mul(grad, scalar.gradScale);
  const m = add(mul(before, scalar.beta1), mul(g, scalar.oneMinusBeta1));
  const v = add(mul(squared, scalar.beta2), mul(mul(g, g), scalar.oneMinusBeta2));
  const change = add(mul(p, scalar.decay), div(mul(m, scalar.rate), add(sqrt(v), scalar.eps)));
  const squares = plusSquares(one("squares"), change);
  return {
    name: "AdamW",
    free: FREE,
    outputs: { "to.p": sub(p, change), "to.m": m, "to.v": v, "to.squares": squares },
  };
})();

/** R and K of a row: all axes but the last together, and the last. */
function sizesOf({ shape, start, end }: Rowed["table"][number]): { R: number; K: number } {
  const K = shape.at(-1) ?? 1;
  return { R: (end - start) / K, K };
}

export class OnDevice {
  readonly #engine: Engine;
  readonly #kept: Kept;
  /** Single numbers, by name. */
  readonly #numbers = new Map<string, DeviceBuffer>();

  constructor(engine: Engine, kept: Kept) {
    this.#engine = engine;
    this.#kept = kept;
  }

  async add(to: Rowed, from: Rowed | Float32Array): Promise<void> {
    for (const row of to.table) {
      const x = to.slot(row.name);
      const y = from instanceof Float32Array ? from.subarray(row.start, row.end) : from.slot(row.name);
      await this.#engine.run(SUM, { x, y }, { to: x }, sizesOf(row));
    }
  }

  norm(of: Rowed): Promise<number> {
    return this.#rootOfSquares(async (squares) => {
      for (const row of of.table)
        await this.#engine.run(SQUARES, { x: of.slot(row.name), squares }, { "to.squares": squares }, sizesOf(row));
    });
  }

  step(optimizer: AdamW, parameters: Pick<Rowed, "slot">, grads: Rowed, scale: number): Promise<number> {
    const begun = optimizer.begin(scale);
    const moments = optimizer.rowsIn(this.#kept, begun);
    return this.#rootOfSquares(async (squares) => {
      const scalars = new Map<boolean, Readonly<Record<string, DeviceBuffer>>>();
      for (const decay of [false, true]) {
        const numbers = Object.entries(begun.scalarsOf({ decay }));
        const set = numbers.map(async ([name, x]) => [
          name,
          await this.#number(name === "decay" ? `decay ${decay}` : name, x),
        ]);
        scalars.set(decay, Object.fromEntries(await Promise.all(set)));
      }
      for (const [i, row] of grads.table.entries()) {
        const [p, g, m, v] = [parameters.slot(row.name), grads.slot(row.name), moments.m[i], moments.v[i]];
        const feeds = { p, g, m, v, squares, ...scalars.get(row.decay) };
        await this.#engine.run(ADAM, feeds, { "to.p": p, "to.m": m, "to.v": v, "to.squares": squares }, sizesOf(row));
      }
    });
  }

  /** The root of what is added up from 0 on the device. */
  async #rootOfSquares(addUp: (squares: DeviceBuffer) => Promise<void>): Promise<number> {
    const squares = await this.#number("squares", 0);
    await addUp(squares);
    const sum = new Float32Array(1);
    await this.#engine.backend.read(squares, sum);
    return Math.sqrt(sum[0]);
  }

  /** A number on the device. */
  async #number(name: string, x: number): Promise<DeviceBuffer> {
    const buffer = this.#numbers.get(name) ?? this.#engine.backend.buffer("float32", 1);
    this.#numbers.set(name, buffer);
    await this.#engine.backend.write(buffer, Float32Array.of(x));
    return buffer;
  }
}
