/** @file How much memory a session takes to differentiate a chain that keeps many large tensors alive. */

import { Session, type TrapHandling } from "../../src/backend/ort-node.ts";
import { gradients } from "../../src/graph/gradient.ts";
import { add, tanh } from "../../src/graph/ops/index.ts";
import { constant, input, type Tensor } from "../../src/graph/tensor.ts";

/** Resident memory gained over three runs, divided by the size of what the backward pass needs of the forward pass. */
export function residentOverLive(traps: Partial<TrapHandling>): number {
  const [depth, side] = [12, 1024];
  const x = input("x", { N: side, C: side });
  let h = x;
  for (let i = 0; i < depth; i++) h = tanh(add(h, x)); // tanh's gradient needs its result
  const [dx] = gradients([h], [constant(1, h.shape)], [x]);
  const session = new Session({ name: "chain", outputs: { dx: dx as Tensor } }, { threads: 1, traps });
  const feed = new Float32Array(side * side).fill(0.1);
  const fetch = new Float32Array(side * side).fill(1); // touched, so that it is resident before counting starts
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 3; i++) session.run({ x: feed }, { dx: fetch });
  const gained = process.memoryUsage().rss - before;
  session.dispose();
  return gained / (depth * side * side * 4);
}
