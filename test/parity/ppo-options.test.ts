/** @file Options of PPO against TRL 0.11.4's own code and OpenAI's formulas; see tools/reference/ppo_options.py. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { presets } from "../../src/algorithms/options/presets.ts";
import { isFar } from "../../src/algorithms/update.ts";
import { AdamW } from "../../src/nn/adamw.ts";
import { scheduleFactor } from "../../src/nn/schedules.ts";
import { NO_MOMENTS, runningStd, scoredTokens, scoreFacts, shapeScores } from "../../src/rl/scores.ts";
import { learningTargets, type TargetOptions } from "../../src/rl/targets.ts";
import { goldenPath, maxDifference } from "../support/golden.ts";

const golden = JSON.parse(readFileSync(goldenPath("ppo-options.json"), "utf8"));

// biome-ignore lint/suspicious/noExplicitAny: the file's own shape
test.each(golden.scores.cases as any[])(
  "scores equal those of TRL's step(): scaling $scoreScaling, clip $scoreClip",
  ({ scoreScaling, scoreClip, scores, moments }) => {
    let state = NO_MOMENTS;
    for (const [i, batch] of (golden.scores.batches as number[][]).entries()) {
      const yes = batch.map(() => true);
      const options = { failScore: null, missingEosPenalty: 0, scoreScaling, scoreClip };
      const shaped = shapeScores(batch, { complete: yes, hasEos: yes }, options, state);
      expect(maxDifference(shaped.scores, scores[i])).toBeLessThan(2e-5); // TRL's scores are float32, here up to 30
      state = JSON.parse(JSON.stringify(shaped.moments)); // as a checkpoint keeps them
      const [mean, variance, count, std] = scoreScaling === "none" ? [0, 1, 0, 0] : moments[i];
      expect(maxDifference([state.mean, state.variance, runningStd(state)], [mean, variance, std])).toBeLessThan(1e-4);
      expect(state.count).toBe(Math.round(count));
    }
  },
);

describe("targets", () => {
  const { rows, width, gamma, lambda, rewards, values, cases } = golden.targets;
  const batch = { rows, width, mask: new Uint8Array(rows * width).fill(1) };
  const at = (x: Float32Array, list: number[]) => list.flatMap((b) => [...x.subarray(b * width, (b + 1) * width)]);
  const inputs = { rewards: Float32Array.from(rewards), values: Float32Array.from(values), batch };

  // biome-ignore lint/suspicious/noExplicitAny: the file's own shape
  test.each(cases as any[])(
    "per batch and per minibatch: $whiteningVariance variance, rewards whitened $whitenRewards",
    ({ whiteningVariance, whitenRewards, parts }) => {
      const options = { gamma, lambda, whitenRewards, whitenAdvantages: true, whiteningVariance } as TargetOptions;
      const [whole, ...miniBatches] = parts;
      const perBatch = learningTargets(inputs, { ...options, whiteningScope: "batch" });
      expect(perBatch.ofRows).toBeUndefined();
      expect(maxDifference(perBatch.advantages, whole.advantages)).toBeLessThan(2e-6);
      expect(maxDifference(perBatch.returns, whole.returns)).toBeLessThan(2e-6);
      const perMiniBatch = learningTargets(inputs, { ...options, whiteningScope: "minibatch" });
      for (const part of miniBatches) {
        const of = perMiniBatch.ofRows?.(part.rows);
        expect(maxDifference(at(of!.advantages, part.rows), part.advantages)).toBeLessThan(5e-6);
        expect(maxDifference(at(of!.returns, part.rows), part.returns)).toBeLessThan(2e-6);
        const others = [0, 1, 2, 3, 4].filter((b) => !part.rows.includes(b));
        expect(at(of!.advantages, others).every((a) => a === 0)).toBe(true);
      }
    },
  );
});

test("epochs end where TRL's _early_stop ends them, and never with targetKl 0", () => {
  for (const [policyKl, targetKl, stops] of golden.earlyStop) expect(isFar(policyKl, { targetKl })).toBe(stops);
  expect(isFar(1e9, { targetKl: 0 })).toBe(false);
});

// biome-ignore lint/suspicious/noExplicitAny: the file's own shape
test.each(golden.adam.cases as any[])("Adam with either bias correction: $options", ({ options, ...after }) => {
  for (const biasCorrection of ["pytorch", "tensorflow"] as const) {
    const params = Float32Array.from(golden.adam.initial);
    const adam = new AdamW([{ name: "all", start: 0, end: params.length, decay: false }], {
      ...options,
      biasCorrection,
    });
    golden.adam.grads.forEach((g: number[], t: number) => {
      adam.update({ view: () => params }, Float32Array.from(g));
      expect(maxDifference(params, after[biasCorrection][t])).toBeLessThan(1e-6);
    });
  }
  expect(maxDifference(after.pytorch[0], after.tensorflow[0])).toBeGreaterThan(1e-6);
});

test("the scored text ends where OpenAI's does", () => {
  const { responses, count, complete, ...options } = golden.truncation;
  const tokens = responses.map((r: number[]) => Int32Array.from(r));
  expect(tokens.map((r: Int32Array) => scoredTokens(r, options).count)).toEqual(count);
  expect(scoreFacts(tokens, options, [5])).toEqual({ complete, hasEos: responses.map((r: number[]) => r.includes(5)) });
  expect(scoredTokens(tokens[0], { truncateToken: null, truncateAfter: 0 })).toEqual({ count: 24, complete: true });
});

test("the learning rate of the openai preset is annealed as there", () => {
  const { schedule, warmupSteps } = presets.openai;
  const factors = golden.annealing.map((_: number, step: number) => scheduleFactor(schedule, step, 7, warmupSteps));
  expect(maxDifference(factors, golden.annealing)).toBeLessThan(1e-12);
});
