/** @file Loss and gradients through repetition penalty, bias, temperature and kept sets against PyTorch autograd. */
import { readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { add, mul, reduceSum } from "../../src/graph/ops/index.ts";
import type { RowLoss } from "../../src/model/head.ts";
import { KeptSet } from "../../src/model/kept-set.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { Adjustments } from "../../src/sample/transforms.ts";
import { goldenPath, maxDifference, tinyDir } from "../support/golden.ts";

interface Case {
  penalty: number;
  loss: number;
  logprobs: number[];
  entropies: number[];
  /** Norm, product with sin(1), sin(2), ..., and the first six elements. */
  gradients: Record<string, number[]>;
}
const golden: {
  prompts: number[][];
  responses: number[][];
  bias: { ids: number[]; values: number[] };
  temperature: number;
  entropyCoef: number;
  weight: number[];
  kept: number[][];
  cases: Case[];
} = JSON.parse(readFileSync(goldenPath("repetition-penalty.json"), "utf8"));

const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
const V = model.config.vocabSize;
afterAll(() => model.dispose());

const weighted: RowLoss = {
  name: "weightedLogprobs",
  build: ({ logprobs, entropies }, input) =>
    reduceSum(add(mul(logprobs, input("weight")), mul(entropies, input("entropyWeight"))), [0]),
};

const sequences = golden.prompts.map((prompt, b) => [...prompt, ...golden.responses[b]]);
const T = Math.max(...sequences.map((s) => s.length));
const ids = new Int32Array(sequences.length * T);
sequences.forEach((s, b) => {
  ids.set(s, b * T);
});
const places = golden.responses.flatMap((response, b) => response.map((id, t) => ({ b, t, id })));

function question(penalty: number) {
  const bias = { ids: Int32Array.from(golden.bias.ids), values: Float32Array.from(golden.bias.values) };
  const options = { temperature: golden.temperature, repetitionPenalty: penalty, bias };
  const recorded = places.map(({ b, t }, i) => ({
    prompt: Int32Array.from(golden.prompts[b]),
    response: Int32Array.from(golden.responses[b].slice(0, t)),
    kept: KeptSet.of(Int32Array.from(golden.kept[i]), V),
  }));
  return {
    tokens: { ids, B: sequences.length, T },
    rows: Int32Array.from(places, ({ b, t }) => b * T + golden.prompts[b].length + t - 1),
    ids: Int32Array.from(places, ({ id }) => id),
    distribution: new Adjustments(options, V).distribution(recorded),
  };
}

test.each(golden.cases)("penalty $penalty", async ({ penalty, ...want }) => {
  const n = places.length;
  const inputs = {
    weight: Float32Array.from(golden.weight, (w) => w / n),
    entropyWeight: new Float32Array(n).fill(golden.entropyCoef / n),
  };
  const grads = new ParameterBuffer(model.parameters.table);
  const got = await model.lossAndGradients(question(penalty), weighted, inputs, grads);
  expect(got.loss).toBeCloseTo(want.loss, 5);
  expect(maxDifference(got.logprobs, want.logprobs)).toBeLessThan(1e-4);
  expect(maxDifference(got.entropies, want.entropies)).toBeLessThan(1e-4);
  for (const [name, [norm, product, ...first]] of Object.entries(want.gradients)) {
    const g = grads.view(name);
    expect(Math.abs(Math.hypot(...g) / norm - 1), name).toBeLessThan(1e-3);
    const ours = g.reduce((sum, x, i) => sum + x * Math.sin(i + 1), 0);
    // The vector of sines has a norm of about the root of half its length.
    expect(Math.abs(ours - product) / norm / Math.sqrt(g.length / 2), name).toBeLessThan(1e-3);
    expect(maxDifference(g.subarray(0, 6), first) / norm, name).toBeLessThan(1e-3);
  }
});

test("it sees the other penalty", async () => {
  const [low, high] = golden.cases;
  const { logprobs } = await model.score(question(low.penalty));
  expect(maxDifference(logprobs, high.logprobs)).toBeGreaterThan(0.01);
});
