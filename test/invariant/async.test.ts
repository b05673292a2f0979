/** @file Responses that are drawn ahead (async), by weights of some steps before: what they are, what weighs them, and where a run goes on. */
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { grpoConfig } from "../../src/algorithms/grpo.ts";
import { ppoConfig } from "../../src/algorithms/options/config.ts";
import { dpoConfig } from "../../src/algorithms/options/dpo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { PromptSampler } from "../../src/data/prompts.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import { run } from "../../src/run/run.ts";
import type { RewardedSpec } from "../../src/run/spec.ts";
import { generate } from "../../src/sample/generate.ts";
import { smallModel } from "../support/families.ts";
import { small, tokenizer, trainSmall } from "../support/ppo.ts";

const prompts = ["This movie", "The acting in this film was", "I", "Well, the director"];
const newModel = () => smallModel("gpt2", { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 1, seed: 5 });

const directory = mkdtempSync(join(tmpdir(), "valuehead-async-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("the importance weights are exp(new - recorded): of what the older weights draw, as the newer ones say it", async () => {
  const model = newModel();
  const cap = 1.02;
  const config = { ...small, steps: 3, async: 1, importanceWeightCap: cap, logSamples: 8 };
  const trainer = new PPOTrainer({ model, tokenizer, reward: builtInRewards.length, config });
  const weights = [model.parameters.data.slice()]; // after 0, 1, ... steps
  const steps = [];
  for await (const event of trainer.train(prompts)) {
    if (event.type !== "step") continue;
    weights.push(model.parameters.data.slice());
    steps.push(event);
  }
  expect(steps.map(({ metrics }) => metrics["async/staleness"])).toEqual([0, 1, 1]);
  expect(steps[0].metrics["rollout/importance_weight_std"]).toBeLessThan(1e-5); // one policy

  // Step 3 by hand: drawn by the weights after step 1, learned from by those after step 2.
  const sampler = new PromptSampler(prompts.length, small.seed as number);
  const [, , chosen] = [sampler.next(8), sampler.next(8), sampler.next(8)];
  const queries = chosen.map((i) => tokenizer.encode(prompts[i]));
  model.parameters.data.set(weights[1]);
  const streams = queries.map((_, b) => 16 + b);
  const drawn = await generate(model, queries, { ...trainer.sampling(), streams });
  const bySamples = steps[2].samples.map(({ tokens }) => tokens);
  expect(drawn.responses.map(({ tokens }) => Array.from(tokens))).toEqual(bySamples);
  model.parameters.data.set(weights[2]);
  const ratios: number[] = [];
  for (const [b, { tokens, logprobs }] of drawn.responses.entries()) {
    const ids = Int32Array.of(...queries[b], ...tokens);
    const { logits } = await model.forward({ inputIds: { data: ids, shape: [1, ids.length] } });
    const [, , V] = logits.shape;
    tokens.forEach((token, t) => {
      const row = logits.data.subarray((queries[b].length - 1 + t) * V, (queries[b].length + t) * V);
      const top = row.reduce((most, x) => Math.max(most, x));
      const logprob = row[token] - top - Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
      ratios.push(Math.exp(logprob - logprobs[t]));
    });
  }
  model.dispose();
  const mean = ratios.reduce((a, b) => a + b) / ratios.length;
  const { metrics } = steps[2];
  expect(metrics["rollout/importance_weight_mean"]).toBeCloseTo(mean, 4);
  expect(metrics["rollout/importance_weight_min"]).toBeCloseTo(Math.min(...ratios), 4);
  expect(metrics["rollout/importance_weight_max"]).toBeCloseTo(Math.max(...ratios), 4);
  expect(Math.max(...ratios)).toBeGreaterThan(1.01); // far more than rounding
  const clipped = ratios.filter((ratio) => ratio > cap).length / ratios.length;
  expect(metrics["rollout/importance_weight_clipped"]).toBeCloseTo(clipped, 6);
  expect(metrics["ppo/policy/first_ratio_deviation"]).toBeLessThan(1e-4); // the updates begin at the old policy all the same
});

