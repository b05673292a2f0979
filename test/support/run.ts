/** @file Compile and run a program once. */

import type { HostArray } from "../../src/backend/backend.ts";
import { Session } from "../../src/backend/ort-node.ts";
import type { Program } from "../../src/graph/onnx.ts";
import { elementCount, type Tensor } from "../../src/graph/tensor.ts";

/** Results by name. Feeds that the program does not read are ignored. */
export function runProgram(program: Program, feeds: Record<string, HostArray> = {}): Record<string, HostArray> {
  const session = new Session(program, { threads: 1 });
  const results: Record<string, HostArray> = {};
  for (const [name, type] of session.outputs) {
    const n = elementCount(type);
    results[name] = type.dtype === "float32" ? new Float32Array(n).fill(Number.NaN) : new Int32Array(n).fill(-1);
  }
  session.run(feeds, results);
  session.dispose();
  return results;
}

export const run = (outputs: Record<string, Tensor>, feeds: Record<string, HostArray> = {}) =>
  runProgram({ name: "test", outputs }, feeds);
