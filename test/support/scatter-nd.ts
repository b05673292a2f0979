/** @file A scatter the way the registry must not do it, and a way to see it fail. */

import { Session, type TrapHandling } from "../../src/backend/ort-node.ts";
import { apply, input, type Op, type Tensor } from "../../src/graph/tensor.ts";

const scatterND: Op = {
  name: "scatterND",
  light: false,
  infer: ([base]) => [{ dtype: "float32", shape: base.shape }],
  emit: (e, [base, ids, updates], outputs, node) => {
    const [wide, column] = [e.temp(), e.temp()];
    e.node("Cast", [ids], [wide], { to: 7 }); // int64
    e.node("Reshape", [wide, e.int64([node.inputs[1].sizes[0], 1])], [column]);
    e.node("ScatterND", [base, column, updates], outputs, { reduction: "add" });
  },
};
export const scatterNDRows = (base: Tensor, ids: Tensor, updates: Tensor) => apply(scatterND, [base, ids, updates])[0];

type Scatter = (base: Tensor, ids: Tensor, updates: Tensor) => Tensor;

/** A session that adds N rows of ones onto two rows in turn, so that each gets N / 2. */
export function scatterSession(scatter: Scatter, threads: number, traps: Partial<TrapHandling> = {}) {
  const [N, C] = [4096, 64];
  const y = scatter(input("base", { V: 2, C }), input("ids", { N }, "int32"), input("updates", { N, C }));
  const session = new Session({ name: "scatter", outputs: { y } }, { threads, traps });
  const feeds = {
    base: new Float32Array(2 * C),
    ids: Int32Array.from({ length: N }, (_, i) => i % 2),
    updates: new Float32Array(N * C).fill(1),
  };
  const result = new Float32Array(2 * C);
  return {
    /** Run once; true when every sum is right. */
    isRight: () => {
      session.run(feeds, { y: result });
      return result.every((sum) => sum === N / 2);
    },
    dispose: () => session.dispose(),
  };
}