test("the weights count, and async 0 is a run without the option", async () => {
  const config = { async: 1, learningRate: 3e-3 };
  const [weighted, plain] = [
    await trainSmall(newModel(), prompts, config),
    await trainSmall(newModel(), prompts, { ...config, importanceWeightCap: 0 }),
  ];
  expect(weighted.weights.some((w, i) => w !== plain.weights[i])).toBe(true);
  const [none, zero] = [await trainSmall(newModel(), prompts, {}), await trainSmall(newModel(), prompts, { async: 0 })];
  expect(zero.weights).toEqual(none.weights);
  expect(zero.weights.some((w, i) => w !== weighted.weights[i])).toBe(true);
  expect(Object.keys(zero.metrics[1]).filter((name) => /^(rollout|async)\//.test(name))).toEqual([]);
});

const RUNS: Readonly<Record<string, Record<string, unknown>>> = {
  "ppo, two steps ahead, int8, half of the layers frozen, a value model of its own": {
    ...{ async: 2, rolloutPrecision: "int8", frozenLayers: 1, valueModel: "separate", klPenalty: "exact" },
  },
  "grpo, an adapter": { async: 1, lora: 2, numGenerations: 2 },
  "rloo, more steps ahead than there are": { async: 9, numGenerations: 2 },
};
test.each(Object.keys(RUNS))("%s: killed after any step and resumed, the run is the same", async (name) => {
  const model = join(directory, name);
  const made = newModel();
  await made.savePretrained(model);
  await tokenizer.save(model);
  made.dispose();
  const algorithm = name.split(",")[0];
  const config = { ...small, steps: 4, saveEvery: 1, keepCheckpoints: 9, ...RUNS[name] };
  const go = async (out: string, resume = false) => {
    const spec = { algorithm, model, prompts, out: join(model, out), rewardName: "length", config, threads: 1, resume };
    for await (const _ of run(spec as RewardedSpec, builtInRewards.length));
  };
  await go("whole");
  for (const step of [1, 2, 3]) {
    const out = `from ${step}`;
    // What is there when a process is killed in a later step: the files, and nothing of what is under way.
    cpSync(join(model, "whole"), join(model, out), {
      recursive: true,
      filter: (path) => !/lock|checkpoint-(\d)/.test(path) || Number(/checkpoint-(\d)/.exec(path)?.[1]) <= step,
    });
    await go(out, true);
    for (const checkpoint of [step + 1, 4]) {
      const files = [
        "trainer.safetensors",
        name.includes("adapter") ? "adapter_model.safetensors" : "model.safetensors",
      ];
      if (checkpoint < 4 || !name.startsWith("rloo")) files.push("older.safetensors");
      for (const file of files) {
        const [whole, resumed] = ["whole", out].map((run) =>
          readFileSync(join(model, run, `checkpoint-${checkpoint}`, file)),
        );
        expect(resumed.equals(whole), `${file} of ${checkpoint}, ${out}`).toBe(true);
      }
    }
  }
  rmSync(join(model, "from 2", "checkpoint-4"), { recursive: true });
  rmSync(join(model, "from 2", "checkpoint-3", "older.safetensors"));
  await expect(go("from 2", true)).resolves.toBeUndefined(); // a damaged checkpoint: it goes on from the one before
});

test("what async makes no sense with is refused", async () => {
  expect(() => ppoConfig({ async: 1, maskReplay: false })).toThrow(
    "options, maskReplay: found false, expected true with async (1): importance weights are over the kept sets",
  );
  expect(() => grpoConfig({ async: -1 })).toThrow(/options, async: found -1, expected a whole number from 0 to 64/);
  expect(() => dpoConfig({ async: 1 } as object)).toThrow(
    "Fix: leave it out: it draws responses ahead, and only PPO, GRPO and RLOO draw any",
  );
  const model = newModel();
  const trainer = new PPOTrainer({ model, tokenizer, reward: builtInRewards.length, config: { ...small, async: 1 } });
  await expect(trainer.step([[1]], [[2]], [0])).rejects.toThrow(
    "PPOTrainer.step: found async 1, and responses that are given, expected prompts, whose responses are drawn ahead. Fix: leave async out, or call train",
  );
  // A state without the weights that draw what comes next.
  trainer.setState({ step: 1, kl: { value: 0.1 } });
  const next = async () => {
    for await (const _ of trainer.train(prompts));
  };
  await expect(next()).rejects.toThrow(
    "async: found no weights as they were after 0 steps, expected those of the last steps, which the next responses are drawn with",
  );
  model.dispose();
});
