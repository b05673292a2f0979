/** @file What listens to a run: every event, once, in order; and a listener that fails loses nothing. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TrainEvent } from "../../../src/algorithms/events.ts";
import { PPOTrainer } from "../../../src/algorithms/ppo.ts";
import type { RewardFunction } from "../../../src/experience/reward-functions.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { packagePath } from "../../../src/platform/files.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import type { RunOptions } from "../../../src/run/options.ts";
import { run } from "../../../src/run/run.ts";
import { JSONLSink } from "../../../src/run/sinks/jsonl.ts";
import { type Sink, withSinks } from "../../../src/run/sinks/sink.ts";
import { TensorBoardSink } from "../../../src/run/sinks/tensorboard.ts";
import type { RunSpec } from "../../../src/run/spec.ts";
import { runInWorker } from "../../../src/run/worker.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { differences } from "../../../tools/small-run.ts";
import { buildCli } from "../../support/cli.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-sinks-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);

const config = { steps: 4, batchSize: 4, miniBatchSize: 4, ppoEpochs: 1, maxNewTokens: 4, saveEvery: 2 };
const spec = (out: string, rest: Partial<RunSpec> = {}): RunSpec => ({
  model: at("model"),
  prompts: ["This", "Two movies"],
  evaluation: { prompts: ["A film"] },
  out: at(out),
  rewardName: "length",
  threads: 1,
  config,
  ...rest,
});
const reward: RewardFunction = (batch) => batch.map(({ response }) => response.length / 10);

/** Hears everything, and may fail at some event. */
class Ear implements Sink {
  readonly heard: (RunEvent | TrainEvent)[] = [];
  closed = 0;
  readonly #fails: (event: RunEvent) => boolean;

  constructor(fails: (event: RunEvent) => boolean = () => false) {
    this.#fails = fails;
  }

  async event(event: RunEvent): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve)); // nothing overtakes it
    if (this.closed > 0) throw new Error("an event after close");
    this.heard.push(event);
    if (this.#fails(event)) throw new RangeError("no room");
  }

  async close(): Promise<void> {
    this.closed++;
  }
}

/** The events of a run that were yielded, and what it threw. `heard` is called with each as it comes. */
async function follow<E>(events: AsyncIterable<E>, heard: (event: E) => void = () => {}) {
  const yielded: E[] = [];
  try {
    for await (const event of events) {
      yielded.push(event);
      heard(event);
    }
  } catch (error) {
    // biome-ignore lint/suspicious/noExplicitAny: a ValueheadError, or the test fails
    return { yielded, error: error as any };
  }
  return { yielded, error: undefined };
}

const atStep = (step: number) => (event: RunEvent) => event.type === "step" && event.step === step;

beforeAll(async () => {
  buildCli();
  const shape = { vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 16, bosTokenId: 8191, eosTokenId: 8191 };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { threads: 1, seed: 5 });
  await model.savePretrained(at("model"));
  await (await loadTokenizer(packagePath("models", "tiny"))).save(at("model"));
  model.dispose();
  await follow(run(spec("whole"), reward));
});

const runners: [string, (given: RunSpec, options: RunOptions) => AsyncIterable<RunEvent>][] = [
  ["run", (given, options) => run(given, reward, options)],
  ["runInWorker", (given, options) => runInWorker(given, reward, options)],
];

