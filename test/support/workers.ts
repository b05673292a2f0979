/** @file A small run that workers in this process take part in. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WorkersSpec } from "../../src/distributed/job.ts";
import { type WorkerEvent, type WorkerOptions, work } from "../../src/distributed/worker.ts";
import { builtInRewards, type RewardFunction } from "../../src/experience/reward-functions.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import type { RunEvent } from "../../src/run/events.ts";
import { run } from "../../src/run/run.ts";
import type { RewardedSpec } from "../../src/run/spec.ts";
import { tokenizer } from "./ppo.ts";

export const place = (name: string) => mkdtempSync(join(tmpdir(), `valuehead-${name}-`));

/** A random model of two layers, on disk. */
export async function smallModel(): Promise<string> {
  const directory = place("model");
  const shape = { vocabSize: 8192, nPositions: 48, nEmbd: 16, nLayer: 2, nHead: 2, eosTokenId: 8191, bosTokenId: 8191 };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { seed: 1, threads: 1 });
  await model.savePretrained(directory);
  await tokenizer.save(directory);
  model.dispose();
  return directory;
}

/** A worker in this process. */
export function startWorker(server: string, options: Partial<WorkerOptions> = {}) {
  const leave = new AbortController();
  const events: WorkerEvent[] = [];
  let isReady = () => {};
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  const done = work({ server, cache: place("cache"), signal: leave.signal, ...options }, (event) => {
    events.push(event);
    if (event.type === "joined") isReady();
  });
  done.catch(() => isReady());
  const stop = async () => {
    leave.abort();
    await done;
  };
  /** Once it has joined that many runs. */
  const joined = async (times: number) => {
    while (events.filter(({ type }) => type === "joined").length < times)
      await new Promise((resolve) => setTimeout(resolve, 20));
  };
  return { events, ready, joined, done, stop };
}

export interface Outcome {
  weights: Float32Array;
  events: RunEvent[];
  metrics: Record<string, number>[];
}

/**
 * Run to the end. The first step's reward waits for `until`, so that workers are there from the second step on.
 * @param onEvent called with each event; the run waits for what it returns
 */
export async function runSmall(
  model: string,
  config: Readonly<Record<string, unknown>>,
  {
    workers,
    until,
    onEvent,
    reward = builtInRewards.length,
    rewardName = "length",
    algorithm = "ppo",
    out = join(place("run"), "run"),
  }: {
    workers?: WorkersSpec;
    until?: Promise<unknown>;
    onEvent?: (event: RunEvent) => unknown;
    reward?: RewardFunction;
    rewardName?: string;
    algorithm?: "ppo" | "grpo" | "rloo";
    out?: string;
  } = {},
): Promise<Outcome> {
  const options = {
    steps: 4,
    batchSize: 8,
    miniBatchSize: 4,
    rolloutBatchSize: 2,
    maxNewTokens: 8,
    learningRate: 1e-3,
  };
  const prompts = Array.from({ length: 10 }, (_, i) => `This movie number ${i} is`);
  const spec = {
    ...{ algorithm, model, prompts, out, rewardName, threads: 1, workers },
    config: { ...options, saveEvery: 0, ...config },
  } as RewardedSpec;
  const waiting: RewardFunction = async (batch, context) => {
    await until;
    return reward(batch, context);
  };
  const events: RunEvent[] = [];
  for await (const event of run(spec, waiting)) {
    events.push(event);
    await onEvent?.(event);
  }
  const { loadModel } = await import("../../src/families/index.ts");
  const steps = Number(config.steps ?? options.steps);
  const trained = await loadModel(join(out, `checkpoint-${steps}`), { threads: 1 });
  const weights = trained.parameters.data.slice();
  trained.dispose();
  const metrics = events.flatMap((event) => (event.type === "step" ? [withoutTimes(event.metrics)] : []));
  return { weights, events, metrics };
}

const withoutTimes = (metrics: object) =>
  Object.fromEntries(Object.entries(metrics).filter(([name]) => !/^(time|memory)\//.test(name))) as Record<
    string,
    number
  >;

/** How many tasks of workers a run used. */
export const tasksUsed = ({ events }: Outcome): number =>
  events.reduce((n, e) => (e.type === "workers" ? e.workers.reduce((sum, { tasks }) => sum + tasks, 0) : n), 0);

export const said = ({ events }: Pick<Outcome, "events">, type: "note" | "warning"): string[] =>
  events.flatMap((event) => (event.type === type ? [event.message] : []));
