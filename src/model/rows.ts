/**
 * @file Rows of tables and of activations, read and added to by index. Where the host sees the memory this is a loop, for a program
 * would cost more than it computes; elsewhere it is a program.
 */
import type { DeviceBuffer, Slot } from "../backend/backend.ts";
import type { Engine } from "../backend/engine.ts";
import { hostMemory } from "../backend/slots.ts";
import { Memo } from "../base/memo.ts";
import type { Program } from "../graph/onnx.ts";
import { add, gatherRows, greater, scatterAddRows } from "../graph/ops/index.ts";
import { input, type Tensor } from "../graph/tensor.ts";

/** Zeros of the same shape. A constant would be as large in the program. */
export const zeros = (like: Tensor): Tensor => greater(like, like); // of what is no number too

/** N numbers. */
const CLEAR: Program = { name: "clear", free: ["N"], outputs: { to: zeros(input("from", { N: 2 })) } };

/** A matrix [.., C] and the rows that are meant, int32 [R]. */
export interface PickedRows {
  readonly from: Slot;
  readonly rows: Int32Array;
}

export class Rows {
  /** Numbers in a row. */
  readonly #width: number;
  readonly #engine: Engine;
  readonly #gathers = new Memo(({ lengths, R }: { lengths: readonly number[]; R: number }): Program => {
    const C = this.#width;
    const picked = lengths.map((V, i) => gatherRows(input(`from${i}`, { V, C }), input(`rows${i}`, { R }, "int32")));
    return { name: "gather rows", outputs: { to: picked.reduce(add) } };
  });
  readonly #adds = new Memo(({ V, R, fresh }: { V: number; R: number; fresh: boolean }): Program => {
    const C = this.#width;
    const base = input("base", { V, C });
    const [rows, from] = [input("rows", { R }, "int32"), input("from", { R, C })];
    const to = scatterAddRows(fresh ? zeros(base) : base, rows, from);
    return { name: "add rows", outputs: { to } };
  });

  constructor(width: number, engine: Engine) {
    this.#width = width;
    this.#engine = engine;
  }

  /**
   * to[r] = sum over the sources of from[rows[r]]; at least one source.
   * @param to [R, C]; if there are fewer rows than that, the last one is repeated
   */
  async gather(sources: readonly PickedRows[], to: DeviceBuffer): Promise<void> {
    const C = this.#width;
    const { backend } = this.#engine;
    const y = backend.host(to);
    const seen = sources.map(({ from }) => hostMemory(backend, from));
    const R = to.length / C;
    if (y === undefined || seen.includes(undefined)) {
      const lengths = sources.map(({ from }) => from.length / C);
      const feeds: Record<string, Slot> = {};
      sources.forEach(({ from, rows }, i) => {
        feeds[`from${i}`] = from;
        feeds[`rows${i}`] = padded(rows, R, rows[rows.length - 1]);
      });
      await this.#engine.run(this.#gathers.get({ lengths, R }), feeds, { to });
      return;
    }
    sources.forEach(({ rows }, i) => {
      const x = seen[i] as Float32Array;
      for (let r = 0; r < R; r++) {
        const start = rows[Math.min(r, rows.length - 1)] * C;
        if (i === 0) y.set(x.subarray(start, start + C), r * C);
        else for (let c = 0; c < C; c++) y[r * C + c] += x[start + c];
      }
    });
  }

  /**
   * to[rows[r]] += from[r], a row that is named twice gets both.
   * @param from  [R, C]; if fewer rows are named, the others must be zero
   * @param fresh `to` is taken to be zero before
   */
  async add(to: Slot, { from, rows }: PickedRows, fresh = false): Promise<void> {
    const C = this.#width;
    const { backend } = this.#engine;
    const [y, x] = [hostMemory(backend, to), hostMemory(backend, from)];
    if (y === undefined || x === undefined) {
      const R = from.length / C;
      const program = this.#adds.get({ V: to.length / C, R, fresh });
      await this.#engine.run(program, { base: to, rows: padded(rows, R, 0), from }, { to });
      return;
    }
    if (fresh) y.fill(0);
    for (let r = 0; r < rows.length; r++) {
      const start = rows[r] * C;
      for (let c = 0; c < C; c++) y[start + c] += x[r * C + c];
    }
  }

  /** Set to zero. */
  async clear(array: Float32Array): Promise<void> {
    if (this.#engine.kept) await this.#engine.run(CLEAR, { from: array }, { to: array }, { N: array.length });
    else array.fill(0);
  }
}

function padded(rows: Int32Array, R: number, filler: number): Int32Array {
  if (rows.length === R) return rows;
  const all = new Int32Array(R).fill(filler);
  all.set(rows);
  return all;
}
