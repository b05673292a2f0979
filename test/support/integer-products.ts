/** @file A product in integers whose sums are as large as they can be. */
import { Session, type TrapHandling } from "../../src/backend/ort-node.ts";
import { quantizedLinear } from "../../src/graph/ops/index.ts";
import { input, stored } from "../../src/graph/tensor.ts";

/** Ones [1, 64] times a matrix of 127 in each place [64, 8]: 64 times 127. */
export function largestProducts(traps: Partial<TrapHandling>): Float32Array {
  const [K, N] = [64, 8];
  const weight = stored(new Int8Array(K * N).fill(127), { K, N });
  const y = quantizedLinear(input("x", { R: 1, K }), weight, input("scales", { N }));
  const session = new Session({ name: "largest", outputs: { y } }, { threads: 1, traps });
  const products = new Float32Array(N);
  session.run({ x: new Float32Array(K).fill(1), scales: new Float32Array(N).fill(1) }, { y: products });
  session.dispose();
  return products;
}
