/** @file Training on responses alone against TRL 1.16.0's SFTTrainer on the same windows (tools/reference/sft_responses.py). */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Learner } from "../../src/algorithms/learner.ts";
import { sftStep } from "../../src/algorithms/sft.ts";
import { wrapped } from "../../src/data/packing.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { goldenPath, maxDifference, readTensors, tinyDir } from "../support/golden.ts";

interface Golden {
  ids: number[][];
  counted: number[][];
  steps: number;
  optimizer: { learning_rate: number; eps: number; max_grad_norm: number };
  losses: number[];
  gradNorms: number[];
}

test("losses, gradients and the change of every weight", async () => {
  const golden: Golden = JSON.parse(readFileSync(goldenPath("sft-responses.json"), "utf8"));
  const { learning_rate: learningRate, eps: epsilon, max_grad_norm: maxGradNorm } = golden.optimizer;
  const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
  const before = model.parameters.data.slice();
  const options = { learningRate, epsilon, beta1: 0.9, beta2: 0.95, weightDecay: 0 };
  const learner = new Learner(model, { optimizer: options, maxGradNorm, valueHead: false });
  const [B, T] = [golden.ids.length, golden.ids[0].length - 1];
  // The windows lie one after another, each with a token of its own before the next.
  const starts = Int32Array.from({ length: B }, (_, b) => b * (T + 1));
  const windows = wrapped(Int32Array.from(golden.ids.flat()), starts, T, Uint8Array.from(golden.counted.flat()));
  const schedule = { schedule: "constant", steps: golden.steps, warmupSteps: 0, finalFactor: 1 } as const;
  const config = { learningRate, microBatchSize: 0, ...schedule };
  for (let step = 1; step <= golden.steps; step++) {
    const metrics = await sftStep(learner, windows, config, step);
    expect(metrics["sft/loss"]).toBeCloseTo(golden.losses[step - 1], 4);
    expect((metrics["sft/grad_norm"] as number) / golden.gradNorms[step - 1]).toBeCloseTo(1, 4);
  }
  const changes = readTensors(goldenPath("sft-responses.safetensors"));
  const norm = (x: Float32Array) => Math.hypot(...x);
  for (const { name: row, start } of model.parameters.table) {
    if (row.startsWith("v_head.")) continue;
    const change = model.parameters.view(row).map((x, i) => x - before[start + i]);
    const want = Float32Array.from(changes.get(row)?.data ?? []);
    // A key's bias adds the same to all scores of a query, which the softmax takes out: its gradient is rounding.
    const isKey = (i: number) => row.endsWith(".c_attn.bias") && Math.floor((3 * i) / want.length) === 1;
    const [got, moves] = [change, want].map((x) => x.filter((_, i) => !isKey(i)));
    expect(maxDifference(got, moves), row).toBeLessThan(5e-5);
    const scale = Math.max(norm(moves), learningRate * Math.sqrt(moves.length));
    expect(norm(got.map((x, i) => x - moves[i])) / scale, row).toBeLessThan(2e-4);
  }
  model.dispose();
});
