/**
 * @file Whole GRPO and RLOO steps against TRL 1.16.0's GRPOTrainer and RLOOTrainer (tools/reference/group_step.py). Only the responses
 * and scores are given; everything after them is the trainer's own.
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import type { Metrics } from "../../src/algorithms/events.ts";
import { type GRPOConfig, GRPOTrainer } from "../../src/algorithms/grpo.ts";
import { type RLOOConfig, RLOOTrainer } from "../../src/algorithms/rloo.ts";
import { stream } from "../../src/base/streams.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import type { ParameterBuffer } from "../../src/model/parameters.ts";
import { groupAdvantages, leaveOneOut } from "../../src/rl/groups.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { goldenPath, maxDifference, readTensors, tinyDir } from "../support/golden.ts";

interface Golden {
  kind: "grpo" | "rloo";
  numGenerations: number;
  minibatch: number;
  epochs: number;
  /** Under TRL's names. */
  options: {
    loss_type?: "grpo" | "dapo" | "bnpo" | "dr_grpo";
    scale_rewards?: "group" | "batch" | "none";
    beta: number;
    epsilon: number;
    epsilon_high?: number;
    use_bias_correction_kl?: boolean;
    normalize_advantages?: boolean;
    temperature?: number;
  };
  optimizer: { learning_rate: number; eps: number; max_grad_norm: number };
  queries: number[][];
  responses: number[][];
  scores: number[];
  /** Rows in the order they were learned from; null: one minibatch. */
  order: number[] | null;
  advantages: number[];
  /** Of each minibatch. */
  losses: number[];
  /** Before clipping. */
  gradNorms: number[];
}

const read = (name: string): Golden => JSON.parse(readFileSync(goldenPath(`group-step/${name}.json`), "utf8"));
const lengths = { grpo: "sequence", dapo: "token", bnpo: "token", dr_grpo: "constant" } as const;
const tokenizer = { eosTokenId: 100, encode: () => Int32Array.of(1), decode: () => "", has: () => true };

interface Step {
  metrics: Metrics;
  before: Float32Array;
  parameters: ParameterBuffer;
}

async function step(golden: Golden): Promise<Step> {
  const { options: o, optimizer, numGenerations } = golden;
  const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
  const reference = model.frozenCopy();
  reference.parameters.data.forEach((x, i, data) => {
    data[i] = (x * 33) / 32; // as in the script
  });
  const before = model.parameters.data.slice();
  const shared = {
    steps: 1,
    seed: 0,
    batchSize: golden.responses.length,
    numGenerations,
    miniBatchSize: golden.minibatch,
    epochs: golden.epochs,
    maxNewTokens: 8,
    temperature: o.temperature ?? 1,
    learningRate: optimizer.learning_rate,
    adamEpsilon: optimizer.eps,
    maxGradNorm: optimizer.max_grad_norm,
    klCoef: o.beta,
    clipRange: o.epsilon,
    clipRangeHigh: o.epsilon_high ?? null,
    logSamples: 0,
    audit: "off", // random tokens are no draws from the policy
  } as const satisfies Partial<GRPOConfig> & Partial<RLOOConfig>;
  const given = { model, reference, tokenizer: tokenizer as unknown as Tokenizer, reward: () => golden.scores };
  const trainer =
    golden.kind === "grpo"
      ? new GRPOTrainer({
          ...given,
          config: {
            ...shared,
            klCorrection: o.use_bias_correction_kl ?? false,
            advantageScaling: o.scale_rewards ?? "group",
            lengthNormalization: lengths[o.loss_type ?? "grpo"],
          },
        })
      : new RLOOTrainer({ ...given, config: { ...shared, normalizeAdvantages: o.normalize_advantages ?? false } });
  const queries = golden.responses.map((_, b) => golden.queries[Math.floor(b / numGenerations)]);
  const { metrics } = await trainer.step(queries, golden.responses, golden.scores);
  model.dispose();
  return { metrics, before, parameters: model.parameters };
}

const norm = (x: Float32Array) => Math.hypot(...x);

describe.each(["grpo", "dr-grpo", "dapo", "bnpo", "rloo", "rloo-normalized"])("%s", (name) => {
  const golden = read(name);
  let ours: Step;
  beforeAll(async () => {
    ours = await step(golden);
  });

  test("minibatches are those of the script", () => {
    const order = Array.from(stream(0, "minibatches", 1).permutation(golden.responses.length));
    if (golden.order) expect(order).toEqual(golden.order);
    else expect(golden.minibatch).toBe(golden.responses.length);
  });

  test("advantages", () => {
    const { kind, options: o, numGenerations, scores, advantages } = golden;
    if (kind === "grpo")
      expect(
        maxDifference(groupAdvantages(scores, numGenerations, o.scale_rewards ?? "group"), advantages),
      ).toBeLessThan(1e-5);
    const std = Math.hypot(...advantages.map((a) => a - mean(advantages))) / Math.sqrt(advantages.length - 1);
    expect(ours.metrics["group/advantages_std"]).toBeCloseTo(std, 4);
  });

  test("the loss, at the weights that each minibatch met", () => {
    expect(ours.metrics["policy/first_ratio_deviation"]).toBeLessThan(1e-5);
    expect(Math.abs((ours.metrics["policy/loss"] as number) - mean(golden.losses))).toBeLessThan(1e-5);
    expect((ours.metrics["update/grad_norm"] as number) / mean(golden.gradNorms)).toBeCloseTo(1, 4);
  });

  test("the change of every weight", () => {
    const changes = readTensors(goldenPath(`group-step/${name}.safetensors`));
    const { learning_rate: rate } = golden.optimizer;
    for (const { name: row } of ours.parameters.table) {
      const view = ours.parameters.view(row);
      const { start } = ours.parameters.table.find((p) => p.name === row) as { start: number };
      const change = view.map((x, i) => x - ours.before[start + i]);
      if (row.startsWith("v_head.")) {
        expect([row, norm(change)]).toEqual([row, 0]); // nothing trains it
        continue;
      }
      const want = Float32Array.from(changes.get(row)?.data ?? []);
      expect([row, want.length]).toEqual([row, change.length]);
      expect(maxDifference(change, want), row).toBeLessThan(5e-5);
      // A key's bias adds the same to all scores of a query, which the softmax takes out: its gradient is rounding.
      const isKey = (i: number) => row.endsWith(".c_attn.bias") && Math.floor((3 * i) / want.length) === 1;
      const moves = want.filter((_, i) => !isKey(i));
      const gap = norm(change.filter((_, i) => !isKey(i)).map((x, i) => x - moves[i]));
      expect(gap / Math.max(norm(moves), rate * Math.sqrt(moves.length)), row).toBeLessThan(2e-4);
    }
  });
});

const mean = (x: readonly number[]) => x.reduce((a, b) => a + b, 0) / x.length;

// Worked out by hand from Ahmadian et al. 2024, equation 8: 4 - (1 + 1) / 2, 1 - (4 + 1) / 2, ...
test("leave-one-out", () => {
  expect(Array.from(leaveOneOut([4, 1, 1, 2, 2, 2], 3))).toEqual([3, -1.5, -1.5, 0, 0, 0]);
  expect(() => leaveOneOut([1], 1)).toThrow(
    "leaveOneOut: found 1 scores in groups of 1, expected whole groups of at least 2: a response is compared with others to the " +
      "same prompt. Fix: give as many responses to each prompt as numGenerations says",
  );
});
