/** @file Whatever workers, strangers and the server do, a run ends with the weights of one machine, and says who did what. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Connection, namesOf } from "../../../src/distributed/connection.ts";
import { type Result, resultFromBytes, resultToBytes, type Task } from "../../../src/distributed/messages.ts";
import { hasServer, TestServer } from "../../support/nats.ts";
import { invented, Rogue } from "../../support/rogue.ts";
import { type Outcome, runSmall, said, smallModel, startWorker, tasksUsed } from "../../support/workers.ts";

describe.skipIf(!hasServer)("with a server", () => {
  let server: TestServer;
  let model: string;
  let alone: Outcome;
  beforeAll(async () => {
    server = await TestServer.start();
    model = await smallModel();
    alone = await runSmall(model, {});
  });
  afterAll(() => server.close());
  const workers = () => ({ server: server.url, timeout: 1.5 });

  test("strangers' messages are not used, and told", async () => {
    const worker = startWorker(server.url);
    const stranger = Rogue.join(server.url, "stranger", false);
    const until = Promise.all([worker.ready, stranger]);
    const send = async (type: string) => {
      if (type !== "workers" && type !== "progress") return;
      const { connection, job } = await stranger;
      const { result, task, heartbeat, control } = namesOf(job.run);
      const junk = Uint8Array.from({ length: 60 }, (_, i) => (i * 37) % 256);
      const old = invented(fakeTask, "stranger");
      for (const bytes of [junk, new Uint8Array(), Uint8Array.of(0), Uint8Array.of(1, 65), resultToBytes(old)])
        for (const subject of [`${result}.2`, heartbeat, control]) await connection.say(subject, bytes);
      await connection.publish(`${result}.3`, new Uint8Array([0, ...resultToBytes(old)]));
      await connection.publish(`${task}.2`, junk);
    };
    const outcome = await runSmall(model, {}, { workers: workers(), until, onEvent: ({ type }) => send(type) });
    await (await stranger).leave();
    await worker.stop();
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
    expect(tasksUsed(outcome)).toBeGreaterThanOrEqual(4);
    expect(said(outcome, "warning").join("\n")).toMatch(
      /a message among the results is none of a worker .* it is not used/,
    );
    expect(said(outcome, "warning").join("\n")).toContain(
      "a result of stranger is of another session of the run: it is not used",
    );
  });

  test("a worker that invents its numbers is refused and named, and its parts are done again", async () => {
    const liar = Rogue.join(server.url, "liar");
    const lie = liar.then(async (rogue) => {
      const task = await rogue.task();
      await rogue.answer(invented(task, "liar"));
      await rogue.answer({ ...invented(task, "liar"), index: 3 });
    });
    const outcome = await runSmall(model, {}, { workers: workers(), until: liar });
    await lie;
    await (await liar).leave();
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
    expect(said(outcome, "warning").join("\n")).toMatch(
      /worker liar is refused: log-probs [\d.]+ nats away from what the (reference|policy) says of 1 of the responses\. Nothing of it is used from now on/,
    );
    const last = outcome.events.findLast((event) => event.type === "workers");
    expect(last?.workers).toContainEqual(expect.objectContaining({ name: "liar", state: "refused", tasks: 0 }));
  });

  test.each<[string, (result: Result) => Result, RegExp]>([
    ["too few scores", (r) => ({ ...r, scores: [1] }), /1 scores for 2 responses/],
    ["answers to others", (r) => withQueries(r), /answers to other prompts/],
  ])("%s: refused at sight", async (_, change, message) => {
    const liar = Rogue.join(server.url, "liar");
    const lie = liar.then(async (rogue) => rogue.answer(change(invented(await rogue.task(), "liar"))));
    const outcome = await runSmall(model, { steps: 2 }, { workers: workers(), until: liar });
    await lie;
    await (await liar).leave();
    expect(said(outcome, "warning").join("\n")).toMatch(message);
    expect(outcome.metrics).toEqual(alone.metrics.slice(0, 2).map((metrics) => expect.objectContaining(idle(metrics))));
  });

  test("a task that its worker never finishes goes to another after the timeout", async () => {
    const lazy = Rogue.join(server.url, "lazy");
    const worker = startWorker(server.url);
    const taken = lazy.then(async (rogue) => rogue.task());
    const outcome = await runSmall(model, {}, { workers: workers(), until: Promise.all([worker.ready, lazy]) });
    await taken;
    await (await lazy).leave();
    await worker.stop();
    expect(outcome.weights).toEqual(alone.weights);
  });

  test("one who is there and does nothing is overtaken", async () => {
    const sleeper = Rogue.join(server.url, "sleeper");
    const outcome = await runSmall(model, {}, { workers: workers(), until: sleeper });
    await (await sleeper).leave();
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.events).toContainEqual(expect.objectContaining({ type: "workers", here: 4 }));
    expect(outcome.events.filter(({ type }) => type === "warning")).toEqual([]);
  });

  test("results that come twice count once", async () => {
    const worker = startWorker(server.url);
    const echo = Rogue.join(server.url, "echo", false);
    const echoed: string[] = [];
    const listening = echo.then(({ connection, job }) =>
      connection.subscribe(`${namesOf(job.run).result}.*`, (bytes) => {
        const { step, index, worker: by } = resultFromBytes(bytes.subarray(1));
        const key = `${step} ${index}`;
        if (echoed.filter((other) => other === key).length > 1) return;
        echoed.push(key);
        connection.say(`${namesOf(job.run).result}.${step}`, bytes);
        expect(by).not.toBe("echo");
      }),
    );
    const outcome = await runSmall(model, {}, { workers: workers(), until: Promise.all([worker.ready, listening]) });
    await (await echo).leave();
    await worker.stop();
    expect(outcome.weights).toEqual(alone.weights);
    const reports = outcome.events.filter((event) => event.type === "workers");
    const [{ responses, late }] = reports[reports.length - 1].workers;
    expect(responses).toBe(8 * reports.length);
    expect(late).toBeGreaterThan(0);
  });

  test("weights that were tampered with are not loaded, and the trainer is told", async () => {
    const rogue = Rogue.join(server.url, "tamperer");
    let worker: ReturnType<typeof startWorker> | undefined;
    const tampered = rogue.then(async ({ connection, job, task }) => {
      const { version } = await task.call(await rogue);
      const name = `weights-${version}`;
      const bytes = (await connection.getObject(job.run, name)) as Uint8Array;
      bytes[bytes.length - 3] ^= 16;
      await connection.putObject(job.run, name, bytes);
      worker = startWorker(server.url);
      await worker.ready;
      await (await rogue).leave();
    });
    const outcome = await runSmall(model, {}, { workers: workers(), until: rogue });
    await tampered;
    await worker?.stop();
    expect(outcome.weights).toEqual(alone.weights);
    expect(said(outcome, "warning").join("\n")).toMatch(
      /the weights that reached worker \S+ are not those that were sent: .* with another SHA-256 than it should have/,
    );
  });

  test("the server is killed and started again in the middle of a step: the run goes on", async () => {
    const worker = startWorker(server.url);
    let restarts = 0;
    const onEvent = async (event: { type: string; step?: number }) => {
      if (event.type !== "progress" || event.step !== 2 || restarts > 0) return;
      restarts++;
      await server.kill();
      setTimeout(() => server.start(), 1000);
    };
    const outcome = await runSmall(model, {}, { workers: workers(), until: worker.ready, onEvent });
    await worker.stop();
    expect(restarts).toBe(1);
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
  });

  test("a wrong token is a clear refusal, for trainer and worker; the right one opens", async () => {
    const guarded = await TestServer.start(["--auth", "right-token"]);
    const refusal =
      /NATS server nats:\/\/127\.0\.0\.1:\d+: found a refusal \(.*\), expected a user, token or credentials file that the server knows/;
    const spec = { server: guarded.url, token: "wrong" };
    await expect(Connection.connect(spec, "test")).rejects.toThrow(refusal);
    await expect(startWorker(guarded.url, { token: "wrong" }).done).rejects.toThrow(refusal);
    await expect(runSmall(model, {}, { workers: spec })).rejects.toThrow(refusal);
    for (const right of [
      { server: guarded.url, token: "right-token" },
      { server: guarded.url.replace("//", "//right-token@") },
    ])
      await (await Connection.connect(right, "test")).close();
    await guarded.close();
  });

  test("no server is an error that says what to start", async () => {
    await expect(Connection.connect({ server: "nats://127.0.0.1:1" }, "test")).rejects.toThrow(
      /NATS server nats:\/\/127\.0\.0\.1:1: found no connection .* Fix: start one \(nats-server -js\)/,
    );
  });
});

const fakeTask: Task = {
  ...{ session: "another", step: 2, version: "0".repeat(64), rows: 2, judge: true },
  part: {
    ...{ index: 0, start: 0, copies: 1, streams: [0, 1] },
    prompts: [
      { prompt: "a", row: {} },
      { prompt: "b", row: {} },
    ],
    queries: [Int32Array.of(1), Int32Array.of(2)],
  },
};

function withQueries(result: Result): Result {
  const { data, reference } = result.answer as NonNullable<Result["answer"]>;
  const queries = data.queries.map(() => Int32Array.of(7));
  return { ...result, answer: { data: { ...data, queries }, reference } };
}

/** What a step's metrics share whatever comes after it. */
const idle = (metrics: Record<string, number>) => ({ "objective/kl": metrics["objective/kl"] });
