/**
 * @file What learning does with all gradients, moments and weights at once. On the host these are loops over its memory, in
 * WebAssembly; where a device keeps them in memory of its own, programs that leave them there (on-device.ts).
 */
import type { Engine } from "../backend/engine.ts";
import { type AdamW, globalNorm, type Rowed } from "./adamw.ts";

export interface Arithmetic {
  /** to += from: the same rows, or numbers of the host laid out as the rows say. */
  add(to: Rowed, from: Rowed | Float32Array): Promise<void>;
  /** sqrt(sum x^2) over all rows. */
  norm(of: Rowed): Promise<number>;
  /** One step of AdamW with the gradients times `scale`. @returns the norm of the change of the parameters */
  step(optimizer: AdamW, parameters: Pick<Rowed, "view" | "slot">, grads: Rowed, scale: number): Promise<number>;
}

/** The arithmetic for what an engine's programs read and write. That of a device is loaded when it is first needed. */
export function arithmeticOf(engine: Engine): Arithmetic {
  const { kept } = engine;
  if (!kept) return ON_HOST;
  let loaded: Promise<Arithmetic> | undefined;
  const onDevice = () => {
    loaded ??= import("./on-device.ts").then(({ OnDevice }) => new OnDevice(engine, kept));
    return loaded;
  };
  return {
    add: async (...rows) => (await onDevice()).add(...rows),
    norm: async (of) => (await onDevice()).norm(of),
    step: async (...given) => (await onDevice()).step(...given),
  };
}

const ON_HOST: Arithmetic = {
  async add({ data: to }, from) {
    const x = from instanceof Float32Array ? from : from.data;
    for (let i = 0; i < to.length; i++) to[i] += x[i];
  },
  norm: async ({ data }) => globalNorm(data),
  step: async (optimizer, parameters, { data }, scale) => optimizer.update(parameters, data, scale),
};
