/** @file Gradients as tasks: the bits of a run do not depend on who computed them, a wrong one is found, and a slow line keeps them here. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Connection, namesOf } from "../../../src/distributed/connection.ts";
import { ownShare, payingBandwidth, updateSeconds, whyNot } from "../../../src/distributed/gradient-link.ts";
import {
  type GradientResult,
  gradientResultFromBytes,
  gradientResultToBytes,
  isOfGradient,
} from "../../../src/distributed/gradient-messages.ts";
import { wrongGradient } from "../../../src/distributed/gradients.ts";
import { jobFromBytes } from "../../../src/distributed/messages.ts";
import { llama } from "../../../src/families/llama.ts";
import { newModel } from "../../../src/model/load.ts";
import { CausalLMWithValueHead } from "../../../src/model/model.ts";
import { hasServer, TestServer } from "../../support/nats.ts";
import { tokenizer } from "../../support/ppo.ts";
import { type Outcome, place, runSmall, said, smallModel, startWorker } from "../../support/workers.ts";

const lora = { lora: 4, microBatchSize: 1, steps: 3 };
const RUNS: Readonly<
  Record<string, { config: Record<string, unknown>; algorithm?: "ppo" | "grpo" | "rloo"; of?: "llama" }>
> = {
  "PPO, an adapter on a GPT-2": { config: { ...lora, ppoEpochs: 2, topK: 20 } },
  "GRPO, an adapter on a Llama": { config: { ...lora, numGenerations: 2 }, algorithm: "grpo", of: "llama" },
  "RLOO, an adapter on a GPT-2": { config: { ...lora, numGenerations: 2, epochs: 2 }, algorithm: "rloo" },
  "PPO, an adapter on a Llama, a value model of its own": {
    config: { ...lora, ppoEpochs: 1, valueModel: "separate" },
    of: "llama",
  },
};

/** Gradients that the workers of a run computed and that were used. */
const computed = ({ events }: Outcome) => {
  const last = events.findLast((event) => event.type === "workers");
  return last?.workers.reduce((n, { gradients = 0 }) => n + gradients, 0) ?? 0;
};

async function smallLlama(): Promise<string> {
  const directory = place("llama");
  const config = llama.readConfig(
    {
      ...{ model_type: "llama", vocab_size: 8192, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2 },
      ...{ num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 48, rms_norm_eps: 1e-5 },
      ...{ bos_token_id: 8191, eos_token_id: 8191, hidden_act: "silu", tie_word_embeddings: true },
    },
    "test",
  );
  const model = new CausalLMWithValueHead(newModel(llama, config, { seed: 1 }), { threads: 1 });
  await model.savePretrained(directory);
  await tokenizer.save(directory);
  model.dispose();
  return directory;
}

