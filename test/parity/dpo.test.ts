/** @file DPO against TRL: its losses against 0.11.4's (tools/reference/dpo_losses.py), three steps against 1.16.0's (dpo_step.py). */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { DPOTrainer } from "../../src/algorithms/dpo.ts";
import type { Metrics } from "../../src/algorithms/events.ts";
import { type DPOLossName, pairLoss } from "../../src/algorithms/losses.ts";
import type { EncodedPairs } from "../../src/data/pairs.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import type { ParameterBuffer } from "../../src/model/parameters.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { goldenPath, maxDifference, readTensors, tinyDir } from "../support/golden.ts";

interface Options {
  loss: DPOLossName;
  beta: number;
  labelSmoothing: number;
}
const losses: { d: number[]; cases: (Options & { losses: number[]; slopes: number[] })[] } = JSON.parse(
  readFileSync(goldenPath("dpo-losses.json"), "utf8"),
);

test.each(losses.cases)("$loss with beta $beta and label smoothing $labelSmoothing", (golden) => {
  losses.d.forEach((d, i) => {
    const { loss, slope } = pairLoss(golden, d);
    expect(Math.abs(loss - golden.losses[i]), `loss at ${d}`).toBeLessThan(1e-9 * Math.max(1, Math.abs(loss)));
    expect(Math.abs(slope - golden.slopes[i]), `slope at ${d}`).toBeLessThan(1e-9 * Math.max(1, Math.abs(slope)));
  });
});

interface Golden extends Options {
  steps: number;
  optimizer: { learning_rate: number; eps: number; max_grad_norm: number };
  pairs: { prompt: number[]; chosen: number[]; rejected: number[] }[];
  losses: number[];
  metrics: Record<"rewards/margins" | "rewards/accuracies" | "rewards/chosen" | "logps/chosen" | "grad_norm", number>[];
}

describe.each(["sigmoid", "ipo", "hinge", "robust"])("three steps with the loss %s", (name) => {
  const golden: Golden = JSON.parse(readFileSync(goldenPath(`dpo-step/${name}.json`), "utf8"));
  const { optimizer } = golden;
  let ours: { metrics: Metrics[]; before: Float32Array; parameters: ParameterBuffer };
  beforeAll(async () => {
    const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
    const reference = model.frozenCopy();
    reference.parameters.data.forEach((x, i, data) => {
      data[i] = (x * 33) / 32; // as in the script
    });
    const before = model.parameters.data.slice();
    const withEnd = (ids: number[]) => Int32Array.of(...ids, 100);
    const train: EncodedPairs = {
      prompts: golden.pairs.map(({ prompt }) => Int32Array.from(prompt)),
      chosen: golden.pairs.map(({ chosen }) => withEnd(chosen)),
      rejected: golden.pairs.map(({ rejected }) => withEnd(rejected)),
      notes: [],
    };
    const config = {
      steps: golden.steps,
      batchSize: golden.pairs.length,
      microBatchSize: 2,
      schedule: "constant",
      learningRate: optimizer.learning_rate,
      adamEpsilon: optimizer.eps,
      maxGradNorm: optimizer.max_grad_norm,
      loss: golden.loss,
      beta: golden.beta,
      labelSmoothing: golden.labelSmoothing,
    } as const;
    const trainer = new DPOTrainer({ model, reference, tokenizer: {} as Tokenizer, config });
    const metrics: Metrics[] = [];
    for await (const event of trainer.train({ train })) if (event.type === "step") metrics.push(event.metrics);
    model.dispose();
    ours = { metrics, before, parameters: model.parameters };
  });

  test("losses, rewards and accuracies", () => {
    const close = (got: number | undefined, want: number, what: string) =>
      expect(Math.abs((got ?? Number.NaN) - want), what).toBeLessThan(2e-5 * Math.max(1, Math.abs(want)));
    golden.losses.forEach((loss, i) => {
      const { [i]: want } = golden.metrics;
      close(ours.metrics[i]["dpo/loss"], loss, `loss ${i}`);
      close(ours.metrics[i]["dpo/margin"], want["rewards/margins"], `margin ${i}`);
      close(ours.metrics[i]["dpo/rewards_chosen"], want["rewards/chosen"], `chosen ${i}`);
      close(ours.metrics[i]["dpo/accuracy"], want["rewards/accuracies"], `accuracy ${i}`);
      close(ours.metrics[i]["dpo/grad_norm"], want.grad_norm, `gradient ${i}`);
      close(ours.metrics[i]["dpo/logps_chosen"], want["logps/chosen"], `log-probs ${i}`);
    });
  });

  test("the change of every weight", () => {
    const changes = readTensors(goldenPath(`dpo-step/${name}.safetensors`));
    const norm = (x: Float32Array) => Math.hypot(...x);
    for (const { name: row, start } of ours.parameters.table) {
      const change = ours.parameters.view(row).map((x, i) => x - ours.before[start + i]);
      if (row.startsWith("v_head.")) {
        expect([row, norm(change)]).toEqual([row, 0]); // nothing trains it
        continue;
      }
      const want = Float32Array.from(changes.get(row)?.data ?? []);
      // A key's bias adds the same to all scores of a query, which the softmax takes out: its gradient is rounding.
      const isKey = (i: number) => row.endsWith(".c_attn.bias") && Math.floor((3 * i) / want.length) === 1;
      const moves = want.filter((_, i) => !isKey(i));
      const moved = change.filter((_, i) => !isKey(i));
      expect(maxDifference(moved, moves), row).toBeLessThan(5e-5);
      const scale = Math.max(norm(moves), optimizer.learning_rate * Math.sqrt(moves.length));
      expect(norm(moved.map((x, i) => x - moves[i])) / scale, row).toBeLessThan(2e-4);
    }
  });
});
