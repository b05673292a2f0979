/** @file What threads do after a run. */

import { Session, type TrapHandling } from "../../src/backend/ort-node.ts";
import { matmul } from "../../src/graph/ops/index.ts";
import { input } from "../../src/graph/tensor.ts";

/** CPU milliseconds of this process in the pauses after runs on two threads, when nothing is asked of it. */
export async function cpuInPauses(traps: Partial<TrapHandling>): Promise<number> {
  const n = 256;
  const [a, b] = [input("a", { M: n, K: n }), input("b", { K: n, N: n })];
  const session = new Session({ name: "product", outputs: { y: matmul(a, b) } }, { threads: 2, traps });
  const [x, y] = [new Float32Array(n * n), new Float32Array(n * n)];
  let spent = 0;
  for (let i = 0; i < 40; i++) {
    session.run({ a: x, b: x }, { y });
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 10));
    const { user, system } = process.cpuUsage(before);
    if (i >= 10) spent += (user + system) / 1000;
  }
  session.dispose();
  return spent;
}
