/**
 * @file The worker that trains. It writes the run directory as every run does, reads it as the dashboard does, and tells the page
 * what is new; everything is in this one worker, so that it also works where files are kept in memory alone.
 */

import { runExperiment } from "../../examples/exploits/experiment.ts";
import { GAPS } from "../../examples/exploits/gaps.ts";
import { plainError, reviveError } from "../../src/base/thrown.ts";
import { VERSION } from "../../src/base/version.ts";
import type { RewardFunction } from "../../src/experience/sample.ts";
import { packDirectory, resolveReward, run, setBrowserFiles } from "../../src/index.ts";
import { baseName, isDirectory, listDirectory, remove } from "../../src/platform/files.ts";
import { availableCores } from "../../src/platform/process.ts";
import { store } from "../../src/platform/web/store.ts";
import type { RunChange } from "../../src/run/page/data.ts";
import { RunReader } from "../../src/run/page/reader.ts";
import type { FromEngine, Packed, Settings, ToEngine } from "./messages.ts";

const RUN = "/runs/playground";
const EXPLOITS = "/runs/exploits";

setBrowserFiles({ models: "../models/", runtime: "../onnxruntime/" });

const post = (message: FromEngine) => (self as unknown as Worker).postMessage(message);

// ---- what is shown ----

let readers: RunReader[] = [];

/** From now on the page shows these directories. */
async function show(directories: readonly string[]): Promise<void> {
  readers = directories.map((directory, id) => new RunReader(directory, id));
  for (const reader of readers) await reader.read();
  await tellAll();
}

async function tellAll(): Promise<void> {
  const runs = readers.map(({ data }) => data);
  const { lasting } = await store();
  const data = { version: VERSION, runs, controls: false };
  post({ type: "data", data, lasting, threads: availableCores() });
}

async function tellNews(): Promise<void> {
  for (const reader of readers) {
    const change = await reader.read();
    if (change?.restarted) await tellAll();
    else if (change) post({ type: "change", change });
  }
}

// ---- rewards that people typed: the page asks its sandbox ----

let calls = 0;
const waiting = new Map<number, { resolve: (scores: number[]) => void; reject: (error: Error) => void }>();

const typedReward: RewardFunction = (batch, { signal } = {}) =>
  new Promise((resolve, reject) => {
    const id = ++calls;
    waiting.set(id, { resolve, reject });
    signal?.addEventListener("abort", () => {
      waiting.delete(id);
      reject(signal.reason);
    });
    post({ type: "score", id, batch });
  });

// ---- work ----

let working = false;
let stopping = new AbortController();

/** One thing at a time, and its end is always told. */
async function work(job: (signal: AbortSignal) => Promise<void>): Promise<void> {
  if (working) return;
  working = true;
  stopping = new AbortController();
  let failed: unknown;
  try {
    await job(stopping.signal);
  } catch (error) {
    if (error !== STOPPED) failed = error;
  }
  working = false;
  await tellNews();
  post({ type: "ended", ...(failed === undefined ? {} : { error: plainError(failed) }) });
}

const linesOf = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line.trim() !== "")
    .map((prompt) => ({ prompt }));

async function train(settings: Settings, heldOut: readonly string[], resume: boolean, signal: AbortSignal) {
  if (!resume) await remove(RUN);
  const { reward, device, steps, learningRate, klCoef, batchSize, seed } = settings;
  const typed = reward === "code" || reward === "regex";
  const demo = await (await fetch(new URL("../models/tiny/demo.json", location.href))).json();
  const miniBatchSize = batchSize % 2 === 0 ? batchSize / 2 : batchSize;
  const spec = {
    model: "tiny",
    prompts: linesOf(settings.prompts),
    rewardName: typed ? "yours" : reward,
    out: RUN,
    resume,
    device,
    evaluation: { prompts: heldOut.map((prompt) => ({ prompt })) },
    record: { playground: settings },
    config: {
      ...demo.options,
      ...{ steps, learningRate, klCoef, batchSize, miniBatchSize, rolloutBatchSize: batchSize },
      ...(resume ? {} : { seed }),
      saveEvery: Math.min(5, Math.max(1, Math.floor(steps / 4))),
      keepCheckpoints: 1,
      keepBest: false,
      logSamples: 8,
      rewardRetries: 0,
    },
  };
  await show([RUN]);
  for await (const event of run(spec, typed ? typedReward : await resolveReward(reward), { signal })) {
    if (event.type === "progress") {
      const { step, phase, done, total } = event;
      post({ type: "change", change: { run: 0, progress: { step, phase, done, total } } satisfies RunChange });
    } else await tellNews();
  }
}

const STOPPED = new Error("stopped");

/** A gap opened and exploited, then the same run with the gap closed. */
async function exploit({ name, steps, seed }: Extract<ToEngine, { type: "gap" }>, signal: AbortSignal) {
  const gap = GAPS.find((known) => known.name === name);
  if (!gap) throw new Error(`no gap ${name}`);
  await remove(EXPLOITS);
  await show(["open", "closed"].map((state) => `${EXPLOITS}/${name}-${state}`));
  const settings = { steps, seed, threads: availableCores(), out: EXPLOITS };
  for (const open of [true, false])
    await runExperiment(gap, open, settings, () => {
      void tellNews();
      if (signal.aborted) throw STOPPED;
    });
}

/** The newest checkpoint. */
async function pack(): Promise<Packed> {
  const steps = (await isDirectory(RUN))
    ? (await listDirectory(RUN)).flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? [])
    : [];
  if (steps.length === 0) throw new Error("nothing is saved yet: wait for the first checkpoint");
  const path = `${RUN}/checkpoint-${Math.max(...steps.map(Number))}`;
  return { name: `${baseName(path)}.tar`, blob: await packDirectory(path) };
}

async function answer(id: number, value: Promise<Extract<FromEngine, { type: "answer" }>["value"]>): Promise<void> {
  try {
    post({ type: "answer", id, value: await value });
  } catch (error) {
    post({ type: "answer", id, error: plainError(error) });
  }
}

addEventListener("message", ({ data: message }: MessageEvent<ToEngine>) => {
  switch (message.type) {
    case "look":
      return void show([RUN]);
    case "train":
      return void work((signal) => train(message.settings, message.heldOut, message.resume, signal));
    case "gap":
      return void work((signal) => exploit(message, signal));
    case "stop":
      return stopping.abort();
    case "scores":
    case "failed": {
      const asked = waiting.get(message.id);
      waiting.delete(message.id);
      return message.type === "scores" ? asked?.resolve(message.scores) : asked?.reject(reviveError(message.error));
    }
    case "sample":
      return void answer(message.id, readers[message.run]?.sample(message.index) ?? Promise.resolve(undefined));
    case "pack":
      return void answer(message.id, pack());
  }
});
