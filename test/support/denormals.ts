/** @file exp and softmax of numbers so far down that the results are denormal: too small for full float32 precision. */

import { Session, type TrapHandling } from "../../src/backend/ort-node.ts";
import { exp, softmax } from "../../src/graph/ops/index.ts";
import { input } from "../../src/graph/tensor.ts";

const SMALLEST_NORMAL = 0x00800000; // bits of 2^-126 = 1.18e-38 = exp(-87.34)

/** What became of rows 0, -80, -81, ..., -109: counts of denormal results and of exact zeros, for each operation. */
export function denormalCounts(traps: Partial<TrapHandling>) {
  const rows = 4;
  const length = 31;
  const x = input("x", { rows, length });
  const session = new Session({ name: "small", outputs: { softmax: softmax(x), exp: exp(x) } }, { threads: 1, traps });
  const feed = Float32Array.from({ length: rows * length }, (_, i) => (i % length === 0 ? 0 : -79 - (i % length)));
  const results = { softmax: new Float32Array(feed.length), exp: new Float32Array(feed.length) };
  session.run({ x: feed }, results);
  session.dispose();
  const count = (y: Float32Array) => {
    // As bits: comparing denormal numbers is what the switch changes.
    const bits = Array.from(new Uint32Array(y.buffer));
    return {
      denormal: bits.filter((b) => b > 0 && b < SMALLEST_NORMAL).length,
      zero: bits.filter((b) => b === 0).length,
      normal: bits.filter((b) => b >= SMALLEST_NORMAL).length,
    };
  };
  return { softmax: count(results.softmax), exp: count(results.exp) };
}
