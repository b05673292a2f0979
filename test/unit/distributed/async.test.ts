/** @file Workers that draw ahead (async): what is given out when, and what is older than asked for is refused and named. That the run is that of one machine is in run.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Result } from "../../../src/distributed/messages.ts";
import { rowsToCheck, secretStream } from "../../../src/distributed/validation.ts";
import { hasServer, TestServer } from "../../support/nats.ts";
import { Rogue } from "../../support/rogue.ts";
import { runSmall, said, smallModel, startWorker } from "../../support/workers.ts";

describe.skipIf(!hasServer)("with a server", () => {
  let server: TestServer;
  let model: string;
  beforeAll(async () => {
    server = await TestServer.start();
    model = await smallModel();
  });
  afterAll(() => server.close());
  const workers = () => ({ server: server.url, timeout: 1.5 });

  test("a later step is given out before this one is learned from", async () => {
    const worker = startWorker(server.url);
    const order: string[] = [];
    const onEvent = (event: { type: string; step?: number }) => {
      if (event.type === "step") order.push(`learned ${event.step}`);
    };
    const listening = worker.ready.then(() => Rogue.join(server.url, "ear", false));
    const until = Promise.all([worker.ready, listening]);
    listening.then((ear) => ear.hearTasks(({ step }) => order.push(`given out ${step}`)));
    await runSmall(model, { async: 1 }, { workers: workers(), until, onEvent });
    await (await listening).leave();
    await worker.stop();
    for (const step of [3, 4]) {
      expect(order).toContain(`given out ${step}`);
      expect(order.indexOf(`given out ${step}`)).toBeLessThan(order.indexOf(`learned ${step - 1}`));
    }
    expect(order).not.toContain("given out 5"); // there is no such step
  });

  test("results of older weights are not used, and whose they are is told", async () => {
    const config = { async: 1 };
    const alone = await runSmall(model, config);
    const late = Rogue.join(server.url, "late");
    const until = late;
    let held: Result | undefined;
    const taken = late.then(async (rogue) => {
      let task = await rogue.task();
      while (task.step < 2) task = await rogue.task(); // where he was there before the first step
      held = rogue.invented(task);
    });
    const onEvent = async (event: { type: string; step?: number }) => {
      if (event.type !== "step" || event.step !== 2) return;
      const rogue = await late;
      await taken;
      const { version } = held as Result;
      await rogue.answer(held as Result); // of step 2, which is over
      await rogue.answer({ ...(held as Result), step: 4, version }); // says that it is of step 4, by the weights of step 2's
    };
    const given = { workers: { server: server.url, timeout: 1 }, until, onEvent };
    const outcome = await runSmall(model, config, given);
    await (await late).leave();
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
    expect(said(outcome, "warning")).toContain(
      "a result of worker late came too late: it is of step 2, from weights that are 2 steps old by now (async is 1). It is not used",
    );
    const last = outcome.events.findLast((event) => event.type === "workers");
    expect(last?.workers).toContainEqual(expect.objectContaining({ name: "late", late: 2, tasks: 0 }));
  });

  test("the server is killed and started again while steps are drawn ahead: the run is the same", async () => {
    const config = { async: 2 };
    const alone = await runSmall(model, config);
    const worker = startWorker(server.url);
    let restarts = 0;
    const onEvent = async (event: { type: string; step?: number; phase?: string }) => {
      if (event.type !== "progress" || event.phase !== "update" || event.step !== 2 || restarts > 0) return;
      restarts++;
      await server.kill();
      setTimeout(() => server.start(), 700);
    };
    const outcome = await runSmall(model, config, { workers: workers(), until: worker.ready, onEvent });
    await worker.stop();
    expect(restarts).toBe(1);
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
  });

  test("gradients of workers and async are refused together", async () => {
    const given = { workers: { ...workers(), gradients: "auto" as const } };
    await expect(runSmall(model, { async: 1, microBatchSize: 2 }, given)).rejects.toThrow(
      /workers, gradients: found async 1, expected one of the two: .* Fix: leave --worker-gradients out, or --async/,
    );
  });
});

test("which rows are scored again cannot be foreseen from anything that workers are told", () => {
  // The same part in two runs of the trainer with the same seed: nothing but the secret differs.
  const chosen = () => {
    const chance = secretStream("spotCheck");
    return Array.from({ length: 8 }, () => rowsToCheck(0.05, 64, chance).join()).join(" ");
  };
  expect(new Set(Array.from({ length: 20 }, chosen)).size).toBe(20); // two alike: once in 64^4 8-tuples of 4 rows, at most
  // Each row is as likely as any other: 4 of 64, 2000 times.
  const chance = secretStream("spotCheck");
  const counts = new Array<number>(64).fill(0);
  for (let i = 0; i < 2000; i++) for (const row of rowsToCheck(0.05, 64, chance)) counts[row]++;
  expect(counts.reduce((a, b) => a + b)).toBe(2000 * 4);
  for (const count of counts) expect(Math.abs(count - 125)).toBeLessThan(6 * Math.sqrt(125));
  expect(rowsToCheck(0, 64, chance)).toHaveLength(0);
  expect(rowsToCheck(1e-9, 3, chance)).toHaveLength(1);
});
