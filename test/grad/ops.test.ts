/** @file Every operation in the registry, and a few made of them, forwards against torch and backwards against torch and finite differences. */
import { describe, expect, test } from "vitest";
import { Session } from "../../src/backend/ort-node.ts";
import { gradients } from "../../src/graph/gradient.ts";
import { operations } from "../../src/graph/ops/registry.ts";
import { elementCount, input, type Tensor } from "../../src/graph/tensor.ts";
import { cases, compileCase, composed, type OperationCase } from "../support/operations.ts";

/** Of sampling, of matrices that are not trained, and of exported models. */
const ungraded = [
  ...["cachedAttention", "quantizedLinear", "dequantize"],
  ...["embedRows", "quantizedRows", "project", "quantizedProject", "rotaryAngles", "maskBias", "lastRows"],
];

const names = [...operations.keys(), ...Object.keys(composed)];

/** The case as a graph with its gradients, compiled. */
function compile(c: OperationCase) {
  const { inputs, outputs, feeds, shapes } = compileCase(c);
  const run = (results: Record<string, Tensor>, more: Record<string, Float32Array> = {}) => {
    const session = new Session({ name: c.op, outputs: results }, { threads: 2 });
    const fetches = Object.fromEntries([...session.outputs].map(([n, t]) => [n, new Float32Array(elementCount(t))]));
    const available: Record<string, Float32Array | Int32Array> = { ...feeds, ...more };
    session.run(Object.fromEntries([...session.inputs.keys()].map((n) => [n, available[n]])), fetches);
    session.dispose();
    return fetches;
  };
  return { inputs, outputs, feeds, run, shapes };
}

const close = (got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number) => {
  expect(got.length).toBe(want.length);
  for (let i = 0; i < want.length; i++) {
    const gap = Math.abs(got[i] - want[i]) / (1 + Math.abs(want[i]));
    if (!(gap <= tolerance)) expect.fail(`element ${i}: got ${got[i]}, want ${want[i]}`);
  }
};

test("every operation has forward cases from the reference", () => {
  const covered = new Set(cases.map((c) => c.op));
  expect(names.filter((name) => !covered.has(name))).toEqual([]);
});

test("every case is of something that is computed here", () => {
  expect(cases.map((c) => c.op).filter((op) => !names.includes(op))).toEqual([]);
});

test("every operation has a gradient, but for those of sampling, of matrices that are not trained, and of exported models", () => {
  const without = [...operations.values()].filter((op) => !op.gradient).map((op) => op.name);
  expect(without).toEqual(ungraded);
});

describe.each(names)("%s", (name) => {
  const own = cases.filter((c) => c.op === name);
  test.each(own.map((c, i) => [i, c] as const))("case %i forward equals torch", (_, c) => {
    const { outputs, run, shapes } = compile(c);
    expect(shapes).toEqual(c.outputs.map((o) => o.shape));
    const results = run(Object.fromEntries(outputs.map((t, i) => [`y${i}`, t])));
    for (const [i, o] of c.outputs.entries()) close(results[`y${i}`], o.data, 2e-6);
  });
  if (ungraded.includes(name)) return;

  test.each(own.map((c, i) => [i, c] as const))("case %i gradient equals torch and finite differences", (_, c) => {
    const { inputs, outputs, feeds, run } = compile(c);
    const seeds = outputs.map((t, i) => input(`g${i}`, t.shape));
    const seedData = Object.fromEntries(c.outputGradients.map((g, i) => [`g${i}`, Float32Array.from(g)]));
    // Angles are no parameters: of rotary positions, only what is turned has a gradient.
    const differentiable = name === "rotary" ? [inputs[0]] : inputs.filter((t) => t.dtype === "float32");
    const grads = gradients(outputs, seeds, differentiable);
    const wanted = Object.fromEntries(
      differentiable.flatMap((t, i) => (grads[i] ? [[`d${inputs.indexOf(t)}`, grads[i] as Tensor]] : [])),
    );
    const got = Object.keys(wanted).length > 0 ? run(wanted, seedData) : {};

    // What the seeds weigh the outputs with, as a function of the inputs: its slope is the gradient.
    const results = Object.fromEntries(outputs.map((t, i) => [`y${i}`, t]));
    const weighed = () => {
      const y = run(results);
      return c.outputGradients.reduce((sum, g, i) => sum + g.reduce((s, w, j) => s + w * y[`y${i}`][j], 0), 0);
    };
    for (const t of differentiable) {
      const index = inputs.indexOf(t);
      const x = feeds[`x${index}`];
      const gradient = got[`d${index}`] ?? new Float32Array(x.length);
      close(gradient, c.inputGradients[index] as number[], 5e-6);
      if (name === "stopGradient") continue; // the value has a slope; that it is not followed is the point
      if (c.outputs.some((o) => o.data.some((y) => Math.abs(y) > 1e6))) continue; // masked log-probs swamp the sum
      const step = 1e-2;
      for (let j = 0; j < x.length; j += Math.ceil(x.length / 6)) {
        const at = x[j];
        const wiggle = (d: number) => {
          x[j] = at + d;
          return weighed();
        };
        // Fourth order, so that the step can be large enough for float32.
        const slope = (8 * (wiggle(step) - wiggle(-step)) - (wiggle(2 * step) - wiggle(-2 * step))) / (12 * step);
        x[j] = at;
        if (!(Math.abs(slope - gradient[j]) <= 2e-3 * (1 + Math.abs(gradient[j]))))
          expect.fail(`input ${index}[${j}]: gradient ${gradient[j]}, finite difference ${slope}`);
      }
    }
  });
});
