/**
 * @file Examples packed side by side against TRL 1.16.0's SFTTrainer, which has each in a row of its own
 * (tools/reference/sft_packed.py): losses, gradients and the change of every weight; and its best-fit packing.
 */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Learner } from "../../src/algorithms/learner.ts";
import { sftStep } from "../../src/algorithms/sft.ts";
import { bestFit } from "../../src/data/best-fit.ts";
import { windowSampler } from "../../src/data/packing.ts";
import { loadModel } from "../../src/families/index.ts";
import { goldenPath, maxDifference, readTensors, tinyDir } from "../support/golden.ts";

interface Steps {
  losses: number[];
  gradNorms: number[];
}
interface Golden extends Record<"gpt2" | "llama", Steps> {
  examples: number[][];
  begins: number[];
  steps: number;
  optimizer: { learning_rate: number; eps: number; max_grad_norm: number };
  packings: { sizes: number[]; capacity: number; fills: number[] }[];
}
const golden: Golden = JSON.parse(readFileSync(goldenPath("sft-packed.json"), "utf8"));
const { learning_rate: learningRate, eps: epsilon, max_grad_norm: maxGradNorm } = golden.optimizer;

/** The examples as a corpus of which the completions are learned. */
const ends = golden.examples.map((_, i) => golden.examples.slice(0, i + 1).flat().length);
const corpus = {
  ids: Int32Array.from(golden.examples.flat()),
  documentEnds: ends,
  documentBytes: ends.map(() => 1),
  learned: Uint8Array.from(golden.examples.flatMap((ids, i) => ids.map((_, t) => Number(t >= golden.begins[i])))),
};

const cases = (["gpt2", "llama"] as const).flatMap((family) =>
  [0, 1].map((microBatchSize) => [family, microBatchSize] as const),
);

test.each(cases)("%s, microBatchSize %i", async (family, microBatchSize) => {
  const model = await loadModel(family === "gpt2" ? tinyDir : goldenPath("llama/llama-tiny"), { threads: 1 });
  const before = model.parameters.data.slice();
  const options = { learningRate, epsilon, beta1: 0.9, beta2: 0.95, weightDecay: 0 };
  const learner = new Learner(model, { optimizer: options, maxGradNorm, valueHead: false });
  // 9 examples of 47 places in windows of 20: each epoch is 3 windows, in another order.
  const packing = { packing: "whole", longExamples: "error", sequenceLength: 20 } as const;
  const sampler = windowSampler(corpus, { ...packing, batchSize: 3, seed: 4 });
  const schedule = { schedule: "constant", steps: golden.steps, warmupSteps: 0, finalFactor: 1 } as const;
  for (let step = 1; step <= golden.steps; step++) {
    const metrics = await sftStep(learner, sampler.next(), { learningRate, microBatchSize, ...schedule }, step);
    expect(metrics["sft/loss"]).toBeCloseTo(golden[family].losses[step - 1], 4);
    expect((metrics["sft/grad_norm"] as number) / golden[family].gradNorms[step - 1]).toBeCloseTo(1, 4);
  }
  expect(sampler.epoch).toBe(golden.steps);
  const changes = readTensors(goldenPath(`sft-packed-${family}.safetensors`));
  const norm = (x: Float32Array) => Math.hypot(...x);
  for (const { name: row, start } of model.parameters.table) {
    if (row.startsWith("v_head.")) continue;
    const change = model.parameters.view(row).map((x, i) => x - before[start + i]);
    const want = Float32Array.from(changes.get(row)?.data ?? []);
    expect(want.length, row).toBe(change.length);
    // A key's bias adds the same to all scores of a query, which the softmax takes out: its gradient is rounding.
    const isKey = (i: number) => row.endsWith(".c_attn.bias") && Math.floor((3 * i) / want.length) === 1;
    const [got, moves] = [change, want].map((x) => x.filter((_, i) => !isKey(i)));
    expect(maxDifference(got, moves), row).toBeLessThan(5e-5);
    const scale = Math.max(norm(moves), learningRate * Math.sqrt(moves.length));
    expect(norm(got.map((x, i) => x - moves[i])) / scale, row).toBeLessThan(2e-4);
  }
  model.dispose();
});

test.each(golden.packings)("$sizes.length sizes in bins of $capacity", ({ sizes, capacity, fills }) => {
  const bins = bestFit(sizes, capacity);
  expect(bins.flat().sort((a, b) => a - b)).toEqual(sizes.map((_, i) => i));
  const filled = bins.map((bin) => bin.reduce((sum, i) => sum + sizes[i], 0));
  expect(filled.sort((a, b) => a - b)).toEqual(fills);
});
