/** @file What must hold of PPO, GRPO and RLOO alike. */
import { describe, expect, test } from "vitest";
import { builtInRewards, type RewardSample } from "../../src/experience/reward-functions.ts";
import type { CausalLMWithValueHead } from "../../src/model/model.ts";
import { generate } from "../../src/sample/generate.ts";
import { type AnyConfig, algorithms, copies, follow, stateOf } from "../support/algorithms.ts";
import { familyNames, smallModel } from "../support/families.ts";
import { tokenizer } from "../support/ppo.ts";

const prompts = ["This movie", "The acting in this film was", "I", "Well, the director", "It was about a", "Two"];
const newModel = (family = "gpt2") =>
  smallModel(family, { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 2, seed: 5 });
const largestGap = (a: Float32Array, b: Float32Array) =>
  a.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b[i])), 0);

describe.each(algorithms)("$name", ({ name, make, ratio, loss }) => {
  const trainer = (config: AnyConfig = {}, model: CausalLMWithValueHead = newModel()) =>
    make({ model, reward: builtInRewards.length, config });
  const train = async (config: AnyConfig, family?: string) => {
    const made = trainer(config, newModel(family));
    const result = await follow(made, prompts);
    made.model.dispose();
    return result;
  };

  const samplings: AnyConfig[] = [
    {},
    { temperature: 0.7, topK: 50, topP: 0.9, minNewTokens: 4 },
    { repetitionPenalty: 1.2, minP: 0.01, bannedTokens: [11, 50], stop: ["e", "."] },
  ];
  test.each(samplings.flatMap((sampling) => familyNames.map((family) => [family, sampling] as const)))(
    "of %s: the ratio is 1 before a weight has moved and the audit is silent, with %o",
    async (family, sampling) => {
      const { metrics, events } = await train(sampling, family);
      expect(metrics).toHaveLength(2);
      for (const m of metrics) expect(m[ratio]).toBeLessThan(1e-4);
      expect(events.filter((event) => event.type === "warning")).toEqual([]);
    },
  );

  test("nothing moves at a learning rate of 0", async () => {
    const before = newModel();
    const { weights, metrics } = await train({ learningRate: 0, epochs: 2 });
    expect(weights).toEqual(before.parameters.data);
    expect(metrics[1][ratio]).toBeLessThan(1e-4);
    before.dispose();
  });

  test("a trainer that is saved and goes on is the one that was not stopped, bit for bit", async () => {
    const whole = await train({ steps: 4 });
    const first = trainer({ steps: 2 });
    await follow(first, prompts);
    const state = JSON.parse(JSON.stringify(first.getState()));
    const second = trainer({ steps: 4 }, first.model); // the weights as they are
    second.optimizer.setState(stateOf(first.optimizer));
    second.setState(state);
    // The reference is that of the beginning.
    const begun = newModel();
    second.reference?.parameters.data.set(begun.parameters.data);
    const rest = await follow(second, prompts);
    expect(rest.weights).toEqual(whole.weights);
    for (const m of ["objective/kl", loss] as const)
      expect(rest.metrics.map((step) => step[m])).toEqual(whole.metrics.slice(2).map((step) => step[m]));
    begun.dispose();
    first.model.dispose();
  });

  // Adam divides by the root of the squared gradient: without a large epsilon rounding shows where a gradient is almost 0.
  const oneUpdate = { steps: 1, epochs: 1, miniBatchSize: 8, adamEpsilon: 1e-3 };
  test("gradients of micro-batches add up to those of the minibatch", async () => {
    const whole = await train(oneUpdate);
    for (const microBatchSize of [1, 3]) {
      const parts = await train({ ...oneUpdate, microBatchSize }); // 1: each response alone, as long as it is
      expect(largestGap(whole.weights, parts.weights)).toBeLessThan(1e-6);
      expect(parts.metrics[0][loss]).toBeCloseTo(whole.metrics[0][loss] as number, 5);
    }
    const halves = await train({ ...oneUpdate, miniBatchSize: 4 });
    expect(largestGap(whole.weights, halves.weights)).toBeGreaterThan(1e-5); // two updates are not one
  });

  test("responses sampled in parts of another size are the same, and so is what is learned", async () => {
    const parts = await train({ ...oneUpdate, rolloutBatchSize: 4 });
    const whole = await train({ ...oneUpdate, rolloutBatchSize: 8 });
    expect(largestGap(whole.weights, parts.weights)).toBeLessThan(1e-6);
  });

  test("frozen layers stay as they are", async () => {
    const { weights } = await train({ ...oneUpdate, frozenLayers: 1 });
    const model = newModel();
    const { start } = model.parameters.table.find((p) => p.name === "transformer.h.1.ln_1.weight") as { start: number };
    expect(weights.subarray(0, start)).toEqual(model.parameters.data.subarray(0, start));
    expect(weights.subarray(start)).not.toEqual(model.parameters.data.subarray(start));
    model.dispose();
  });

  test.each(["fp32", "int8"] as const)(
    "of an adapter nothing else moves, and the base is the reference (%s)",
    async (rolloutPrecision) => {
      const model = newModel().addAdapter({ rank: 4 }, 1);
      const values = () =>
        new Map(model.parameters.table.map(({ name: row }) => [row, model.parameters.view(row).slice()]));
      const before = values();
      const made = trainer({ rolloutPrecision }, model);
      const { metrics, events } = await follow(made, prompts);
      expect(events.filter((event) => event.type === "warning")).toEqual([]);
      for (const m of metrics) expect(m[ratio]).toBeLessThan(1e-4);
      const moved = [...values()].filter(([row, now]) => largestGap(now, before.get(row) as Float32Array) > 0);
      const isTrained = (row: string) => /\.lora_[AB]\./.test(row) || (name === "ppo" && row.startsWith("v_head."));
      expect(moved.length).toBeGreaterThan(10);
      expect(moved.filter(([row]) => !isTrained(row))).toEqual([]);
      const row = "transformer.h.0.attn.c_attn.weight";
      expect(made.reference?.parameters.view(row).buffer).toBe(model.parameters.view(row).buffer);
      expect(made.reference?.adapter).toBeUndefined();
      model.dispose();
    },
  );

  test("int8 rollouts are weighted, and the audit is silent", async () => {
    const { events, metrics } = await train({ rolloutPrecision: "int8" });
    expect(events.filter((event) => event.type === "warning")).toEqual([]);
    for (const m of metrics) expect(m["rollout/importance_weight_mean"]).toBeCloseTo(1, 1);
  });

  const group = name === "ppo" ? 1 : copies;
  test("a reward is told whom a response competes with, and sees whole groups", async () => {
    const calls: RewardSample[][] = [];
    const model = newModel();
    const reward = (batch: RewardSample[]) => {
      calls.push(batch);
      return builtInRewards.length(batch);
    };
    const made = make({ model, reward, config: { steps: 1, rolloutBatchSize: 5 } });
    await follow(made, prompts);
    const all = calls.flat();
    expect(all.map((sample) => [sample.group, sample.copy])).toEqual(
      Array.from({ length: 8 }, (_, i) => [Math.floor(i / group), i % group]),
    );
    for (const call of calls) expect(call.length % group).toBe(0);
    for (const sample of all) expect(sample.prompt).toBe(all[sample.group * group].prompt);
    // Copies of a prompt have random streams of their own.
    const ofFirst = all.filter((sample) => sample.group === 0).map(({ tokens }) => tokens.join());
    expect(new Set(ofFirst).size).toBe(group);
    model.dispose();
  });

  describe("responses given as token ids that are no draws from the policy are found out", () => {
    const queries = Array.from({ length: 8 }, (_, b) =>
      tokenizer.encode(prompts[Math.floor(b / group) % prompts.length]),
    );
    /** Steps on responses sampled with other options than those of the config, and changed afterwards. */
    async function steps(sampled: object, change = (ids: Int32Array) => ids, config: AnyConfig = {}) {
      const model = newModel();
      const made = make({ model, reward: builtInRewards.length, config: { learningRate: 0, ...config } });
      try {
        for (let step = 0; step < 20; step++) {
          const streams = queries.map((_, b) => step * 8 + b);
          const { responses } = await generate(model, queries, { maxNewTokens: 10, ...sampled, streams });
          const ids = responses.map(({ tokens }) => change(tokens));
          await made.step(
            queries,
            ids,
            responses.map((_, b) => b % 2),
          );
        }
      } finally {
        model.dispose();
      }
    }

    test.each([
      ["greedy choice", { topK: 1 }],
      ["a lower temperature", { temperature: 0.4 }],
      ["a higher temperature", { temperature: 2.5 }],
      ["top-k", { topK: 20 }],
      ["top-p", { topP: 0.5 }],
    ])("%s", async (_, sampled) => {
      await expect(steps(sampled)).rejects.toThrow(
        new RegExp(`^${name.toUpperCase()} step \\d+: found tokens that are not draws from the policy`),
      );
    });

    test("padding after the end of text", async () => {
      const padded = (ids: Int32Array) => Int32Array.of(...ids, 8191, 8191);
      await expect(steps({ maxNewTokens: 4 }, padded)).rejects.toThrow(
        new RegExp(`^${name.toUpperCase()} step 1: found 1 tokens counted after the end of text`),
      );
    });

    test("and honest ones are not", async () => {
      await steps({});
    });
  });

  test("a model whose sampling and scoring disagree is stopped, in the algorithm's name", async () => {
    const model = newModel();
    const made = trainer({}, model);
    const score = model.head.loss.bind(model.head);
    model.head.loss = (params, asked, ...rest) =>
      score(params, { ...asked, distribution: { temperature: 0.8 } }, ...rest);
    await expect(follow(made, prompts)).rejects.toThrow(`${name.toUpperCase()} step 1: found a policy ratio`);
    model.dispose();
  });
});
