/** @file Language-model training as a run: resumed it is the same run, the best is the lowest held-out loss, nothing is lost. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SFTTrainer } from "../../../src/algorithms/sft.ts";
import { checkpointOfRun } from "../../../src/checkpoint/run-checkpoints.ts";
import { tokenizeCorpus } from "../../../src/data/corpus.ts";
import { CorpusSampler } from "../../../src/data/sampler.ts";
import { pretrain } from "../../../src/deprecated.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel, loadModel } from "../../../src/families/index.ts";
import { packagePath } from "../../../src/platform/files.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import { run } from "../../../src/run/run.ts";
import type { SFTSpec } from "../../../src/run/spec.ts";
import { runInWorker } from "../../../src/run/worker.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { differences } from "../../../tools/small-run.ts";
import { buildCli } from "../../support/cli.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-sft-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);

const texts = Array.from({ length: 40 }, (_, i) => `Text ${i} tells of ${i} things, all of them good.`);
const config = { steps: 6, batchSize: 2, sequenceLength: 8, evalEvery: 2, saveEvery: 2, warmupSteps: 0 };
const spec = (out: string, rest: Partial<SFTSpec> = {}): SFTSpec => ({
  algorithm: "sft",
  data: [at("text.txt")],
  heldOutFraction: 0.2,
  model: at("model"),
  out: at(out),
  threads: 1,
  ...rest,
  config: { ...config, ...rest.config },
});

async function train(given: SFTSpec, onEvent: (event: RunEvent) => void = () => {}, signal?: AbortSignal) {
  const events: RunEvent[] = [];
  try {
    for await (const event of run(given, { signal })) {
      events.push(event);
      onEvent(event);
    }
  } catch (error) {
    // biome-ignore lint/suspicious/noExplicitAny: a ValueheadError, or the test fails
    return { events, error: error as any };
  }
  return { events, error: undefined };
}
/** report.html is there where the page was built. */
const names = (out: string) =>
  readdirSync(at(out))
    .filter((name) => name !== "report.html")
    .sort();
