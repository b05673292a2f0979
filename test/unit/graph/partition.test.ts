/** @file A graph cut into forward and backward: what is kept between them, and that the cut changes no number. */
import { describe, expect, test } from "vitest";
import { accumulate, gradients } from "../../../src/graph/gradient.ts";
import { add, gelu, layerNorm, linear, softmax, tanh } from "../../../src/graph/ops/index.ts";
import { forwardBackward, type Keep } from "../../../src/graph/partition.ts";
import { dims, elementCount, input, type Tensor } from "../../../src/graph/tensor.ts";
import { run, runProgram } from "../../support/run.ts";

/** Two linear layers with layer norm, gelu, softmax and a residual: something of everything. */
function network() {
  const x = input("x", { N: 3, C: 4 });
  const p = {
    gamma: input("gamma", { C: 4 }),
    beta: input("beta", { C: 4 }),
    w1: input("w1", { C: 4, I: 6 }),
    b1: input("b1", { I: 6 }),
    w2: input("w2", { I: 6, C: 4 }),
  };
  const wide = linear(layerNorm(x, p.gamma, p.beta, 1e-5), p.w1, p.b1);
  const narrow = linear(gelu(wide), p.w2);
  const y = add(x, softmax(narrow));
  return { x, p, y, seed: input("dy", y.shape) };
}

const feeds = Object.fromEntries(
  Object.entries({ x: 12, gamma: 4, beta: 4, w1: 24, b1: 6, w2: 24, dy: 12 }).map(([name, n], k) => [
    name,
    Float32Array.from({ length: n }, (_, i) => Math.sin(7 * k + 3 * i + 1)),
  ]),
);
const names = ["x", "gamma", "beta", "w1", "b1", "w2"];

/** Gradients in one program. */
function whole() {
  const { x, p, y, seed } = network();
  const grads = gradients([y], [seed], [x, ...Object.values(p)]);
  return run(Object.fromEntries(names.map((n, i) => [`d.${n}`, grads[i] as Tensor])), feeds);
}

describe.each(["heavy", "nothing"] as Keep[])("keeping %s", (keep) => {
  test("gradients equal those of the undivided graph", () => {
    const { x, p, y, seed } = network();
    const parts = forwardBackward("net", { y }, { y: seed }, { x, ...p }, { keep });
    const { y: result, ...kept } = runProgram(parts.forward, feeds);
    expect(Object.keys(kept)).toEqual([...parts.saved.keys()]);
    for (const [name, type] of parts.saved) expect(kept[name].length).toBe(elementCount(type));
    const got = runProgram(parts.backward, { ...feeds, ...kept });
    const want = whole();
    expect(Object.keys(got)).toEqual(names.map((n) => `d.${n}`));
    for (const name of Object.keys(want))
      want[name].forEach((v, i) => {
        expect(got[name][i]).toBeCloseTo(v, 5);
      });
    expect([...result]).toEqual([...run({ y: network().y }, feeds).y]);
  });
});

test("heavy keeps matrix products and softmax; the backward program reads them and makes none of them again", () => {
  const { x, p, y, seed } = network();
  const { forward, backward, saved } = forwardBackward("net", { y }, { y: seed }, { x, ...p });
  // softmax is kept for its own gradient, the first product for gelu's; the second product is not read again.
  expect([...saved.values()].map((t) => (t as Tensor).node.op.name).sort()).toEqual(["linear", "softmax"]);
  expect(Object.keys(forward.outputs)).toEqual(["y", "saved.0", "saved.1"]);
  expect([...(backward.cuts?.values() ?? [])]).toEqual(["saved.0", "saved.1"]);
  expect([forward.name, backward.name]).toEqual(["net.forward", "net.backward"]);
});

test("nothing keeps nothing: the backward program starts from the inputs", () => {
  const { x, p, y, seed } = network();
  const { forward, backward, saved } = forwardBackward("net", { y }, { y: seed }, { x, ...p }, { keep: "nothing" });
  expect(saved.size).toBe(0);
  expect(Object.keys(forward.outputs)).toEqual(["y"]);
  expect(backward.cuts?.size).toBe(0);
});

test("an input is never saved: the caller has it", () => {
  const [x, w] = [input("x", { M: 2, K: 3 }), input("w", { K: 3, N: 2 })];
  const y = linear(x, w);
  const { saved } = forwardBackward("p", { y }, { y: input("dy", y.shape) }, { x, w });
  expect(saved.size).toBe(0);
});

test("what the seed brings is not saved: it does not exist when the forward program runs", () => {
  const x = input("x", { M: 2, K: 3 });
  const y = tanh(linear(x, input("w", { K: 3, N: 2 })));
  const seed = softmax(linear(input("s", { M: 2, K: 3 }), input("v", { K: 3, N: 2 })));
  const { forward, saved } = forwardBackward("p", { y }, { y: seed }, { x });
  expect([...saved.values()].map((t) => (t as Tensor).node.op.name)).toEqual(["linear"]);
  const feed = { x: new Float32Array(6).fill(0.5), w: new Float32Array(6).fill(0.25) };
  expect(runProgram(forward, feed).y[0]).toBeCloseTo(Math.tanh(3 * 0.125), 6);
});

test("a parameter that nothing flows to has no output", () => {
  const x = input("x", { N: 2 });
  const { backward } = forwardBackward(
    "p",
    { y: tanh(x) },
    { y: input("dy", { N: 2 }) },
    { x, w: input("w", { N: 2 }) },
  );
  expect(Object.keys(backward.outputs)).toEqual(["d.x"]);
});

test("an output without a seed does not count", () => {
  const x = input("x", { N: 2 });
  const { forward, backward } = forwardBackward(
    "p",
    { y: tanh(x), aside: add(x, x) },
    { y: input("dy", { N: 2 }) },
    { x },
  );
  expect(Object.keys(forward.outputs)).toEqual(["y", "aside"]);
  const got = runProgram(backward, { x: Float32Array.of(0, 1), dy: Float32Array.of(1, 1) });
  expect(got["d.x"][0]).toBeCloseTo(1, 6);
  expect(got["d.x"][1]).toBeCloseTo(1 - Math.tanh(1) ** 2, 6);
});

test("finish can add each gradient to an accumulator, in the accumulator's own buffer's place", () => {
  const [x, w] = [input("x", { M: 2, K: 2 }), input("w", { K: 2, N: 2 })];
  const y = linear(x, w);
  const { backward } = forwardBackward(
    "p",
    { y },
    { y: input("dy", dims({ M: 2, N: 2 })) },
    { w },
    {
      finish: (name, g) => accumulate(input(`before.${name}`, g.shape), g),
    },
  );
  const [a, dy, before] = [Float32Array.of(1, 2, 3, 4), Float32Array.of(1, 0, 0, 1), Float32Array.of(10, 20, 30, 40)];
  // x^T dy = [[1, 3], [2, 4]]
  expect(runProgram(backward, { x: a, dy, "before.w": before })["d.w"]).toEqual(Float32Array.of(11, 23, 32, 44));
});
