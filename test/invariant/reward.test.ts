/** @file What must hold of reward models whatever they learn from, and of a run of one however it is cut up. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Metrics } from "../../src/algorithms/events.ts";
import type { RewardConfig } from "../../src/algorithms/options/reward-options.ts";
import { RewardTrainer } from "../../src/algorithms/reward.ts";
import {
  type EncodedJudgements,
  encodeJudgements,
  type Judgement,
  type JudgementKind,
} from "../../src/data/judgements.ts";
import { modelReward } from "../../src/experience/rewards/model-reward.ts";
import type { RewardSample } from "../../src/experience/sample.ts";
import { loadClassifier } from "../../src/families/classifier.ts";
import type { RunEvent } from "../../src/run/events.ts";
import { run } from "../../src/run/run.ts";
import type { RewardModelSpec } from "../../src/run/spec.ts";
import { differences } from "../../tools/small-run.ts";
import { stateOf } from "../support/algorithms.ts";
import { smallModel, wholeFamilyNames } from "../support/families.ts";
import { tokenizer } from "../support/ppo.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-reward-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
beforeAll(async () => {
  for (const family of wholeFamilyNames) {
    const model = smallModel(family, { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 1, seed: 5 });
    await model.savePretrained(join(directory, family));
    await tokenizer.save(join(directory, family));
  }
});

const words = ["great", "a delight", "superb", "fine", "good", "lovely", "wonderful"];
const judgements: Readonly<Record<JudgementKind, Judgement[]>> = {
  pairs: words.map((word, i) => ({
    chosen: `It was ${word}, and more than that.`.slice(0, 12 + 4 * i),
    rejected: ["It was bad.", "It was a bore of two hours.", "It was awful"][i % 3],
    margin: i / 10,
  })),
  scores: words.map((word, i) => ({ text: `It was ${word}`, score: i / 3 - 1 })),
  labels: words.map((word, i) => ({ text: `${word} it was, of ${i}`, label: ["no", "yes", "so"][i % 3] })),
};
const kinds: JudgementKind[] = ["pairs", "scores", "labels"];
const sizes = { context: 48, contextName: "n_positions" };
const small: Partial<RewardConfig> = { steps: 4, batchSize: 4, microBatchSize: 0, learningRate: 1e-3, evalEvery: 2 };

async function open(kind: JudgementKind, family = "gpt2") {
  const data = encodeJudgements(judgements[kind], tokenizer, sizes);
  const labels = data.labels.length > 0 ? data.labels : ["LABEL_0"];
  return { data, model: await loadClassifier(join(directory, family), { threads: 1, seed: 3, head: { labels } }) };
}
async function train(kind: JudgementKind, config: Partial<RewardConfig> = {}, family = "gpt2") {
  const { data, model } = await open(kind, family);
  const trainer = new RewardTrainer({ model, tokenizer, config: { ...small, ...config } });
  return { trainer, ...(await goOn(trainer, data)), weights: model.parameters.data.slice() };
}
async function goOn(trainer: RewardTrainer, data: EncodedJudgements) {
  const metrics: Metrics[] = [];
  for await (const event of trainer.train({ train: data, heldOut: data }))
    if (event.type === "step") metrics.push(event.metrics);
  return { metrics };
}
const largestGap = (a: Float32Array, b: Float32Array) =>
  a.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);

describe.each(kinds)("%s", (kind) => {
  test.each(wholeFamilyNames)("%s learns them", async (family) => {
    const { metrics } = await train(kind, { steps: 20, batchSize: 7, learningRate: 3e-3 }, family);
    expect(metrics[19]["eval/loss"]).toBeLessThan(0.5 * (metrics[0]["reward/loss"] as number));
    expect(metrics[17]["eval/loss"]).toBeDefined();
    expect(metrics[16]["eval/loss"]).toBeUndefined();
    if (kind === "scores") expect(metrics[19]["eval/correlation"]).toBeGreaterThan(0.8);
    else expect(metrics[19]["eval/accuracy"]).toBeGreaterThan(0.8);
  });

  test("gradients of micro-batches add up, however ragged", async () => {
    const one = { steps: 1, adamEpsilon: 1e-3 };
    const whole = await train(kind, one);
    const parts = await train(kind, { ...one, microBatchSize: 3 });
    const alone = await train(kind, { ...one, microBatchSize: 1 });
    expect(largestGap(whole.weights, parts.weights)).toBeLessThan(1e-6);
    expect(largestGap(whole.weights, alone.weights)).toBeLessThan(1e-6);
    for (const name of ["reward/loss", "reward/accuracy", "reward/margin", "reward/mean"] as const)
      expect(parts.metrics[0][name] ?? 0).toBeCloseTo(whole.metrics[0][name] ?? 0, 5);
  });

  test("a trainer that is saved and goes on is the one that was not stopped, bit for bit", async () => {
    const whole = await train(kind, { schedule: "constant" });
    const first = await train(kind, { steps: 2, schedule: "constant" });
    const config = { ...small, schedule: "constant" } as const;
    const second = new RewardTrainer({ model: first.trainer.model, tokenizer, config });
    second.parts[0].optimizer.setState(stateOf(first.trainer.parts[0].optimizer));
    second.setState(JSON.parse(JSON.stringify(first.trainer.getState())));
    const { metrics } = await goOn(second, (await open(kind)).data);
    expect(second.model.parameters.data).toEqual(whole.weights);
    expect(metrics.map((m) => m["reward/loss"])).toEqual(whole.metrics.slice(2).map((m) => m["reward/loss"]));
  });
});

test("nothing moves at a learning rate of 0, and frozen layers stay", async () => {
  const { model } = await open("pairs");
  const before = model.parameters.data.slice();
  expect((await train("pairs", { learningRate: 0 })).weights).toEqual(before);
  const { weights } = await train("pairs", { frozenLayers: 1 });
  const { start } = model.parameters.table.find((p) => p.name === "transformer.h.1.ln_1.weight") as { start: number };
  expect(weights.subarray(0, start)).toEqual(before.subarray(0, start));
  expect(weights.subarray(start)).not.toEqual(before.subarray(start));
});

test("a model of other outputs than the data teaches is refused", async () => {
  const { model } = await open("labels");
  const trainer = new RewardTrainer({ model, tokenizer, config: small });
  const data = encodeJudgements(judgements.pairs, tokenizer, sizes);
  await expect(goOn(trainer, data)).rejects.toThrow("a model with 3 outputs (no, so, yes), and pairs");
});

test("as a reward it says of each sample what it says of that text alone, the end of one that is too long", async () => {
  const { trainer } = await train("pairs");
  const at = join(directory, "judge");
  await trainer.model.savePretrained(at);
  await tokenizer.save(at);
  const reward = await modelReward(at, { threads: 1, batchSize: 2 });
  const texts = ["It was great", "It was a bore of two hours.", "", `${"word ".repeat(60)}It was great`];
  const samples = texts.map((text) => ({ text, response: text }) as RewardSample);
  const scores = Array.from((await reward(samples)) as number[]);
  for (const [i, sample] of samples.entries())
    expect(((await reward([sample])) as number[])[0]).toBeCloseTo(scores[i], 5);
  const ids = tokenizer.encode(texts[3]).subarray(-48);
  expect((await trainer.model.outputs([ids]))[0]).toBeCloseTo(scores[3], 4);
  const chat = [{ text: "", response: "Yes", messages: [{ role: "user", content: "Is it good?" }] }];
  await expect(async () => reward(chat as unknown as RewardSample[])).rejects.toThrow("no chat template");
  reward.dispose();
});

describe("a run", () => {
  const spec = (out: string, rest: Partial<RewardModelSpec> = {}): RewardModelSpec => ({
    algorithm: "reward",
    model: join(directory, "gpt2"),
    data: judgements.labels,
    heldOutFraction: 0.3,
    out: join(directory, out),
    threads: 1,
    config: { ...small, saveEvery: 2 },
    ...rest,
  });
  async function follow(given: RewardModelSpec, until = Number.POSITIVE_INFINITY) {
    const events: RunEvent[] = [];
    const controller = new AbortController();
    for await (const event of run(given, { signal: controller.signal })) {
      events.push(event);
      if (event.type === "step" && event.step >= until) controller.abort();
    }
    return events;
  }

  test("that is interrupted and resumed ends as the one that was not", async () => {
    const whole = await follow(spec("whole"));
    expect(whole.findLast((e) => e.type === "checkpoint")).toMatchObject({ best: { heldOutLoss: expect.any(Number) } });
    await follow(spec("cut"), 1);
    expect(readdirSync(join(directory, "cut"))).toContain("checkpoint-1");
    const events = await follow(spec("cut", { resume: true, config: {} }));
    expect(events.filter((event) => event.type === "warning")).toEqual([]);
    expect(differences(join(directory, "whole"), join(directory, "cut"))).toEqual([]);
  });

  test("of other judgements is refused, unless that is allowed", async () => {
    const other = { resume: true, data: judgements.labels.slice().reverse(), config: { steps: 5 } };
    await expect(follow(spec("whole", other))).rejects.toThrow("judgements that are not those of the run");
    const events = await follow(spec("whole", { ...other, allowChange: ["data", "evaluation"] }));
    expect(events.at(-1)).toMatchObject({ type: "done", step: 5 });
  });

  test("goes on from a classifier with its labels, and makes a new head where the data has others", async () => {
    const from = join(directory, "whole");
    const again = await follow(spec("again", { model: from }));
    const notes = (events: RunEvent[]) => events.flatMap((e) => (e.type === "loaded" ? e.notes : [])).join("\n");
    expect(notes(again)).not.toContain("a new one");
    const pairs = await follow(spec("pairs", { model: from, data: judgements.pairs }));
    expect(notes(pairs)).toContain("score.weight with 3 outputs: a new one with 1");
  });
});
