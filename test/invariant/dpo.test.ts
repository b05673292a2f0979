/** @file What must hold of DPO whatever the options, and of a run of it however it is cut up. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DPOTrainer } from "../../src/algorithms/dpo.ts";
import type { Metrics, TrainEvent } from "../../src/algorithms/events.ts";
import { type DPOConfig, dpoConfig } from "../../src/algorithms/options/dpo-options.ts";
import { encodePairs, type PreferencePair } from "../../src/data/pairs.ts";
import type { CausalLMWithValueHead } from "../../src/model/model.ts";
import type { RunEvent } from "../../src/run/events.ts";
import { run } from "../../src/run/run.ts";
import type { DPOSpec } from "../../src/run/spec.ts";
import { differences } from "../../tools/small-run.ts";
import { stateOf } from "../support/algorithms.ts";
import { familyNames, smallModel } from "../support/families.ts";
import { tokenizer } from "../support/ppo.ts";

const newModel = (family = "gpt2") =>
  smallModel(family, { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 2, seed: 5 });
const pairs: PreferencePair[] = ["great", "a delight", "superb", "fine", "good", "lovely", "wonderful"].map(
  (word, i) => ({
    prompt: ["This movie was", "I thought it was", "It is"][i % 3],
    chosen: ` ${word}, and more than that.`.slice(0, 10 + 3 * i),
    rejected: [" bad.", " a bore of two hours.", " awful"][i % 3],
  }),
);
const data = {
  train: encodePairs(pairs.slice(0, 5), tokenizer, newModel().sizes),
  heldOut: encodePairs(pairs.slice(5), tokenizer, newModel().sizes),
};
const small: Partial<DPOConfig> = {
  steps: 4,
  batchSize: 4,
  microBatchSize: 0,
  learningRate: 1e-3,
  evalEvery: 2,
  beta: 0.5,
};

async function train(config: Partial<DPOConfig> = {}, model: CausalLMWithValueHead = newModel()) {
  const trainer = new DPOTrainer({ model, tokenizer, config: { ...small, ...config } });
  const events: TrainEvent[] = [];
  for await (const event of trainer.train(data)) events.push(event);
  const metrics = events.flatMap((event) => (event.type === "step" ? [event.metrics] : []));
  return { trainer, events, metrics, weights: model.parameters.data.slice() };
}
const largestGap = (a: Float32Array, b: Float32Array) =>
  a.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);

test.each(familyNames)(
  "%s: at first the policy is the reference, and the loss is log 2; then it learns",
  async (family) => {
    const { metrics } = await train({ steps: 8 }, newModel(family));
    expect(metrics[0]["dpo/loss"]).toBeCloseTo(Math.LN2, 5);
    expect(metrics[0]["dpo/margin"]).toBeCloseTo(0, 5);
    expect(metrics[7]["dpo/loss"]).toBeLessThan(0.5);
    expect(metrics[7]["dpo/accuracy"]).toBe(1);
    expect(metrics[7]["eval/loss"]).toBeGreaterThan(0);
    expect(metrics[2]["eval/loss"]).toBeUndefined();
  },
);

test.each(["sigmoid", "robust", "ipo", "hinge"] as const)(
  "%s: gradients of micro-batches add up, however ragged",
  async (loss) => {
    const one = { loss, steps: 1, adamEpsilon: 1e-3 };
    const whole = await train(one);
    const parts = await train({ ...one, microBatchSize: 3 });
    const alone = await train({ ...one, microBatchSize: 1 });
    expect(largestGap(whole.weights, parts.weights)).toBeLessThan(1e-6);
    expect(largestGap(whole.weights, alone.weights)).toBeLessThan(1e-6);
    expect(parts.metrics[0]["dpo/loss"]).toBeCloseTo(whole.metrics[0]["dpo/loss"] as number, 5);
  },
);

test("nothing moves at a learning rate of 0, frozen layers stay, and no value head is trained", async () => {
  const model = newModel();
  const before = model.parameters.data.slice();
  expect((await train({ learningRate: 0 }, model)).weights).toEqual(before);
  const { weights } = await train({ frozenLayers: 1 });
  const { start } = model.parameters.table.find((p) => p.name === "transformer.h.1.ln_1.weight") as { start: number };
  expect(weights.subarray(0, start)).toEqual(before.subarray(0, start));
  expect(weights.subarray(start)).not.toEqual(before.subarray(start));
  const head = model.parameters.table.find((p) => p.name === "v_head.summary.weight") as { start: number; end: number };
  expect(weights.subarray(head.start, head.end)).toEqual(before.subarray(head.start, head.end));
});

test("of an adapter nothing else moves", async () => {
  const model = newModel().addAdapter({ rank: 4 }, 1);
  const rows = model.parameters.table.map(({ name }) => name);
  const before = new Map(rows.map((name) => [name, model.parameters.view(name).slice()]));
  const { metrics } = await train({ steps: 6, learningRate: 1e-2 }, model);
  const moved = rows.filter((name) => largestGap(model.parameters.view(name), before.get(name) as Float32Array) > 0);
  expect(moved.length).toBeGreaterThan(10);
  expect(moved.filter((name) => !/\.lora_[AB]\./.test(name))).toEqual([]);
  expect(metrics[0]["dpo/loss"]).toBeCloseTo(Math.LN2, 5);
  expect(metrics[5]["dpo/loss"]).toBeLessThan(0.6);
});

test("a trainer that is saved and goes on is the one that was not stopped, bit for bit", async () => {
  const whole = await train({ schedule: "constant" });
  const first = await train({ steps: 2, schedule: "constant" });
  const second = new DPOTrainer({ model: first.trainer.model, tokenizer, config: { ...small, schedule: "constant" } });
  second.parts[0].optimizer.setState(stateOf(first.trainer.parts[0].optimizer));
  second.setState(JSON.parse(JSON.stringify(first.trainer.getState())));
  const metrics: Metrics[] = [];
  for await (const event of second.train(data)) if (event.type === "step") metrics.push(event.metrics);
  expect(second.model.parameters.data).toEqual(whole.weights);
  expect(metrics.map((m) => m["dpo/loss"])).toEqual(whole.metrics.slice(2).map((m) => m["dpo/loss"]));
  // The reference was asked about these pairs; the model is not what it was.
  const others = { train: encodePairs(pairs.slice(1, 4), tokenizer, first.trainer.model.sizes) };
  await expect(second.train(others).next()).rejects.toThrow(/found a state of 5 prompts|found 3 pairs/);
});

test("options that make no sense", () => {
  expect(() => dpoConfig({ loss: "ipo", labelSmoothing: 0.1 })).toThrow(
    "options, labelSmoothing: found 0.1, expected 0 with the loss ipo, which has no labels to smooth",
  );
  expect(() => dpoConfig({ labelSmoothing: 0.5 })).toThrow("expected a number from 0 to below 0.5");
  expect(() => dpoConfig({ loss_type: "ipo" } as object)).toThrow("it is called loss here");
});

describe("a run", () => {
  const directory = mkdtempSync(join(tmpdir(), "valuehead-dpo-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  beforeAll(async () => {
    await newModel().savePretrained(join(directory, "model"));
    await tokenizer.save(join(directory, "model"));
  });
  const spec = (out: string, rest: Partial<DPOSpec> = {}): DPOSpec => ({
    algorithm: "dpo",
    model: join(directory, "model"),
    data: pairs,
    heldOutFraction: 0.3,
    out: join(directory, out),
    threads: 1,
    config: { ...small, saveEvery: 2 },
    ...rest,
  });
  async function follow(given: DPOSpec, until = Number.POSITIVE_INFINITY) {
    const events: RunEvent[] = [];
    const controller = new AbortController();
    for await (const event of run(given, { signal: controller.signal })) {
      events.push(event);
      if (event.type === "step" && event.step >= until) controller.abort();
    }
    return events;
  }

  test("that is interrupted and resumed ends as the one that was not; its best checkpoint has the lowest held-out loss", async () => {
    const whole = await follow(spec("whole"));
    expect(whole.findLast((e) => e.type === "checkpoint")).toMatchObject({ best: { heldOutLoss: expect.any(Number) } });
    await follow(spec("cut"), 1);
    expect(readdirSync(join(directory, "cut"))).toContain("checkpoint-1");
    const events = await follow(spec("cut", { resume: true, config: {} }));
    expect(events.filter((event) => event.type === "warning")).toEqual([]);
    expect(differences(join(directory, "whole"), join(directory, "cut"))).toEqual([]);
  });

  test("of other pairs is refused, and if that is allowed the reference is asked about them", async () => {
    const other = { resume: true, data: pairs.map((pair) => ({ ...pair, rejected: " no." })), config: { steps: 5 } };
    await expect(follow(spec("whole", other))).rejects.toThrow("found 5 pairs that are not those of the run");
    const events = await follow(spec("whole", { ...other, allowChange: ["data", "evaluation"] }));
    expect(events.at(-1)).toMatchObject({ type: "done", step: 5 });
    // The policy has learned already: its own word would be a margin of 0.
    const step = events.find((event) => event.type === "step");
    expect(Math.abs((step?.type === "step" && step.metrics["dpo/margin"]) || 0)).toBeGreaterThan(0.01);
  });
});
