/** @file A base held in int8 under an adapter: the same function as that of the rounded matrices in fp32, wherever it is computed. */
import { describe, expect, test } from "vitest";
import { languageModelLoss } from "../../src/algorithms/losses.ts";
import { Engine } from "../../src/backend/engine.ts";
import { namesAbove, ParameterBuffer, trainedRows } from "../../src/model/parameters.ts";
import { generate, replay } from "../../src/sample/generate.ts";
import { decodingWeights } from "../../src/sample/precision.ts";
import { type Model, smallModel } from "../support/families.ts";

const engine = new Engine({ threads: 1 });
const shape = { vocabSize: 61, context: 40 };
const open = (family: string): Model => smallModel(family, shape, { engine, seed: 5 });

/** The matrices of the blocks, each output rounded to 127 steps of its largest weight, in fp32. */
function roundByHand(model: Model): Model {
  for (const { name, matrix, shape } of model.parameters.table) {
    if (!matrix) continue;
    const w = model.parameters.view(name);
    const [K, O] = matrix === "in,out" ? shape : [...shape].reverse();
    const at = (k: number, o: number) => (matrix === "in,out" ? k * O + o : o * K + k);
    for (let o = 0; o < O; o++) {
      let largest = 0;
      for (let k = 0; k < K; k++) largest = Math.max(largest, Math.abs(w[at(k, o)]));
      for (let k = 0; k < K; k++) w[at(k, o)] = Math.round((w[at(k, o)] * 127) / largest) * (largest / 127);
    }
  }
  return model;
}

const ids = Int32Array.from({ length: 3 * 12 }, (_, i) => (i * i + 7 * i + 3) % 61);
const rows = Int32Array.from({ length: 3 * 11 }, (_, i) => Math.floor(i / 11) * 12 + (i % 11));
const asked = {
  tokens: { ids, B: 3, T: 12 },
  rows,
  ids: rows.map((n) => ids[n + 1]),
  distribution: { temperature: 1 },
};
const queries = [[1, 2, 3, 4], [5], [6, 7]].map((query) => Int32Array.from(query));

const gap = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);

async function gradients(model: Model) {
  const { table } = model.parameters;
  const grads = new ParameterBuffer(trainedRows(table, namesAbove(model, table, 0)));
  const weight = new Float32Array(rows.length).fill(1 / rows.length);
  const { loss } = await model.lossAndGradients(asked, languageModelLoss, { weight }, grads);
  return { loss, grads };
}

describe.each(["gpt2 with LoRA", "llama with LoRA"])("%s", (family) => {
  const rounded = open(family).roundBase();
  const byHand = roundByHand(open(family));

  test("scores, logits and gradients are those of the rounded matrices", async () => {
    const [got, want] = [await rounded.score(asked), await byHand.score(asked)];
    expect(gap(got.logprobs, want.logprobs)).toBeLessThan(1e-5);
    const inputIds = { data: ids, shape: [3, 12] };
    const logits = async (model: Model) => (await model.forward({ inputIds })).logits.data;
    expect(gap(await logits(rounded), await logits(byHand))).toBeLessThan(2e-5);
    const [a, b] = [await gradients(rounded), await gradients(byHand)];
    expect(a.loss).toBeCloseTo(b.loss, 5);
    expect(gap(a.grads.data, b.grads.data)).toBeLessThan(1e-5 * (1 + Math.max(...b.grads.data.map(Math.abs))));
    expect(gap(got.logprobs, (await open(family).score(asked)).logprobs)).toBeGreaterThan(1e-3); // it is another model
  });

  test.each([3, 16])(
    "tokens are scored as they were drawn, %i of them: with the base as it is held, or a copy in fp32",
    async (maxNewTokens) => {
      const rollout = await generate(rounded, queries, { maxNewTokens, eosTokenId: null, numReturnSequences: 2 });
      for (const [b, { tokens, logprobs }] of rollout.responses.entries()) {
        const query = rollout.queries[b];
        const all = Int32Array.from([...query, ...tokens.subarray(0, -1)]);
        const at = tokens.map((_, t) => query.length - 1 + t);
        const given = { tokens: { ids: all, B: 1, T: all.length }, rows: at, ids: tokens };
        const scored = await rounded.score({ ...given, distribution: replay(rollout, b) });
        expect(gap(scored.logprobs, logprobs)).toBeLessThan(1e-4);
      }
    },
  );

  test("the base without the adapter is the rounded one, in the same memory", async () => {
    const reference = rounded.withoutAdapter();
    expect(reference.parameters.rounded).toBe(rounded.parameters.rounded);
    const want = await byHand.withoutAdapter().score(asked);
    expect(gap((await reference.score(asked)).logprobs, want.logprobs)).toBeLessThan(1e-5);
  });

  test("merged it computes the same in fp32", async () => {
    const merged = await rounded.merge();
    expect(merged.basePrecision).toBe("fp32");
    expect(gap((await merged.score(asked)).logprobs, (await rounded.score(asked)).logprobs)).toBeLessThan(1e-5);
  });

  test("the copy for rollouts in int8 is made of the same whole numbers", async () => {
    const options = { precision: "int8" as const, rows: 3, steps: 8 };
    const sample = (model: Model) =>
      generate(model, queries, { maxNewTokens: 8, eosTokenId: null, weights: decodingWeights(model, options) });
    const [got, want] = [await sample(rounded), await sample(open(family))];
    for (const [b, { tokens, logprobs }] of got.responses.entries()) {
      expect([...tokens]).toEqual([...want.responses[b].tokens]);
      expect(gap(logprobs, want.responses[b].logprobs)).toBeLessThan(1e-5);
    }
  });

  test("matrices in fp32 are gone", () => {
    for (const { name, matrix } of rounded.parameters.table) expect(rounded.parameters.has(name), name).toBe(!matrix);
  });
});

test("a model without an adapter keeps its weights: they are trained", () => {
  expect(() => open("gpt2").roundBase()).toThrow(
    "roundBase(): found a model without an adapter, expected one with an adapter. Fix: add one with addAdapter(), or load one",
  );
});