describe.each(runners)("%s", (name, begin) => {
  test("tells every sink every event, in order, before it is yielded", async () => {
    const ears = [new Ear(), new Ear()];
    const { yielded, error } = await follow(begin(spec(`all-${name}`), { sinks: ears }), (event) => {
      for (const ear of ears) expect(ear.heard.at(-1)).toBe(event);
    });
    expect(error).toBeUndefined();
    const types = yielded.map(({ type }) => type).filter((type) => type !== "progress");
    expect(types.join(" ")).toBe("loaded evaluation step checkpoint step step checkpoint step evaluation done");
    for (const ear of ears) expect([ear.heard, ear.closed]).toEqual([yielded, 1]);
    expect(differences(at("whole"), at(`all-${name}`))).toEqual([]);
  });

  test("a sink that throws ends the run with a clear error, when the step is done and saved", async () => {
    const [bad, good] = [new Ear(atStep(1)), new Ear()];
    const out = `failing-${name}`;
    const { yielded, error } = await follow(begin(spec(out), { sinks: [bad, good] }));
    expect(error.kind).toBe("code");
    expect(error.problem.where).toBe('sink 1 of 2 (Ear), the event "step"');
    expect(error.problem.found).toBe("an error: no room");
    expect(error.cause).toBeInstanceOf(RangeError);
    expect(yielded.at(-1)).toMatchObject({ type: "done", interrupted: true });
    expect(bad.heard.at(-1)).toMatchObject({ type: "step", step: 1 });
    expect(good.heard).toEqual(yielded);
    expect([bad.closed, good.closed]).toEqual([1, 1]);
    const last = (yielded.at(-1) as { step: number }).step;
    if (name === "run") expect(last).toBe(1);
    expect(existsSync(at(out, `checkpoint-${last}`, "SHA256SUMS"))).toBe(true);
    expect(existsSync(at(out, ".lock"))).toBe(false);
    expect((await follow(begin(spec(out, { resume: true }), {}))).error).toBeUndefined();
    expect(differences(at("whole"), at(out)).filter((file) => !/^checkpoint-[13]|^best/.test(file))).toEqual([]);
  });

  test("close is called once: after an error, an abort, a consumer that leaves", async () => {
    const failing = new Ear();
    const failed = spec(`error-${name}`, { prompts: [] });
    expect((await follow(begin(failed, { sinks: [failing] }))).error.kind).toBe("data");
    const controller = new AbortController();
    const aborted = new Ear((event) => {
      if (event.type === "step") controller.abort();
      return false;
    });
    const { yielded } = await follow(begin(spec(`abort-${name}`), { sinks: [aborted], signal: controller.signal }));
    expect(yielded.at(-1)).toMatchObject({ type: "done", interrupted: true });
    const left = new Ear();
    for await (const event of begin(spec(`left-${name}`), { sinks: [left] })) if (event.type === "step") break;
    expect([failing.closed, aborted.closed, left.closed]).toEqual([1, 1, 1]);
    expect(aborted.heard).toEqual(yielded);
  });
});

test("an error of the run itself comes before that of a sink; close may throw too", async () => {
  const sink: Sink = { event: async () => {}, close: async () => Promise.reject(new Error("stuck")) };
  const failed = await follow(run(spec("both", { prompts: [] }), reward, { sinks: [sink] }));
  expect(failed.error.kind).toBe("data");
  const { error } = await follow(run(spec("stuck"), reward, { sinks: [sink] }));
  expect(error.problem).toMatchObject({ where: "sink 1 of 1, close()", found: "an error: stuck" });
  expect(differences(at("whole"), at("stuck"))).toEqual([]);
});

test("PPOTrainer with sinks: its own logs, and one that fails after the step in progress", async () => {
  const model = await GPT2HeadWithValueModel.fromPretrained(at("model"), { threads: 1 });
  const tokenizer = await loadTokenizer(at("model"));
  const trainer = new PPOTrainer({ model, tokenizer, reward, config });
  const ear = new Ear();
  const logs = [await JSONLSink.open(at("logs")), await TensorBoardSink.open(at("logs", "tb"))];
  const prompts = ["This", "Two movies"];
  const bad = new Ear(atStep(2));
  const { yielded, error } = await follow(
    withSinks((signal) => trainer.train(prompts, { signal }), [bad, ear, ...logs]),
  );
  expect(error.problem.where).toBe('sink 1 of 4 (Ear), the event "step"');
  expect(ear.heard).toEqual(yielded);
  expect(trainer.stepsTaken).toBe(2);
  expect(trainer.canBeSaved).toBe(true);
  const lines = (out: string) =>
    readFileSync(at(out, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  const untimed = (line: object) =>
    Object.fromEntries(Object.entries(line).filter(([key]) => !/^(time|memory)\//.test(key)));
  expect(lines("logs").map(untimed)).toEqual(lines("whole").slice(0, 2).map(untimed));
  expect(readdirSync(at("logs", "tb"))).toHaveLength(1);
  // Opened again, logs are added to; of a run that goes on, they are cut where it does.
  const again = await JSONLSink.open(at("logs"));
  await again.event(yielded.find((event) => event.type === "step") as RunEvent);
  await again.close();
  expect(lines("logs").map(({ step }) => step)).toEqual([1, 2, 1]);
  await (await JSONLSink.open(at("logs"), { stepsTaken: 1 })).close();
  expect(lines("logs").map(({ step }) => step)).toEqual([1, 1]);
  model.dispose();
});