describe.skipIf(!hasServer)("with a server", () => {
  let server: TestServer;
  let models: Record<string, string>;
  beforeAll(async () => {
    server = await TestServer.start();
    models = { gpt2: await smallModel(), llama: await smallLlama() };
  });
  afterAll(() => server.close());
  const shared = () => ({ server: server.url, timeout: 1.5, gradients: "always" as const });

  test.each(Object.keys(RUNS))("%s: the same bits, whoever computes gradients", async (name) => {
    const { config, algorithm, of = "gpt2" } = RUNS[name];
    const alone = await runSmall(models[of], config, { algorithm });
    for (const count of name.startsWith("PPO, an adapter on a GPT-2") ? [0, 1, 2, 4] : [2]) {
      const workers = Array.from({ length: count }, () => startWorker(server.url));
      const until = Promise.all(workers.map(({ ready }) => ready));
      const outcome = await runSmall(models[of], config, { algorithm, workers: shared(), until });
      for (const { stop } of workers) await stop();
      expect(outcome.weights, `${count} workers`).toEqual(alone.weights);
      expect(outcome.metrics, `${count} workers`).toEqual(alone.metrics);
      expect(said(outcome, "warning"), `${count} workers`).toEqual(said(alone, "warning"));
      if (count > 0) expect(computed(outcome), `${count} workers`).toBeGreaterThan(0);
      else expect(computed(outcome)).toBe(0);
    }
  });

  test("full training: the same bits with any number of workers, none too", async () => {
    const config = { microBatchSize: 2, steps: 2, ppoEpochs: 1 };
    const none = await runSmall(models.gpt2, config, { workers: shared() });
    const worker = startWorker(server.url);
    const one = await runSmall(models.gpt2, config, { workers: shared(), until: worker.ready });
    await worker.stop();
    expect(one.weights).toEqual(none.weights);
    expect(computed(none)).toBe(0);
    expect(computed(one)).toBeGreaterThan(0);
  });

  test("a worker whose gradient was changed on its way is refused and named, and the run is the same", async () => {
    const { config } = RUNS["PPO, an adapter on a GPT-2"];
    const alone = await runSmall(models.gpt2, config);
    const worker = startWorker(server.url);
    let changed = 0;
    const tamper = async () => {
      const connection = await Connection.connect({ server: server.url }, "tamperer");
      const [run] = await connection.runs();
      const { result, heartbeat } = namesOf(run);
      const job = jobFromBytes((await connection.last(run, namesOf(run).job)) as Uint8Array);
      const ready = { worker: "tamperer", session: job.session, state: "ready" as const };
      const { heartbeatToBytes } = await import("../../../src/distributed/messages.ts");
      const sign = () =>
        connection.say(
          heartbeat,
          heartbeatToBytes({ ...ready, host: "h", cpu: "c", arch: "a", threads: 1, judges: true }),
        );
      sign();
      const heart = setInterval(sign, 200);
      const end = connection.subscribe(`${result}.*`, async (bytes) => {
        const message = await connection.open(run, bytes);
        if (!message || !isOfGradient(message)) return;
        const honest = gradientResultFromBytes(message) as GradientResult & { gradient: object };
        if (honest.worker === "tamperer") return;
        changed++; // more than once: a lie about a microbatch that is here already is not looked at
        const grads = honest.gradient.grads.map((x) => 1.01 * x);
        const lie = { ...honest, worker: "tamperer", gradient: { ...honest.gradient, grads } };
        for (let index = 0; index < 4; index++)
          connection.say(`${result}.${honest.step}`, new Uint8Array([0, ...gradientResultToBytes({ ...lie, index })]));
      });
      const close = () => {
        clearInterval(heart);
        end();
        return connection.close();
      };
      return { close };
    };
    let rogue: Awaited<ReturnType<typeof tamper>> | undefined;
    const onEvent = async ({ type }: { type: string }) => {
      if (type === "progress" && !rogue) rogue = await tamper();
    };
    const given = { workers: { ...shared(), check: 1 }, until: worker.ready, onEvent };
    const outcome = await runSmall(models.gpt2, config, given);
    await rogue?.close();
    await worker.stop();
    expect(changed).toBeGreaterThan(0);
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
    expect(said(outcome, "warning").join("\n")).toMatch(
      /worker tamperer is refused: a gradient .* Nothing of it is used from now on/,
    );
  });

  test("a worker that takes a microbatch and is never heard of again costs that microbatch only", async () => {
    const { config } = RUNS["RLOO, an adapter on a GPT-2"];
    const alone = await runSmall(models.gpt2, config, { algorithm: "rloo" });
    const worker = startWorker(server.url);
    let taken = 0;
    const stop = new AbortController();
    const steal = async () => {
      const thief = await Connection.connect({ server: server.url }, "thief");
      const [run] = await thief.runs();
      while (taken === 0 && !stop.signal.aborted) {
        const message = await thief.nextTask(run);
        const bytes = message && (await thief.open(run, message.data));
        if (bytes && isOfGradient(bytes)) taken++;
        else message?.nak(1);
      }
      await thief.close(); // as when it is killed: neither a result nor an acknowledgement
    };
    let stealing: Promise<void> | undefined;
    const onEvent = ({ type, phase }: { type: string; phase?: string }) => {
      if (type === "progress" && phase === "update") stealing ??= steal();
    };
    const given = { algorithm: "rloo" as const, workers: shared(), until: worker.ready, onEvent };
    const outcome = await runSmall(models.gpt2, config, given);
    stop.abort();
    await stealing;
    await worker.stop();
    expect(taken).toBe(1);
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
    expect(computed(outcome)).toBeGreaterThan(0);
  });

  test("one microbatch for each optimizer step is nothing to share", async () => {
    await expect(runSmall(models.gpt2, {}, { workers: shared() })).rejects.toThrow(
      /workers, gradients: found one microbatch for each optimizer step \(microBatchSize 0, miniBatchSize 4\).* Fix: set microBatchSize .* such as 1/,
    );
  });
});

// By hand: 7 microbatches of 2 s, 1 worker, which gets 4 of them. Weights up 1 s and down 0.5, 8 s, its last gradient up 1 s, four of them down.
test("what an optimizer step takes with workers and without", () => {
  expect(ownShare(7, 1)).toBe(3);
  const facts = { microbatches: 7, workers: 1, seconds: 2 };
  expect(updateSeconds({ up: 1, down: 0.5 }, facts)).toEqual({ alone: 14, shared: 1 + 0.5 + 8 + 1 + 2 });
  // 1 + 1 + 1 + 4 times the bytes, in the 6 s that are gained
  expect(payingBandwidth(600, facts)).toBeCloseTo((7 * 600) / 6);
  const line = 600 / payingBandwidth(600, facts);
  expect(updateSeconds({ up: line, down: line }, facts).shared).toBeCloseTo(14);
});

test("a line that is too slow is said with its figures, and how to use it all the same", () => {
  const facts = { microbatches: 8, workers: 1, seconds: 4 };
  expect(whyNot({ bytes: 498e6, up: 5, down: 3 }, facts)).toBeDefined();
  expect(whyNot({ bytes: 9.8e6, up: 0.1, down: 0.1 }, facts)).toBeUndefined();
  expect(whyNot({ bytes: 498e6, up: 5, down: 3 }, facts)).toBe(
    "gradients are computed by the trainer alone: one has 498 MB, which takes 5 s to the server and 3 s back, and a microbatch takes 4 s. An optimizer step of 8 microbatches would take 41 s with 1 worker and takes 32 s without. It pays from 1740 Mbit/s on; --worker-gradients always gives them out all the same",
  );
});

test("a gradient of the same kind of processor has the same bits; of another it may differ by rounding", () => {
  const scores = { logprobs: Float32Array.of(-1, -2), values: Float32Array.of(0, 1), entropies: Float32Array.of(1, 1) };
  const own = { loss: 0.5, ...scores, grads: Float32Array.of(1, -2, 3) };
  const near = { ...own, grads: Float32Array.of(1.00001, -2, 3) };
  const far = { ...own, grads: Float32Array.of(1.1, -2, 3) };
  expect(wrongGradient(own, own, true)).toBeUndefined();
  expect(wrongGradient(near, own, false)).toBeUndefined();
  expect(wrongGradient(near, own, true)).toContain("in the last bits, though its processor is of the same kind");
  for (const alike of [true, false])
    expect(wrongGradient(far, own, alike)).toMatch(/a gradient that differs .*\(0\.027\)/);
  expect(wrongGradient({ ...own, grads: Float32Array.of(1, Number.NaN, 3) }, own, false)).toContain("(Infinity)");
});
