/** @file What must hold of a PPO step whatever the options, and of a run however it is cut up. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TrainEvent } from "../../src/algorithms/events.ts";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { builtInRewards, type RewardFunction } from "../../src/experience/reward-functions.ts";
import type { RunEvent } from "../../src/run/events.ts";
import { run } from "../../src/run/run.ts";
import type { RunSpec } from "../../src/run/spec.ts";
import type { Transform } from "../../src/sample/transforms.ts";
import { familyNames, smallModel, wholeFamilyNames } from "../support/families.ts";
import { small, tokenizer, trainSmall } from "../support/ppo.ts";

const prompts = ["This movie", "The acting in this film was", "I", "Well, the director", "It was about a", "Two"];
const newModel = (family = "gpt2") =>
  smallModel(family, { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 2, seed: 5 });

let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "valuehead-"));
  for (const family of familyNames) {
    await newModel(family).savePretrained(join(directory, family));
    await tokenizer.save(join(directory, family));
  }
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const train = (config: Partial<PPOConfig>, reward?: RewardFunction, family?: string) =>
  trainSmall(newModel(family), prompts, config, reward);

describe("the policy ratio", () => {
  const grid = [
    {},
    { temperature: 0.7 },
    { topK: 5 },
    { topP: 0.8 },
    { minNewTokens: 10 },
    { maxNewTokens: 14 }, // long enough for transposed weights
    { temperature: 1.3, topK: 50, topP: 0.9, minNewTokens: 4 },
    { repetitionPenalty: 1.2, minP: 0.01, bannedTokens: [11, 50], stop: ["e", "."], klLog: "exact" as const },
  ];
  test.each(grid.flatMap((sampling) => familyNames.map((family) => [family, sampling] as const)))(
    "of %s is 1 in the first minibatch with %o",
    async (family, sampling) => {
      const { metrics } = await train(sampling, undefined, family);
      for (const m of metrics) expect(m["ppo/policy/first_ratio_deviation"]).toBeLessThan(1e-4);
    },
  );

  test.each(grid)("stays 1 for all epochs when nothing is learned, with %o", async (sampling) => {
    const { metrics } = await train({ ...sampling, learningRate: 0 });
    for (const m of metrics) {
      expect(Math.abs((m["ppo/policy/ratio_max"] as number) - 1)).toBeLessThan(1e-4);
      expect(Math.abs((m["ppo/policy/ratio_min"] as number) - 1)).toBeLessThan(1e-4);
      expect(Math.abs(m["objective/kl"] as number)).toBeLessThan(1e-4);
      expect(m["ppo/policy/clipfrac"]).toBe(0);
    }
  });

  test("is 1 with transforms of the user, which decide what is said", async () => {
    const even: Transform = {
      kind: "truncate",
      name: "even",
      dependsOnTokens: false,
      keep: ({ logits }) => Int32Array.from(logits, (_, v) => v).filter((v) => v % 2 === 0),
    };
    const again: Transform = {
      kind: "adjust",
      name: "again",
      dependsOnTokens: true,
      bias: ({ response }) => ({
        ids: response.slice(-1),
        values: new Float32Array(Math.min(1, response.length)).fill(6),
      }),
    };
    const model = newModel();
    const options = { model, tokenizer, reward: builtInRewards.length, transforms: [even, again] };
    const trainer = new PPOTrainer({ ...options, config: small });
    let repeated = 0;
    for await (const event of trainer.train(prompts)) {
      if (event.type !== "step") continue;
      expect(event.metrics["ppo/policy/first_ratio_deviation"]).toBeLessThan(1e-4);
      for (const { tokens } of event.samples) {
        expect(tokens.every((id) => id % 2 === 0)).toBe(true);
        repeated += tokens.filter((id, t) => id === tokens[t - 1]).length;
      }
    }
    expect(repeated).toBeGreaterThan(5);
    model.dispose();
  });

  test("a banned token that is not in the vocabulary is refused before anything is sampled", () => {
    const options = { model: newModel(), tokenizer, reward: builtInRewards.length };
    expect(() => new PPOTrainer({ ...options, config: { bannedTokens: [5, 8192] } })).toThrow(
      "bannedTokens: found token 8192, expected ids from 0 to 8191. Fix: use ids of this model's tokenizer",
    );
    options.model.dispose();
  });

  describe("without replay", () => {
    const events = async (config: Partial<PPOConfig>) => {
      const model = newModel();
      const trainer = new PPOTrainer({
        model,
        tokenizer,
        reward: builtInRewards.length,
        config: { ...small, ...config },
      });
      const seen: TrainEvent[] = [];
      const run = async () => {
        for await (const event of trainer.train(prompts)) seen.push(event);
      };
      const error = await run().catch((e: unknown) => e as Error);
      model.dispose();
      return { seen, error };
    };
    const gap = { maskReplay: false, topP: 0.8, minNewTokens: 10 };

    test("the run begins with a warning, and the audit stops it with the reason", async () => {
      const { seen, error } = await events(gap);
      expect(seen[0]).toMatchObject({ type: "warning", step: 0 });
      expect((seen[0] as { message: string }).message).toMatch(/^maskReplay is off: tokens drawn from a truncated/);
      expect(error?.message).toMatch(
        /PPO step 1: found a policy ratio .*Fix: maskReplay is off, so kept sets are left out when tokens are scored: set maskReplay to true/,
      );
    });

    test("with audit warn it goes on, and the mean ratio is about the kept mass", async () => {
      const { seen, error } = await events({ ...gap, audit: "warn", learningRate: 0 });
      expect(error).toBeUndefined();
      const steps = seen.filter((e) => e.type === "step");
      expect(steps).toHaveLength(2);
      for (const { metrics } of steps)
        expect(metrics["ppo/policy/ratio_mean"]).toBeCloseTo(metrics["tokens/kept_mass_mean"] as number, 4);
      expect(seen.filter((e) => e.type === "warning")).toHaveLength(3);
    });

    test("and with replay it is 1, with the same kept mass and no warning", async () => {
      const { seen } = await events({ ...gap, maskReplay: true, learningRate: 0 });
      expect(seen.some((e) => e.type === "warning")).toBe(false);
      for (const e of seen)
        if (e.type === "step") {
          expect(e.metrics["ppo/policy/ratio_mean"]).toBeCloseTo(1, 5);
          expect(e.metrics["tokens/kept_mass_mean"]).toBeLessThan(0.95);
          expect(e.metrics["tokens/kept_mass_min"]).toBeGreaterThan(0);
        }
    });
  });

  test("a run whose sampling and scoring disagree stops", async () => {
    const model = newModel();
    const trainer = new PPOTrainer({ model, tokenizer, reward: builtInRewards.length, config: small });
    const score = model.head.loss.bind(model.head);
    model.head.loss = (params, asked, ...rest) =>
      score(params, { ...asked, distribution: { temperature: 0.8 } }, ...rest);
    const steps = async () => {
      for await (const _ of trainer.train(prompts));
    };
    await expect(steps()).rejects.toThrow(
      /PPO step 1: found a policy ratio .* away from 1 before any weight had moved/,
    );
  });
});

// Adam divides by the root of the squared gradient: without a large epsilon rounding shows where a gradient is almost 0.
const oneUpdate: Partial<PPOConfig> = { steps: 1, ppoEpochs: 1, miniBatchSize: 8, adamEpsilon: 1e-3 };
const largestGap = (a: Float32Array, b: Float32Array) =>
  a.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);

test("gradients of micro-batches add up to those of the minibatch", async () => {
  const whole = await train(oneUpdate);
  const parts = await train({ ...oneUpdate, microBatchSize: 1 });
  const halves = await train({ ...oneUpdate, miniBatchSize: 4 });
  expect(largestGap(whole.weights, parts.weights)).toBeLessThan(1e-6);
  expect(largestGap(whole.weights, halves.weights)).toBeGreaterThan(1e-5); // two updates are not one
  expect(parts.metrics[0]["ppo/loss/policy"]).toBeCloseTo(whole.metrics[0]["ppo/loss/policy"] as number, 5);
});

test("recomputing activations changes nothing but time", async () => {
  const kept = await train(oneUpdate);
  const recomputed = await train({ ...oneUpdate, gradientCheckpointing: true });
  expect(largestGap(kept.weights, recomputed.weights)).toBeLessThan(1e-6);
});

test("frozen layers stay as they are, also where sampling transposes the weights of several rows", async () => {
  const { weights } = await train({ ...oneUpdate, frozenLayers: 1, maxNewTokens: 16 });
  const model = newModel();
  const { start } = model.parameters.table.find((p) => p.name === "transformer.h.1.ln_1.weight") as { start: number };
  expect(weights.subarray(0, start)).toEqual(model.parameters.data.subarray(0, start));
  expect(weights.subarray(start)).not.toEqual(model.parameters.data.subarray(start));
  model.dispose();
});

test("the KL of the reward, of the log and of the controller are the ones named", async () => {
  const config: Partial<PPOConfig> = { steps: 3, batchSize: 32, learningRate: 1e-2, klHorizon: 100 };
  const sampled = await train(config);
  // The first update is the same, so this is near the KL of the second step: the controller's error is not clipped.
  const klTarget = sampled.metrics[1]["objective/kl_k1"] as number;
  const exact = await train({ ...config, klTarget, klLog: "exact", klPenalty: "exact" });
  for (const m of exact.metrics) {
    expect(m["objective/kl"]).toBe(m["objective/kl_exact"]);
    expect(m["objective/kl_stderr"]).toBe(m["objective/kl_exact_stderr"]);
  }
  for (const m of sampled.metrics) {
    expect(m["objective/kl"]).toBe(m["objective/kl_k1"]);
    expect(m["objective/kl_exact"]).toBeUndefined();
  }
  const last = exact.metrics[2];
  expect(last["objective/kl_exact"]).toBeGreaterThan(0.01);
  const gap = (last["objective/kl_k1"] as number) - (last["objective/kl_exact"] as number);
  expect(Math.abs(gap)).toBeLessThan(4 * (last["objective/kl_k1_stderr"] as number));
  // beta (1 + clamp(kl / target - 1, -0.2, 0.2) n / horizon), n = 32: Ziegler et al. 2019, section 2.2
  const error = (exact.metrics[1]["objective/kl_exact"] as number) / klTarget - 1;
  expect(Math.abs(error)).toBeGreaterThan(0.001); // k1 and exact are not the same number
  expect(Math.abs(error)).toBeLessThan(0.2);
  const before = exact.metrics[1]["objective/kl_coef"] as number;
  expect(last["objective/kl_coef"]).toBeCloseTo(before * (1 + (error * 32) / 100), 6);
});

test("the same seed gives the same weights, another seed others", async () => {
  const [a, b, c] = [await train({ steps: 1 }), await train({ steps: 1 }), await train({ steps: 1, seed: 4 })];
  expect(b.weights).toEqual(a.weights);
  expect(c.weights).not.toEqual(a.weights);
});

test("what is rewarded becomes more likely", async () => {
  const spaces: RewardFunction = (batch) => batch.map(({ response }) => response.split(" ").length / 10);
  const config = {
    steps: 10, // some +0.27 +- 0.03, whatever the processor's rounding makes of the draws
    batchSize: 64,
    miniBatchSize: 16,
    rolloutBatchSize: 64,
    klCoef: 0.001,
    learningRate: 1e-2,
    minNewTokens: 10,
  };
  const { metrics } = await train(config, spaces);
  const means = metrics.map((m) => m["env/reward_mean"] as number);
  expect(means.at(-1)).toBeGreaterThan(means[0] + 0.15);
  expect(metrics.at(-1)?.["objective/kl"]).toBeGreaterThan(0.5);
});

describe("a run directory", () => {
  const collect = async (spec: RunSpec, signal?: AbortSignal, onEvent: (e: RunEvent) => void = () => {}) => {
    const events: RunEvent[] = [];
    for await (const event of run(spec, builtInRewards.length, { signal })) {
      events.push(event);
      onEvent(event);
    }
    return events;
  };
  const spec = (out: string, steps = 4, family = "gpt2"): RunSpec => ({
    model: join(directory, family),
    prompts,
    out: join(directory, out),
    rewardName: "length",
    config: { ...small, steps, saveEvery: 0 },
    threads: 2,
  });

  // with LoRA: test/unit/run/lora-run.test.ts
  test.each(wholeFamilyNames)("%s: resumed after an interruption equals uninterrupted, bit for bit", async (family) => {
    const [one, two] = [`${family}-whole`, `${family}-parts`];
    await collect(spec(one, 4, family));
    const controller = new AbortController();
    const interrupted = await collect(spec(two, 4, family), controller.signal, (e) => {
      if (e.type === "step" && e.step === 2) controller.abort();
    });
    expect(interrupted.at(-1)).toMatchObject({ type: "done", step: 2, interrupted: true });
    const resumed = await collect({ ...spec(two, 4, family), resume: true });
    expect(resumed.find((e) => e.type === "loaded")).toMatchObject({ resumedAt: 2 });
    expect(resumed.filter((e) => e.type === "step").map((e) => e.step)).toEqual([3, 4]);

    const read = (out: string, file: string) => readFileSync(join(directory, out, file));
    for (const file of ["model.safetensors", "trainer.safetensors", "trainer.json", "config.json"])
      expect(read(two, `checkpoint-4/${file}`).equals(read(one, `checkpoint-4/${file}`)), file).toBe(true);

    const metrics = (out: string) =>
      read(out, "metrics.jsonl")
        .toString()
        .trim()
        .split("\n")
        .map((line) => {
          const m = JSON.parse(line);
          for (const name of Object.keys(m)) if (/^(time|memory)\//.test(name)) delete m[name];
          return m;
        });
    expect(metrics(two)).toEqual(metrics(one));
    expect(metrics(two)).toHaveLength(4);
    expect(read(two, "samples.jsonl").equals(read(one, "samples.jsonl"))).toBe(true);
    const samples = read(two, "samples.jsonl")
      .toString()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    for (const step of [1, 2, 3, 4]) {
      const ofStep = samples.filter((sample) => sample.step === step);
      expect(ofStep.length).toBeGreaterThanOrEqual(4); // and the best and the worst of the batch
      expect(ofStep.length).toBeLessThanOrEqual(6);
      const scores = ofStep.map(({ score }) => score);
      const line = metrics(two)[step - 1];
      expect([Math.min(...scores), Math.max(...scores)]).toEqual([line["env/reward_min"], line["env/reward_max"]]);
    }
  });

  test("resumed from a checkpoint in the middle equals uninterrupted, bit for bit", async () => {
    const stop = new Error("the machine went down");
    const options = {
      ...spec("crash"),
      config: { ...spec("crash").config, saveEvery: 1, keepCheckpoints: 2, keepBest: false },
    };
    const crashing = async () => {
      for await (const event of run(options, builtInRewards.length))
        if (event.type === "step" && event.step === 3) throw stop;
    };
    await expect(crashing()).rejects.toThrow(stop); // after the step was logged, and saved
    expect(
      readdirSync(join(directory, "crash"))
        .filter((name) => name.startsWith("checkpoint"))
        .sort(),
    ).toEqual(["checkpoint-2", "checkpoint-3"]);
    rmSync(join(directory, "crash", "checkpoint-3"), { recursive: true });
    const resumed = await collect({ ...options, resume: true });
    expect(resumed.filter((e) => e.type === "step").map((e) => e.step)).toEqual([3, 4]);
    const weights = (out: string) => readFileSync(join(directory, out, "checkpoint-4", "model.safetensors"));
    expect(weights("crash").equals(weights("gpt2-whole"))).toBe(true);
    const lines = readFileSync(join(directory, "crash", "metrics.jsonl"), "utf8")
      .trim()
      .split("\n");
    expect(lines.map((line) => JSON.parse(line).step)).toEqual([1, 2, 3, 4]);
  });

  test("an output directory that is not empty, or has nothing to resume, is refused", async () => {
    await expect(collect({ ...spec("gpt2") })).rejects.toThrow(/gpt2: found .*, expected .*empty/);
    await expect(collect({ ...spec("nothing"), resume: true })).rejects.toThrow(/nothing: found no run/);
  });

  test("a reward that throws costs its own step only: what was done before is saved and can be resumed", async () => {
    const asked: string[][] = [];
    const breaking: RewardFunction = (batch) => {
      asked.push(batch.map(({ text }) => text));
      if (asked.length === 6) throw new Error("out of tea"); // two calls a step: in the third step
      return builtInRewards.length(batch);
    };
    const events: RunEvent[] = [];
    const running = async () => {
      for await (const event of run(spec("tea"), breaking)) events.push(event);
    };
    await expect(running()).rejects.toThrow(/reward length: found an exception \(out of tea\)/);
    expect(events.at(-1)).toMatchObject({ type: "checkpoint", step: 2 });
    const lost = asked.splice(0).slice(4);
    for await (const _ of run({ ...spec("tea"), resume: true }, breaking));
    expect(asked.slice(0, 2)).toEqual(lost); // the same responses are sampled again
    const weights = (out: string) => readFileSync(join(directory, out, "checkpoint-4", "model.safetensors"));
    expect(weights("tea").equals(weights("gpt2-whole"))).toBe(true);
  });

  test("a reward that fails stops the run and leaves no checkpoint half-written", async () => {
    const broken: RewardFunction = () => [1];
    const events = async () => {
      for await (const _ of run({ ...spec("broken") }, broken));
    };
    await expect(events()).rejects.toThrow(/reward length: found 1 scores, expected 4/);
    expect(readdirSync(join(directory, "broken")).filter((name) => name.startsWith("checkpoint"))).toEqual([]);
    const again = await collect({ ...spec("broken"), resume: true }); // nothing to go on from: it begins again
    expect(again.filter((e) => e.type === "step").map((e) => e.step)).toEqual([1, 2, 3, 4]);
  });
});
