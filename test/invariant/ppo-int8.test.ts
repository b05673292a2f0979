/** @file PPO steps whose responses an int8 copy of the policy draws. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { TrainEvent } from "../../src/algorithms/events.ts";
import { ppoConfig } from "../../src/algorithms/options/config.ts";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import type { MetricName } from "../../src/rl/metrics.ts";
import { run } from "../../src/run/run.ts";
import type { RunSpec } from "../../src/run/spec.ts";
import { familyNames, smallModel, wholeFamilyNames } from "../support/families.ts";
import { small, tokenizer, trainSmall } from "../support/ppo.ts";

const prompts = ["This movie", "The acting in this film was", "I", "Well, the director"];
const newModel = (family = "gpt2") =>
  smallModel(family, { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 1, seed: 5 });
const int8 = { rolloutPrecision: "int8" as const };

const directory = mkdtempSync(join(tmpdir(), "valuehead-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const train = (config: Partial<PPOConfig>, family?: string) => trainSmall(newModel(family), prompts, config);

const samplings = [
  {},
  { temperature: 1.3, topK: 50, topP: 0.9, minNewTokens: 4 },
  { repetitionPenalty: 1.2, minP: 0.01, bannedTokens: [11, 50], stop: ["e", "."], klLog: "exact" as const },
];
test.each(familyNames.flatMap((family) => samplings.map((sampling) => [family, sampling] as const)))(
  "%s: the ratio to the old policy is 1, and weights lead from the rollout policy to it, with %o",
  async (family, sampling) => {
    const { metrics } = await train({ ...int8, ...sampling, learningRate: 0 }, family);
    for (const m of metrics) {
      const get = (name: MetricName) => m[name] as number;
      expect(get("ppo/policy/first_ratio_deviation")).toBeLessThan(1e-4);
      expect(Math.abs(get("ppo/policy/ratio_max") - 1)).toBeLessThan(1e-4);
      // of the old policy, which is the reference still; of one with an adapter the reference is its base
      if (!family.includes("LoRA")) expect(Math.abs(get("objective/kl"))).toBeLessThan(1e-4);
      expect(get("rollout/importance_weight_std")).toBeGreaterThan(0);
      expect(Math.abs(get("rollout/importance_weight_mean") - 1)).toBeLessThan(0.1);
      expect(get("rollout/kl")).toBeGreaterThan(0);
      expect(get("rollout/importance_weight_max")).toBeGreaterThan(get("rollout/importance_weight_min"));
    }
  },
);

test("fp32 rollouts need no weights and log none", async () => {
  const { metrics } = await train({ steps: 1 });
  expect(Object.keys(metrics[0]).filter((name) => name.startsWith("rollout/"))).toEqual([]);
});

test("what is learned depends on the weights", async () => {
  const one = { ...int8, steps: 1 };
  const [corrected, capped, plain] = [
    await train(one),
    await train({ ...one, importanceWeightCap: 0.9 }),
    await train({ ...one, importanceWeightCap: 0 }),
  ];
  expect(corrected.weights.some((w, i) => w !== plain.weights[i])).toBe(true);
  expect(corrected.weights.some((w, i) => w !== capped.weights[i])).toBe(true);
  expect(capped.metrics[0]["rollout/importance_weight_clipped"]).toBeGreaterThan(0.5);
});

test("a run says so at its start, and warns without a correction", async () => {
  const model = newModel();
  const started = async (config: Partial<PPOConfig>) => {
    const trainer = new PPOTrainer({
      model,
      tokenizer,
      reward: builtInRewards.length,
      config: { ...small, ...config },
    });
    const seen: TrainEvent[] = [];
    for await (const event of trainer.train(prompts)) {
      if (event.type === "progress") break;
      seen.push(event);
    }
    return seen;
  };
  expect(await started({})).toEqual([]);
  expect(await started(int8)).toEqual([
    {
      type: "note",
      step: 0,
      message: expect.stringMatching(/^rolloutPrecision is int8: responses are drawn from a/),
    },
  ]);
  expect((await started({ ...int8, importanceWeightCap: 0 }))[1]).toMatchObject({
    type: "warning",
    message: expect.stringMatching(/^importanceWeightCap is 0: .* the gradient is biased$/),
  });
  model.dispose();
});

test("without the kept sets there are no weights: refused", () => {
  expect(() => ppoConfig({ ...int8, maskReplay: false })).toThrow(
    "options, maskReplay: found false, expected true with rolloutPrecision (int8): importance weights are over the kept sets. Fix: change maskReplay or rolloutPrecision",
  );
});

// with LoRA: test/unit/run/lora-run.test.ts
test.each(wholeFamilyNames)("%s: resumed equals uninterrupted, bit for bit", async (family) => {
  const model = join(directory, family);
  await newModel(family).savePretrained(model);
  await tokenizer.save(model);
  const config = { ...small, ...int8 };
  const into = (out: string): RunSpec => ({
    model,
    prompts,
    out: join(directory, `${family}-${out}`),
    rewardName: "length",
    config,
    threads: 1,
  });
  const go = async (spec: RunSpec, signal?: AbortController) => {
    for await (const event of run(spec, builtInRewards.length, { signal: signal?.signal }))
      if (event.type === "step") signal?.abort();
  };
  await go(into("whole"));
  await go(into("parts"), new AbortController());
  await go({ ...into("parts"), resume: true });
  for (const file of ["model.safetensors", "trainer.safetensors"]) {
    const [whole, parts] = ["whole", "parts"].map((out) =>
      readFileSync(join(directory, `${family}-${out}`, "checkpoint-2", file)),
    );
    expect(parts.equals(whole), file).toBe(true);
  }
});
