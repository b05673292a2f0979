/** @file The gradient of a large embedding, made in blocks of rows: the numbers of the product in one piece, wherever a block ends. */
import { expect, test } from "vitest";
import { languageModelLoss } from "../../../src/algorithms/losses.ts";
import { Engine } from "../../../src/backend/engine.ts";
import { OrtNode } from "../../../src/backend/ort-node.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { linear, rowBlocks } from "../../../src/graph/ops/index.ts";
import { input } from "../../../src/graph/tensor.ts";
import { ParameterBuffer } from "../../../src/model/parameters.ts";
import { gradientOutputs, gradientSlots } from "../../../src/model/products.ts";
import { hidden } from "../../support/backends.ts";
import { runProgram } from "../../support/run.ts";

// 7000 x 1024 numbers: blocks of 3072, 3072 and 856 rows.
const [K, M, N] = [2, 7000, 1024];
const product = (k = K, m = M) =>
  linear(input("x", { K: k, M: m }), input("g", { K: k, N }), undefined, { transX: true });

test("a product of many rows with a transposed matrix is cut, others are not", () => {
  expect(rowBlocks(product()).map((block) => block.sizes)).toEqual([
    [3072, N],
    [3072, N],
    [856, N],
  ]);
  const small = product(2, 6000);
  expect(rowBlocks(small)).toEqual([small]);
  const upright = linear(input("x", { M, K }), input("g", { K, N }));
  expect(rowBlocks(upright)).toEqual([upright]);
});

test.each([false, true])("every row is where it belongs (added to what is there: %s)", (adds) => {
  // Whole numbers, so every sum is exact.
  const x = Float32Array.from({ length: K * M }, (_, i) => (i % 13) - 6);
  const g = Float32Array.from({ length: K * N }, (_, i) => (i % 7) - 3);
  const grads = { slot: () => buffer } as unknown as ParameterBuffer;
  const buffer = Float32Array.from({ length: M * N }, (_, i) => i % 5);
  const before = buffer.slice();
  const program = { name: "blocks", outputs: gradientOutputs({ "d.w": product() }, adds, false) };
  expect(Object.keys(program.outputs)).toEqual(["d.w", "d.w.1", "d.w.2"]);
  const results = runProgram(program, { x, g, ...(adds ? gradientSlots(program, grads, ["w"], "before.") : {}) });
  for (const [name, slot] of Object.entries(gradientSlots(program, grads, ["w"], "d.")))
    slot.set(results[name] as Float32Array);
  let wrong = 0;
  for (let m = 0; m < M; m++)
    for (let n = 0; n < N; n++) {
      const exact = x[m] * g[n] + x[M + m] * g[N + n] + (adds ? before[m * N + n] : 0);
      if (buffer[m * N + n] !== exact) wrong++;
    }
  expect(wrong).toBe(0);
});

test("a model's embedding has the gradient, to the bit, that a device makes in one piece, over two chunks of rows", async () => {
  const config = makeConfig({ vocabSize: 50257, nPositions: 128, nEmbd: 128, nLayer: 1, nHead: 2 });
  const [B, T] = [4, 100]; // 400 rows; the head takes 320
  const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 7919 + 50256) % 50257);
  const rows = Int32Array.from(ids.keys());
  const asked = { tokens: { ids, B, T }, rows, ids: ids.slice().reverse(), distribution: { temperature: 1 } };
  const weight = new Float32Array(B * T).fill(1 / (B * T));
  const [inBlocks, whole] = await Promise.all(
    [new Engine({ threads: 1 }), Engine.over(hidden(new OrtNode({ threads: 1 }), true))].map(async (engine) => {
      const model = GPT2HeadWithValueModel.fromConfig(config, { engine, seed: 2 });
      const grads = new ParameterBuffer(model.parameters.table);
      grads.keepIn(engine);
      await model.lossAndGradients(asked, languageModelLoss, { weight }, grads);
      await grads.refresh();
      model.dispose();
      return grads.view("transformer.wte.weight");
    }),
  );
  expect(whole.some((x) => x !== 0)).toBe(true);
  expect(Buffer.compare(Buffer.from(inBlocks.buffer), Buffer.from(whole.buffer))).toBe(0);
});
