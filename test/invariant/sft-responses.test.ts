/** @file Language-model training on responses alone: the loss is theirs, and a run of it is like any other. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Learner } from "../../src/algorithms/learner.ts";
import { languageModelLoss } from "../../src/algorithms/losses.ts";
import { SFTTrainer, sftStep } from "../../src/algorithms/sft.ts";
import { tokenizeCorpus } from "../../src/data/corpus.ts";
import { type LongExamples, packingNotes, windowCount, windowSampler, windowsInOrder } from "../../src/data/packing.ts";
import { CorpusSampler } from "../../src/data/sampler.ts";
import { run } from "../../src/run/run.ts";
import type { SFTSpec } from "../../src/run/spec.ts";
import { differences } from "../../tools/small-run.ts";
import { familyNames, smallModel } from "../support/families.ts";
import { maxDifference, relativeError } from "../support/golden.ts";
import { tokenizer } from "../support/ppo.ts";

const newModel = (family = "gpt2") =>
  smallModel(family, { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 2, seed: 5 });
const rows = Array.from({ length: 24 }, (_, i) => ({
  prompt: ["This movie was", "I thought that it was, all in all,", "It"][i % 3],
  response: [" great.", " a bore of two hours and more.", " is fine"][(i * 7) % 3],
}));
const config = {
  steps: 4,
  batchSize: 3,
  sequenceLength: 24,
  learningRate: 1e-3,
  warmupSteps: 0,
  evalEvery: 2,
  saveEvery: 2,
};

test("wrapped, the loss is the mean over the tokens of responses, and what the prompts' tokens are predicted as is of no account", async () => {
  const train = await tokenizeCorpus(rows, tokenizer);
  const learned = train.learned as Uint8Array;
  const model = newModel();
  // The windows of the first step, and what the model says of every token in them.
  const sampler = new CorpusSampler(train.ids, { ...config, seed: 0 });
  const batch = sampler.next();
  const T = config.sequenceLength;
  let [nats, tokens] = [0, 0];
  for (let b = 0; b < config.batchSize; b++) {
    const window = batch.subarray(b * (T + 1), (b + 1) * (T + 1));
    const positions = Int32Array.from({ length: T }, (_, t) => t);
    const asked = {
      tokens: { ids: window.slice(0, T), B: 1, T },
      rows: positions,
      ids: window.slice(1),
      distribution: { temperature: 1 },
    };
    const { logprobs } = await model.score(asked);
    logprobs.forEach((logprob, t) => {
      if (learned[sampler.starts[b] + t + 1] !== 1) return;
      nats -= logprob;
      tokens++;
    });
  }
  expect(tokens).toBeGreaterThan(5);
  expect(tokens).toBeLessThan(0.9 * config.batchSize * T);
  const trainer = new SFTTrainer({ model, tokenizer, config: { ...config, steps: 1, packing: "wrapped" } });
  for await (const event of trainer.train({ train }))
    if (event.type === "step") expect(event.metrics["sft/loss"]).toBeCloseTo(nats / tokens, 5);
  model.dispose();
});

describe.each(familyNames)("of %s, packed whole", (family) => {
  const T = config.sequenceLength;
  const packing = { packing: "whole", longExamples: "error", sequenceLength: T } as const;

  test("an example says what it says alone", async () => {
    const train = await tokenizeCorpus(rows, tokenizer);
    const model = newModel(family);
    const windows = windowSampler(train, { ...packing, batchSize: 6, seed: 1 }).next();
    const { B, ids, next } = windows;
    const positions = windows.positions as Int32Array;
    const begins = [...positions.keys()].filter((n) => positions[n] === 0 && positions[n + 1] === 1 && n % T < T - 1);
    expect(begins.length).toBeGreaterThan(8);
    const distribution = { temperature: 1 };
    const everywhere = Int32Array.from(ids.keys());
    const together = await model.score({ tokens: { ids, B, T, positions }, rows: everywhere, ids: next, distribution });
    for (const from of begins) {
      let to = from + 1;
      while (to % T !== 0 && positions[to] === positions[to - 1] + 1) to++;
      const alone = await model.score({
        tokens: { ids: ids.slice(from, to), B: 1, T: to - from },
        rows: Int32Array.from({ length: to - from }, (_, t) => t),
        ids: next.slice(from, to),
        distribution,
      });
      expect(maxDifference(together.logprobs.subarray(from, to), alone.logprobs)).toBeLessThan(1e-5);
    }
    model.dispose();
  });

  test("gradients are those of the examples one by one, and of parts of a batch", async () => {
    const train = await tokenizeCorpus(rows.slice(0, 9), tokenizer);
    const learned = train.learned as Uint8Array;
    const model = newModel(family);
    const before = model.parameters.data.slice();
    const counted = learned.reduce((a, b) => a + b, 0);
    const learner = () => new Learner(model, { optimizer: {}, maxGradNorm: 0, valueHead: false });
    const alone = learner();
    for (const [i, end] of train.documentEnds.entries()) {
      const [start, n] = [train.documentEnds[i - 1] ?? 0, end - (train.documentEnds[i - 1] ?? 0)];
      const ids = Int32Array.from(train.ids.subarray(start, end));
      const asked = Int32Array.from({ length: n - 1 }, (_, t) => t).filter((t) => learned[start + t + 1] === 1);
      const tokens = { ids: ids.slice(0, -1), B: 1, T: n - 1 };
      const weight = new Float32Array(asked.length).fill(1 / counted);
      const question = { tokens, rows: asked, ids: asked.map((t) => ids[t + 1]), distribution: { temperature: 1 } };
      await alone.accumulate(question, languageModelLoss, { weight });
    }
    const want = alone.grads.data.slice();
    const all = windowCount(train, packing);
    const windows = windowSampler(train, { ...packing, batchSize: all, seed: 1 }).next();
    const schedule = { schedule: "constant", steps: 1, warmupSteps: 0, finalFactor: 1, learningRate: 0 } as const;
    for (const microBatchSize of [0, 1, 3]) {
      const packed = learner();
      packed.apply = async () => ({ gradNorm: 0, updateNorm: 0 }); // so that the gradient is still there
      await sftStep(packed, windows, { ...schedule, microBatchSize }, 1);
      expect(relativeError(packed.grads.data, want)).toBeLessThan(1e-5);
    }
    expect(model.parameters.data).toEqual(before);
    model.dispose();
  });
});

test("the windows of an epoch have every document once, at other places in the next, and go on from a state", async () => {
  const train = await tokenizeCorpus(rows, tokenizer);
  const options = { packing: "whole", longExamples: "error", sequenceLength: 24, batchSize: 1, seed: 3 } as const;
  const sampler = windowSampler(train, options);
  const epochs: string[] = [];
  for (let epoch = 0; epoch < 2; epoch++) {
    const found: string[] = [];
    while (Math.floor(sampler.epoch) <= epoch && sampler.epoch < epoch + 1) {
      const { ids, next, counted, positions = ids } = sampler.next();
      for (let at = 0, end = 0; at < 24 && counted.subarray(at).includes(1); at = end) {
        for (end = at + 1; end < 24 && positions[end] === positions[end - 1] + 1; ) end++;
        found.push([ids[at], ...next.slice(at, end)].join());
      }
      epochs[epoch] = `${epochs[epoch] ?? ""};${ids.join()}`;
    }
    const documents = train.documentEnds.map((end, i) => train.ids.slice(train.documentEnds[i - 1] ?? 0, end).join());
    expect(found.sort()).toEqual(documents.sort());
  }
  expect(epochs[0]).not.toBe(epochs[1]);
  const state = JSON.parse(JSON.stringify(sampler.getState()));
  const later = windowSampler(train, options);
  later.setState(state);
  expect(later.next()).toEqual(sampler.next());
});

test("a text longer than a window is cut into pieces that predict each of its tokens once", async () => {
  const train = await tokenizeCorpus(["one two three four five six seven eight nine ten", "short"], tokenizer);
  const options = { packing: "whole", longExamples: "error", sequenceLength: 4, batchSize: 2 } as const;
  const predicted = [...windowsInOrder(train, options)].flatMap(({ next, counted }) =>
    [...next].filter((_, n) => counted[n] === 1),
  );
  const begins = [0, train.documentEnds[0]];
  const want = [...train.ids].filter((_, n) => !begins.includes(n));
  expect(predicted.sort()).toEqual(want.sort());
});

test("examples longer than a window are named, left out or cut", async () => {
  const train = await tokenizeCorpus(rows, tokenizer);
  const lengths = train.documentEnds.map((end, i) => end - (train.documentEnds[i - 1] ?? 0));
  const T = 12;
  const long = lengths.filter((n) => n > T + 1);
  const options = (longExamples: LongExamples) => ({ packing: "whole", longExamples, sequenceLength: T }) as const;
  expect(() => windowCount(train, options("error"))).toThrow(
    `example ${lengths.indexOf(Math.max(...lengths)) + 1}: found ${Math.max(...lengths)} tokens, the longest of ${long.length} such examples, expected at most 13`,
  );
  const read = (longExamples: LongExamples) =>
    [...windowsInOrder(train, { ...options(longExamples), batchSize: 1 })].reduce((sum, w) => sum + w.read, 0);
  const short = lengths.filter((n) => n <= T + 1);
  const sum = (list: number[]) => list.reduce((a, n) => a + n - 1, 0);
  expect(read("drop")).toBe(sum(short));
  const cut = train.documentEnds.filter((end, i) => {
    const start = train.documentEnds[i - 1] ?? 0;
    return end - start > T + 1 && train.learned?.subarray(start, start + T + 1).includes(1);
  });
  expect(read("truncate")).toBe(sum(short) + T * cut.length);
  expect(packingNotes(train, options("drop"))[1]).toBe(
    `${long.length} of 24 examples left out (longer than 13 tokens)`,
  );
});

const directory = mkdtempSync(join(tmpdir(), "valuehead-sft-responses-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);
beforeAll(async () => {
  await newModel().savePretrained(at("model"));
  await tokenizer.save(at("model"));
  writeFileSync(at("rows.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
});

test("a run learns them, is resumed bit for bit, and is another run than that of the same text", async () => {
  const spec = (out: string, rest: Partial<SFTSpec> = {}): SFTSpec => ({
    algorithm: "sft",
    data: [at("rows.jsonl")],
    responses: true,
    heldOutFraction: 0.3,
    model: at("model"),
    out: at(out),
    threads: 1,
    config,
    ...rest,
  });
  const follow = async (given: SFTSpec, until = Number.POSITIVE_INFINITY) => {
    const losses: number[] = [];
    const controller = new AbortController();
    for await (const event of run(given, { signal: controller.signal })) {
      if (event.type === "step") losses.push(event.metrics["eval/loss"] ?? Number.NaN);
      if (event.type === "step" && event.step >= until) controller.abort();
    }
    return losses;
  };
  const losses = await follow(spec("whole"));
  expect(losses[3]).toBeLessThan(losses[1]);
  await follow(spec("cut"), 1);
  await follow(spec("cut", { resume: true, config: {} }));
  expect(differences(at("whole"), at("cut"))).toEqual([]);
  expect(JSON.parse(readFileSync(at("cut", "config.json"), "utf8")).responses).toBe(true);
  const asText = [rows.map(({ prompt, response }) => prompt + response)];
  await expect(follow(spec("cut", { resume: true, responses: false, data: asText }))).rejects.toThrow(
    "is not that of the run",
  );
});
