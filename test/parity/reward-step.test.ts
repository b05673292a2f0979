/**
 * @file Reward models against references, three steps to every changed weight: pairs against TRL 1.16.0's RewardTrainer, scores and labels
 * against transformers' losses with torch's AdamW (tools/reference/reward_step.py).
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import type { Metrics } from "../../src/algorithms/events.ts";
import { RewardTrainer } from "../../src/algorithms/reward.ts";
import type { EncodedJudgements, JudgementKind } from "../../src/data/judgements.ts";
import { loadClassifier } from "../../src/families/classifier.ts";
import { SCORE } from "../../src/model/classifier/classifier.ts";
import type { ParameterBuffer } from "../../src/model/parameters.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { goldenPath, maxDifference, readTensors } from "../support/golden.ts";

interface Golden {
  kind: JudgementKind;
  model: string;
  pad: number;
  eos: number;
  centering?: number;
  data: { chosen: number[]; rejected: number[]; margin?: number; text: number[]; target: number }[];
  score: number[][];
  steps: number;
  optimizer: { learning_rate: number; eps: number; max_grad_norm: number };
  losses: number[];
  metrics: Partial<Record<"accuracy" | "margin" | "mean_reward" | "grad_norm", number>>[];
}

describe.each(["pairs-gpt2", "pairs-margin", "pairs-llama", "scores-gpt2", "labels-llama"])("%s", (name) => {
  const golden: Golden = JSON.parse(readFileSync(goldenPath(`reward-step/${name}.json`), "utf8"));
  const { kind, optimizer } = golden;
  let ours: { metrics: Metrics[]; before: Float32Array; parameters: ParameterBuffer };
  beforeAll(async () => {
    const labels = golden.score.map((_, i) => `LABEL_${i}`);
    const head = { labels, padTokenId: golden.pad };
    const model = await loadClassifier(goldenPath(golden.model), { threads: 1, head });
    model.parameters.view(SCORE).set(golden.score.flat());
    const before = model.parameters.data.slice();
    const withEnd = (ids: number[]) => Int32Array.of(...ids, golden.eos);
    const train: EncodedJudgements = {
      kind,
      texts: golden.data.flatMap(({ chosen, rejected, text }) =>
        kind === "pairs" ? [withEnd(chosen), withEnd(rejected)] : [withEnd(text)],
      ),
      targets: Float64Array.from(golden.data, ({ margin = 0, target }) => (kind === "pairs" ? margin : target)),
      labels: kind === "labels" ? labels : [],
      notes: [],
    };
    const config = {
      steps: golden.steps,
      batchSize: golden.data.length,
      microBatchSize: 2,
      schedule: "constant",
      learningRate: optimizer.learning_rate,
      adamEpsilon: optimizer.eps,
      maxGradNorm: optimizer.max_grad_norm,
      centerRewards: golden.centering ?? 0,
    } as const;
    const trainer = new RewardTrainer({ model, tokenizer: {} as Tokenizer, config });
    const metrics: Metrics[] = [];
    for await (const event of trainer.train({ train })) if (event.type === "step") metrics.push(event.metrics);
    model.dispose();
    ours = { metrics, before, parameters: model.parameters };
  });

  test("losses, outputs and accuracies", () => {
    const close = (got: number | undefined, want: number, what: string) =>
      expect(Math.abs((got ?? Number.NaN) - want), what).toBeLessThan(2e-5 * Math.max(1, Math.abs(want)));
    golden.losses.forEach((loss, i) => {
      const { [i]: want } = golden.metrics;
      close(ours.metrics[i]["reward/loss"], loss, `loss ${i}`);
      close(ours.metrics[i]["reward/grad_norm"], want.grad_norm as number, `gradient ${i}`);
      if (kind !== "pairs") return;
      close(ours.metrics[i]["reward/margin"], want.margin as number, `margin ${i}`);
      close(ours.metrics[i]["reward/accuracy"], want.accuracy as number, `accuracy ${i}`);
      close(ours.metrics[i]["reward/mean"], want.mean_reward as number, `mean ${i}`);
    });
  });

  test("the change of every weight", () => {
    const changes = readTensors(goldenPath(`reward-step/${name}.safetensors`));
    const norm = (x: Float32Array) => Math.hypot(...x);
    expect(new Set(ours.parameters.table.map(({ name: row }) => row))).toEqual(new Set(changes.keys()));
    for (const { name: row, start } of ours.parameters.table) {
      const change = ours.parameters.view(row).map((x, i) => x - ours.before[start + i]);
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
