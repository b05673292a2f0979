/** @file The reverse walk: sums of gradients, where nothing flows, and its errors. Numbers of single operations: test/grad. */
import { expect, test } from "vitest";
import type { HostArray } from "../../../src/backend/backend.ts";
import { accumulate, gradients } from "../../../src/graph/gradient.ts";
import {
  add,
  cachedAttention,
  gatherLast,
  gatherRows,
  linear,
  linearOp,
  mul,
  scatterAddLastOp,
  scatterAddRowsOp,
  stopGradient,
  tanh,
} from "../../../src/graph/ops/index.ts";
import { constant, elementCount, input, type Tensor } from "../../../src/graph/tensor.ts";
import { run } from "../../support/run.ts";

const range = (n: number, f = (i: number) => Math.sin(i + 1)) => Float32Array.from({ length: n }, (_, i) => f(i));

test("what is used twice gets both gradients", () => {
  // y = x^2 + 3 tanh(x) x; dy/dx = 2x + 3 tanh(x) + 3 x (1 - tanh(x)^2)
  const x = input("x", { N: 5 });
  const y = add(mul(x, x), mul(mul(tanh(x), x), constant(3)));
  const [dx] = gradients([y], [input("g", { N: 5 })], [x]);
  const feeds = { x: range(5), g: range(5, (i) => i + 0.5) };
  const got = run({ dx: dx as Tensor }, feeds).dx;
  feeds.x.forEach((v, i) => {
    const t = Math.tanh(v);
    expect(got[i]).toBeCloseTo(feeds.g[i] * (2 * v + 3 * t + 3 * v * (1 - t * t)), 5);
  });
});

test("gradients of several outputs add up", () => {
  const x = input("x", { N: 2 });
  const [dx] = gradients([mul(x, constant(3)), x], [constant(1, x.shape), input("g", { N: 2 })], [x]);
  expect(run({ dx: dx as Tensor }, { g: Float32Array.of(10, 20) })).toEqual({ dx: Float32Array.of(13, 23) });
});

test("an output that is itself asked for has its seed as gradient", () => {
  const x = input("x", { N: 2 });
  const seed = input("g", { N: 2 });
  expect(gradients([x], [seed], [x])).toEqual([seed]);
});

test("a tensor between input and output can be asked for", () => {
  const x = input("x", { N: 3 });
  const middle = tanh(x);
  const [dMiddle] = gradients([mul(middle, middle)], [constant(1, x.shape)], [middle]);
  const got = run({ d: dMiddle as Tensor }, { x: range(3) }).d;
  range(3).forEach((v, i) => {
    expect(got[i]).toBeCloseTo(2 * Math.tanh(v), 6);
  });
});

test("undefined where nothing flows", () => {
  const [x, other, ids] = [input("x", { N: 2, C: 2 }), input("other", { N: 2 }), input("ids", { N: 2 }, "int32")];
  const y = add(gatherRows(x, ids), stopGradient(tanh(x)));
  const grads = gradients([y], [constant(1, y.shape)], [x, other, ids]);
  expect(grads.map((g) => g !== undefined)).toEqual([true, false, false]);
  expect(gradients([stopGradient(x)], [constant(1, x.shape)], [x])).toEqual([undefined]);
});

test("no work is done along paths that lead to no target", () => {
  const [x, w] = [input("x", { M: 2, K: 3 }), input("w", { K: 3, N: 4 })];
  const cache = input("cache", { B: 1, H: 1, M: 4, D: 4 });
  const q = input("q", { B: 1, T: 1, C: 4 });
  const lengths = [input("lengths", { B: 1 }, "int32"), input("total", { one: 1 }, "int32")];
  const [attended] = cachedAttention([q, q, q, cache, cache, ...lengths], { heads: 1, kvHeads: 1, scale: 1 });
  // The attention has no gradient, but nobody asks for one through it.
  const y = mul(linear(x, w), attended);
  expect(gradients([y], [constant(1, y.shape)], [w])[0]?.sizes).toEqual([3, 4]);
});

