/** @file Language-model training on responses alone: the loss is theirs, and a run of it is like any other. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SFTTrainer } from "../../src/algorithms/sft.ts";
import { tokenizeCorpus } from "../../src/data/corpus.ts";
import { CorpusSampler } from "../../src/data/sampler.ts";
import { run } from "../../src/run/run.ts";
import type { SFTSpec } from "../../src/run/spec.ts";
import { differences } from "../../tools/small-run.ts";
import { smallModel } from "../support/families.ts";
import { tokenizer } from "../support/ppo.ts";

const newModel = () => smallModel("gpt2", { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 2, seed: 5 });
const rows = Array.from({ length: 24 }, (_, i) => ({
  prompt: ["This movie was", "I thought that it was, all in all,", "It"][i % 3],
  response: [" great.", " a bore of two hours and more.", " is fine"][(i * 7) % 3],
}));
const config = {
  steps: 4,
  batchSize: 3,
  sequenceLength: 16,
  learningRate: 1e-3,
  warmupSteps: 0,
  evalEvery: 2,
  saveEvery: 2,
};

test("the loss is the mean over the tokens of responses, and what the prompts' tokens are predicted as is of no account", async () => {
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
  const trainer = new SFTTrainer({ model, tokenizer, config: { ...config, steps: 1 } });
  for await (const event of trainer.train({ train }))
    if (event.type === "step") expect(event.metrics["sft/loss"]).toBeCloseTo(nats / tokens, 5);
  model.dispose();
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