const read = (...path: string[]) => JSON.parse(readFileSync(at(...path), "utf8"));
const metrics = (out: string) =>
  readFileSync(at(out, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

beforeAll(async () => {
  buildCli();
  writeFileSync(at("text.txt"), texts.join("\n\n"));
  writeFileSync(at("other.txt"), texts.join("\n\n").replaceAll("good", "bad"));
  const shape = { vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 16, bosTokenId: 8191, eosTokenId: 8191 };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { threads: 1, seed: 5 });
  await model.savePretrained(at("model"));
  await (await loadTokenizer(packagePath("models", "tiny"))).save(at("model"));
  model.dispose();
  expect((await train(spec("whole"))).error).toBeUndefined();
});

test("the run directory is that of every run; the best checkpoint has the lowest held-out loss", async () => {
  expect(names("whole")).toEqual([
    "best.json",
    "checkpoint-4",
    "checkpoint-6",
    "config.json",
    "events.jsonl",
    "metrics.jsonl",
    "samples.jsonl",
    "tb",
  ]);
  expect(read("whole", "config.json")).toMatchObject({ algorithm: "sft", data: [at("text.txt")], options: config });
  const lines = metrics("whole");
  expect(lines.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(lines.map((line) => "eval/loss" in line)).toEqual([false, true, false, true, false, true]);
  const losses = lines.map((line) => line["eval/loss"] ?? Number.POSITIVE_INFINITY);
  const lowest = losses.indexOf(Math.min(...losses)) + 1;
  expect(read("whole", "best.json")).toEqual({
    checkpoint: `checkpoint-${lowest}`,
    step: lowest,
    heldOutLoss: losses[lowest - 1],
  });
  expect((await checkpointOfRun(at("whole")))?.path).toBe(at("whole", `checkpoint-${lowest}`));
});

describe("a new model of another family", () => {
  const shape = {
    hiddenSize: 16,
    numHiddenLayers: 1,
    numAttentionHeads: 2,
    numKeyValueHeads: 1,
    intermediateSize: 24,
    maxPositionEmbeddings: 16,
  };
  const scratch = (out: string, modelConfig: object) =>
    train(spec(out, { model: undefined, tokenizer: packagePath("models", "tiny"), modelConfig: { ...modelConfig } }));

  test("is made from its config, trained, saved and opened", async () => {
    expect((await scratch("qwen", { modelType: "qwen3", headDim: 8, ...shape })).error).toBeUndefined();
    const model = await loadModel(at("qwen", "checkpoint-6"), { threads: 1 });
    expect(model.config).toMatchObject({
      modelType: "qwen3",
      vocabSize: 8192,
      eosTokenId: 8191,
      hiddenSize: 16,
      headDim: 8,
    });
    model.dispose();
  });

  test.each([
    [{ modelType: "mistral" }, /model_type = "mistral", expected one of "gpt2", "llama"/],
    [{ modelType: "llama", nEmbd: 16 }, /options, nEmbd: found an unknown option, expected one of .*hiddenSize/],
    [
      { modelType: "llama", ...shape, numKeyValueHeads: 3 },
      /options, model: found num_key_value_heads = 3, expected a divisor/,
    ],
    [shape, /options, hiddenSize: found an unknown option, expected one of .*nEmbd/],
  ])("%j is refused", async (modelConfig, message) => {
    expect((await scratch("none", modelConfig)).error?.message).toMatch(message);
  });
});

test("a best checkpoint is kept beside newer ones; steps without a measurement do not count", async () => {
  // A text of other words: the more is learned of the one, the worse the other gets.
  const heldOut = [["Quick brown foxes jump over lazy dogs, and zebras run."]];
  const config = {
    learningRate: 0.3,
    schedule: "constant",
    steps: 8,
    saveEvery: 1,
    evalEvery: 2,
    keepCheckpoints: 1,
  } as const;
  const { events } = await train(spec("worse", { config, heldOut, heldOutFraction: undefined }));
  const losses = metrics("worse").map((line) => line["eval/loss"] ?? Number.POSITIVE_INFINITY);
  const lowest = losses.indexOf(Math.min(...losses)) + 1;
  expect(lowest).toBeLessThan(8);
  expect(read("worse", "best.json").step).toBe(lowest);
  expect(names("worse").filter((name) => name.startsWith("checkpoint"))).toEqual([
    `checkpoint-${lowest}`,
    "checkpoint-8",
  ]);
  expect(events.findLast((event) => event.type === "checkpoint")).toMatchObject({
    best: { step: lowest, heldOutLoss: losses[lowest - 1] },
  });
  await train(spec("unmeasured", { heldOutFraction: 0 }));
  expect(names("unmeasured")).not.toContain("best.json");
});

test.each([1, 2, 3, 5])("interrupted after step %i and resumed, it ends with the same result", async (step) => {
  const controller = new AbortController();
  const cut = await train(
    spec(`cut-${step}`),
    (event) => event.type === "step" && event.step === step && controller.abort(),
    controller.signal,
  );
  expect(cut.events.at(-1)).toMatchObject({
    type: "done",
    step,
    interrupted: true,
    directory: at(`cut-${step}`, `checkpoint-${step}`),
  });
  const on = await train(spec(`cut-${step}`, { resume: true }));
  expect(on.error).toBeUndefined();
  expect(on.events.find((event) => event.type === "loaded")).toMatchObject({ resumedAt: step });
  const odd = (name: string) => (step === 5 ? /^checkpoint-[45]/ : /^checkpoint-[1235]/).test(name); // of the interruption
  expect(differences(at("whole"), at(`cut-${step}`)).filter((name) => !odd(name))).toEqual([]);
});

test("left in the middle of a step, what was saved is gone on with", async () => {
  for await (const event of run(spec("left"))) if (event.type === "progress" && event.step === 4) break;
  expect(names("left")).not.toContain(".lock");
  const { events } = await train(spec("left", { resume: true }));
  expect(events.find((event) => event.type === "loaded")).toMatchObject({ resumedAt: 2 });
  expect(differences(at("whole"), at("left"))).toEqual([]);
});

test("in a worker the same", async () => {
  const events: RunEvent[] = [];
  for await (const event of runInWorker(spec("worker"))) events.push(event);
  expect(events.map(({ type }) => type).filter((type) => type === "step")).toHaveLength(6);
  expect(differences(at("whole"), at("worker"))).toEqual([]);
});

test("interrupted while text is read: nothing was trained, and nothing is left", async () => {
  const controller = new AbortController();
  controller.abort();
  const { events } = await train(spec("unread"), undefined, controller.signal);
  expect(events.at(-1)).toEqual({ type: "done", step: 0, interrupted: true });
  expect(names(".")).not.toContain("unread");
});

describe("resumed", () => {
  const begun = async (out: string) => {
    await train(spec(out, { config: { steps: 4 } }));
    return out;
  };

  test("with another text: refused, unless that is allowed; then it begins at its beginning", async () => {
    const out = await begun("retold");
    const given = spec(out, { resume: true, data: [at("other.txt")] });
    const { error, events } = await train(given);
    expect(events.filter(({ type }) => type !== "reading")).toEqual([]);
    expect(error.kind).toBe("usage");
    expect(error.problem.found).toMatch(/^a text of \d+ tokens that is not that of the run, another held-out text$/);
    expect(error.problem.fix).toContain("allowChange data");
    const allowed = await train({ ...given, allowChange: ["data", "evaluation"] });
    expect(allowed.error).toBeUndefined();
    expect(read(out, "checkpoint-6", "trainer.json").trainer.corpus).toMatchObject({ epoch: 0, position: 4 });
  });

  test.each([
    ["seed", { seed: 1 }],
    ["sequenceLength", { sequenceLength: 4 }],
  ])("with another %s: refused before the text is read", async (name, config) => {
    const out = await begun(`fixed-${name}`);
    const { error, events } = await train(spec(out, { resume: true, data: [at("not-there.txt")], config }));
    expect([events, error.kind]).toEqual([[], "usage"]);
    expect(error.problem.found).toMatch(new RegExp(`^${name} `));
  });

  test("a learning rate that changes is told; options that change nothing are not", async () => {
    const out = await begun("told");
    const config = { saveEvery: 1, evalEvery: 1, learningRate: 1e-4 };
    const { events } = await train(spec(out, { resume: true, config }));
    expect(events.flatMap((event) => (event.type === "warning" ? [event.message] : []))).toEqual([
      "from here on with other options than before: steps 6 (was 4), learningRate 0.0001 (was 0.001); the run is not the one it was begun as",
    ]);
  });
});

test("numbers that are not finite end the run, with the steps before them saved", async () => {
  const { error, events } = await train(spec("overflow", { config: { learningRate: 1e30, saveEvery: 0 } }));
  expect(error.kind).toBe("numbers");
  expect(error.problem.where).toMatch(/^step \d$/);
  expect(error.problem.found).toMatch(/^a number that is not finite in /);
  const steps = events.filter(({ type }) => type === "step").length;
  const saved = names("overflow").filter((name) => name.startsWith("checkpoint"));
  expect(saved).toEqual(steps > 0 ? [`checkpoint-${steps}`] : []);
});

test("SFTTrainer alone does what the run does; pretrain() too", async () => {
  const tokenizer = await loadTokenizer(at("model"));
  const corpus = await tokenizeCorpus(texts, tokenizer);
  const open = () => GPT2HeadWithValueModel.fromPretrained(at("model"), { threads: 1 });
  const [mine, old, ran] = [await open(), await open(), await open()];
  const trainer = new SFTTrainer({ model: mine, tokenizer, config });
  for await (const event of trainer.train({ train: corpus })) expect(event.type).toMatch(/step|done/);
  expect([trainer.stepsTaken, trainer.canBeSaved, trainer.unsettledUpdates]).toEqual([6, true, 0]);
  for await (const _ of pretrain(old, new CorpusSampler(corpus.ids, { ...config, seed: 0 }), trainer.config));
  await train(spec("alone", { heldOutFraction: 0 }));
  const saved = await GPT2HeadWithValueModel.fromPretrained(at("alone", "checkpoint-6"), { threads: 1 });
  expect(mine.parameters.data).toEqual(saved.parameters.data);
  expect(old.parameters.data).toEqual(saved.parameters.data);
  expect(mine.parameters.data).not.toEqual(ran.parameters.data);
  expect(() => new SFTTrainer({ model: mine, tokenizer, config: { sequenceLength: 17 } })).toThrow(
    "options, sequenceLength: found 17, expected at most 16",
  );
  for (const model of [mine, old, ran, saved]) model.dispose();
});
