/** @file klLog none: without a KL that costs anything no reference is kept nor asked, and what is learned is the same. */
import { describe, expect, test } from "vitest";
import type { Metrics } from "../../src/algorithms/events.ts";
import { ppoConfig } from "../../src/algorithms/options/config.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import { CausalLMWithValueHead } from "../../src/model/model.ts";
import { type AnyConfig, algorithms, follow } from "../support/algorithms.ts";
import { smallModel } from "../support/families.ts";

const prompts = ["This", "Two movies", "I", "A film"];
const newModel = () => smallModel("gpt2", { vocabSize: 8192, context: 32, eosTokenId: 8191 }, { threads: 1, seed: 5 });
const reward = builtInRewards.length;
const free = { klCoef: 0, klLog: "none" } as const;

/** What no two runs share, and what the part of the audit that bets on the reference adds to the whole. */
const OF_ITS_OWN = /^(time|memory)\/|^audit\/log_martingale$/;
const common = (metrics: Metrics) =>
  Object.fromEntries(Object.entries(metrics).filter(([name]) => !OF_ITS_OWN.test(name)));

describe.each(algorithms)("$name", ({ make }) => {
  test.each<[string, AnyConfig]>([
    ["as it is", {}],
    ["sampled in int8", { rolloutPrecision: "int8" }],
    ["with an adapter", { lora: 2 }],
  ])("%s: weights and numbers are those of klCoef 0, without the KL", async (_, more) => {
    const runs: Awaited<ReturnType<typeof follow>>[] = [];
    for (const klLog of ["k1", "none"] as const) {
      const model = newModel();
      runs.push(await follow(make({ model, reward, config: { ...free, ...more, klLog } }), prompts));
      model.dispose();
    }
    const [measured, none] = runs;
    expect(none.weights).toEqual(measured.weights);
    expect(none.events.filter(({ type }) => type === "warning")).toEqual([]);
    measured.metrics.forEach((metrics, i) => {
      const there = common(metrics);
      const dropped = Object.keys(there).filter((name) => /^(objective\/kl(?!_coef)|audit\/log_reference)/.test(name));
      expect(dropped).toHaveLength(7);
      for (const name of dropped) delete there[name];
      expect(common(none.metrics[i])).toEqual(there);
    });
    const samples = none.events.flatMap((event) => (event.type === "step" ? event.samples : []));
    expect(samples.length).toBeGreaterThan(0);
    for (const sample of samples) expect([sample.kl, sample.refLogprobs]).toEqual([undefined, undefined]);
  });

  test("no other model is made, and none is taken", () => {
    const model = newModel();
    let copies = 0;
    const copy = model.frozenCopy.bind(model);
    model.frozenCopy = (...of) => {
      copies++;
      return copy(...of);
    };
    expect(make({ model, reward, config: { ...free, klLog: "k1" } }).reference).toBeInstanceOf(CausalLMWithValueHead);
    expect(copies).toBe(1);
    expect(make({ model, reward, config: free }).reference).toBeUndefined();
    expect(copies).toBe(1);
    expect(() => make({ model, reward, config: free, reference: copy() })).toThrow(
      "reference: found a reference, and klLog none, expected one of the two",
    );
    model.dispose();
  });
});

test("what costs is measured", () => {
  expect(() => ppoConfig({ klLog: "none" })).toThrow(
    "klLog: found none, expected an estimate with klCoef (0.2): what costs is measured. Fix: change klLog or klCoef",
  );
  expect(ppoConfig({ klLog: "none", klCoef: 0, klPenalty: "exact" }).klLog).toBe("none");
});