// a + b by hand, against the fold, for each operation that can add onto something.
const folds: Record<string, () => { a: Tensor; b: Tensor; folded: string }> = {
  linear: () => ({
    a: input("a", { M: 2, N: 4 }),
    b: linear(input("x", { M: 2, K: 3 }), input("w", { K: 3, N: 4 })),
    folded: linearOp.name,
  }),
  "linear, transposed": () => ({
    a: input("a", { M: 2, N: 4 }),
    b: linear(input("x", { K: 3, M: 2 }), input("w", { N: 4, K: 3 }), undefined, { transX: true, transW: true }),
    folded: linearOp.name,
  }),
  "linear with a bias": () => ({
    a: input("a", { M: 2, N: 4 }),
    b: linear(input("x", { M: 2, K: 3 }), input("w", { K: 3, N: 4 }), input("c", { N: 4 })),
    folded: "add",
  }),
  "rows read": () => ({
    a: input("a", { V: 3, C: 2 }),
    b: gradientOf(gatherRows(input("t", { V: 3, C: 2 }), input("ids", { N: 4 }, "int32"))),
    folded: scatterAddRowsOp.name,
  }),
  "one element of each row read": () => ({
    a: input("a", { N: 4, V: 3 }),
    b: gradientOf(gatherLast(input("t", { N: 4, V: 3 }), input("ids", { N: 4 }, "int32"))),
    folded: scatterAddLastOp.name,
  }),
  "anything else": () => ({ a: input("a", { N: 4 }), b: tanh(input("x", { N: 4 })), folded: "add" }),
};

/** The gradient of y by its first input, seeded by an input called u. */
function gradientOf(y: Tensor): Tensor {
  return gradients([y], [input("u", y.shape)], [y.node.inputs[0]])[0] as Tensor;
}

test.each(Object.keys(folds))("accumulating onto %s equals a plain sum", (name) => {
  const { a, b, folded } = folds[name]();
  const feeds: Record<string, HostArray> = { ids: Int32Array.of(2, 0, 2, 1) };
  leaves([a, b]).forEach((t, n) => {
    if (n !== "ids") feeds[n] = range(elementCount(t), (i) => Math.cos(3 * i + n.length + n.charCodeAt(0)));
  });
  const separate = run({ b }, feeds).b;
  const want = Array.from(feeds.a, (v, i) => v + separate[i]);
  for (const sum of [accumulate(a, b), accumulate(b, a)]) {
    expect(sum.node.op.name).toBe(folded);
    const got = run({ sum }, feeds).sum;
    want.forEach((v, i) => {
      expect(got[i]).toBeCloseTo(v, 5);
    });
  }
});

/** Inputs a graph reads, by name. */
function leaves(from: readonly Tensor[], found = new Map<string, Tensor>()): Map<string, Tensor> {
  for (const t of from) {
    if (t.node.op.name === "input") found.set(t.node.attrs.name, t);
    leaves(t.node.inputs, found);
  }
  return found;
}

test("a scatter that already starts from something is not folded", () => {
  const { b } = folds["rows read"]();
  const onto = accumulate(input("base", { V: 3, C: 2 }), b);
  expect(onto.node.op).toBe(scatterAddRowsOp);
  expect(accumulate(input("a", { V: 3, C: 2 }), onto).node.op.name).toBe("add");
});

test("a seed of the wrong shape", () => {
  const y = tanh(input("x", { N: 2, C: 3 }));
  expect(() => gradients([y], [input("g", { N: 3, C: 2 })], [y])).toThrow(
    "gradients(): found a seed [N=3, C=2]:float32 for an output [N=2, C=3]:float32, expected the same shape. " +
      "Fix: give one seed for each output, shaped like it",
  );
});

test("an operation without a gradient", () => {
  const cache = input("cache", { B: 1, H: 1, M: 4, D: 2 });
  const q = input("q", { B: 1, T: 1, C: 2 });
  const lengths = [input("lengths", { B: 1 }, "int32"), input("total", { one: 1 }, "int32")];
  const [y] = cachedAttention([q, q, q, cache, cache, ...lengths], { heads: 1, kvHeads: 1, scale: 1 });
  expect(() => gradients([y], [constant(1, y.shape)], [q])).toThrow(
    "gradients(): found operation cachedAttention, which has no gradient, expected operations that can be " +
      "differentiated. Fix: use the training form of the graph; this operation is for sampling",
  );
});
