/** @file Workers make a run faster and nothing else of it different: the same weights, metrics and samples with any number of them. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hasServer, TestServer } from "../../support/nats.ts";
import { type Outcome, runSmall, said, smallModel, startWorker, tasksUsed } from "../../support/workers.ts";

const RUNS: Readonly<Record<string, { config: Record<string, unknown>; algorithm?: "ppo" | "grpo" | "rloo" }>> = {
  PPO: { config: { topK: 20, klPenalty: "exact" } },
  "PPO in int8, a value model of its own": { config: { rolloutPrecision: "int8", valueModel: "separate" } },
  // Kept sets of half the vocabulary, a bit for each id: 500 kB of them, which go through the object store.
  "results that no message holds": {
    config: { batchSize: 64, rolloutBatchSize: 64, miniBatchSize: 64, topK: 4000, steps: 2 },
  },
  "an adapter": { config: { lora: 4, repetitionPenalty: 1.2 } },
  "GRPO, half of the layers frozen": {
    config: { numGenerations: 2, frozenLayers: 1, stop: [" the"] },
    algorithm: "grpo",
  },
  "PPO drawn ahead, the exact KL": { config: { async: 1, topK: 20, klPenalty: "exact" } },
  "GRPO drawn two steps ahead, an adapter": { config: { async: 2, lora: 4, numGenerations: 2 }, algorithm: "grpo" },
  "GRPO without a reference": { config: { klLog: "none", klCoef: 0, numGenerations: 2 }, algorithm: "grpo" },
  "PPO without a reference, an adapter": { config: { klLog: "none", klCoef: 0, lora: 4, frozenLayers: 1 } },
  "RLOO drawn ahead in int8": {
    config: { async: 1, rolloutPrecision: "int8", numGenerations: 2, steps: 3 },
    algorithm: "rloo",
  },
};
/** None, one and several of them; for the others two are enough. */
const EVERY_COUNT = ["PPO", "PPO drawn ahead, the exact KL"];

describe.skipIf(!hasServer)("with a server", () => {
  let server: TestServer;
  let model: string;
  beforeAll(async () => {
    server = await TestServer.start();
    model = await smallModel();
  });
  afterAll(() => server.close());

  async function withWorkers(count: number, name: string): Promise<Outcome> {
    const { config, algorithm } = RUNS[name];
    const workers = Array.from({ length: count }, () => startWorker(server.url));
    const until = Promise.all(workers.map(({ ready }) => ready));
    const outcome = await runSmall(model, config, { workers: { server: server.url }, until, algorithm });
    for (const { stop } of workers) await stop();
    return outcome;
  }

  test.each(Object.keys(RUNS))("%s: workers end with the weights of one machine", async (name) => {
    const { config, algorithm } = RUNS[name];
    const alone = await runSmall(model, config, { algorithm });
    for (const count of EVERY_COUNT.includes(name) ? [0, 1, 2] : [2]) {
      const outcome = await withWorkers(count, name);
      expect(outcome.weights, `${count} workers`).toEqual(alone.weights);
      expect(outcome.metrics, `${count} workers`).toEqual(alone.metrics);
      expect(said(outcome, "warning")).toEqual(said(alone, "warning"));
      if (count > 0)
        expect(tasksUsed(outcome)).toBeGreaterThanOrEqual(config.rolloutBatchSize ? 1 : 4); // a step at least
      else expect(tasksUsed(outcome)).toBe(0);
    }
  });

  test("four workers too, and each of them is named with what it did", async () => {
    const alone = await runSmall(model, RUNS.PPO.config);
    const outcome = await withWorkers(4, "PPO");
    expect(outcome.weights).toEqual(alone.weights);
    const last = outcome.events.findLast((event) => event.type === "workers");
    expect(last?.workers).toHaveLength(4);
    const steps = outcome.events.filter(({ type }) => type === "workers").length;
    expect(steps).toBeGreaterThanOrEqual(2);
    expect(last?.workers.reduce((n, { responses }) => n + responses, 0)).toBe(8 * steps);
  });

  test("a reward that is a module here alone is asked here, and the run is the same", async () => {
    const reward = (batch: { tokens: number[] }[]) => batch.map(({ tokens }) => tokens[0] % 7);
    const given = { reward, rewardName: "./first-token.mjs" };
    const alone = await runSmall(model, {}, given);
    const worker = startWorker(server.url);
    const outcome = await runSmall(model, {}, { ...given, workers: { server: server.url }, until: worker.ready });
    await worker.stop();
    expect(outcome.weights).toEqual(alone.weights);
    expect(tasksUsed(outcome)).toBeGreaterThanOrEqual(4);
    expect(worker.events).toContainEqual(expect.objectContaining({ type: "joined", judges: false }));
  });

  test("a worker's own copy of the reward judges, and leaves a run that has ended for the next", async () => {
    const judge = (batch: { tokens: number[] }[]) => batch.map(({ tokens }) => tokens[0] % 7);
    let asked = 0;
    const counted = (batch: { tokens: number[] }[]) => {
      asked += batch.length;
      return judge(batch);
    };
    const given = { reward: judge, rewardName: "./first-token.mjs" };
    const alone = await runSmall(model, {}, given);
    const worker = startWorker(server.url, { reward: { name: "copy.mjs", judge: counted } });
    for (const times of [1, 2]) {
      const until = worker.joined(times);
      const outcome = await runSmall(model, {}, { ...given, workers: { server: server.url }, until });
      expect(outcome.weights).toEqual(alone.weights);
    }
    await worker.stop();
    expect(asked).toBeGreaterThanOrEqual(8);
    expect(worker.events.filter(({ type }) => type === "joined")).toHaveLength(2);
  });
});
