/** @file One step of every algorithm, and the metrics of steps on two devices beside each other. */
import { expect } from "vitest";
import type { Metrics } from "../../src/algorithms/events.ts";
import type { MetricName } from "../../src/rl/metrics.ts";
import type { DataSpec, RewardedSpec } from "../../src/run/spec.ts";

export type Steps = Metrics[];

/** Metrics that say how the computer did, not what it computed. */
const OF_THE_MACHINE = /^(time|memory|system)\b|\/time|rss/;
/** Differences of nearly equal log-probs, summed over a response of 24 tokens: of two equal models they are rounding alone. */
const OF_ROUNDING = /kl|ratio|gap/i;
/** Sums of such differences over all tokens of a step, compared with a bound of 13.8. */
const OF_ALL_TOKENS = /^audit\/log_/;

/** The same metrics, to 1e-3 of each. */
export function sameSteps(found: Steps, expected: Steps): void {
  expect(found).toHaveLength(expected.length);
  const wrong: string[] = [];
  for (const [i, metrics] of expected.entries()) {
    expect(Object.keys(found[i]).sort()).toEqual(Object.keys(metrics).sort());
    for (const [name, want] of Object.entries(metrics) as [MetricName, number][]) {
      const got = found[i][name] ?? Number.NaN;
      const floor = OF_ALL_TOKENS.test(name) ? 2e-3 : OF_ROUNDING.test(name) ? 24 * 2e-5 : 2e-5;
      if (!OF_THE_MACHINE.test(name) && !(Math.abs(got - want) <= 1e-3 * Math.abs(want) + floor))
        wrong.push(`step ${i + 1}, ${name}: ${got}, not ${want}`);
    }
  }
  expect(wrong).toEqual([]);
}

type Small<Spec> = Spec extends unknown ? Omit<Spec, "out"> : never;

const prompts = ["The film", "I thought", "This movie was", "Well,"].map((prompt) => ({ prompt }));
const sampled = { steps: 1, batchSize: 8, miniBatchSize: 4, maxNewTokens: 6, learningRate: 1e-5, seed: 3 };
const onPrompts = { model: "tiny", prompts, rewardName: "positive" };
const learned = { steps: 1, batchSize: 4, learningRate: 1e-5, seed: 3 };
const texts = ["good", "bad", "long", "short", "loud", "quiet", "old", "new"];

/** A small step of every algorithm on the embedded model. Plain data, so that it can be sent to a page. */
export const smallRuns: Readonly<Record<string, Small<RewardedSpec | DataSpec>>> = {
  ppo: { ...onPrompts, algorithm: "ppo", config: sampled },
  grpo: { ...onPrompts, algorithm: "grpo", config: { ...sampled, numGenerations: 4 } },
  rloo: { ...onPrompts, algorithm: "rloo", config: { ...sampled, numGenerations: 4 } },
  dpo: {
    algorithm: "dpo",
    model: "tiny",
    data: texts.map((word) => ({ prompt: "The film was", chosen: ` very ${word}.`, rejected: ` not ${word} at all.` })),
    config: learned,
  },
  sft: {
    algorithm: "sft",
    model: "tiny",
    data: [texts.map((word) => `The film was very ${word}, and so were all the others that we saw this year.`)],
    config: { ...learned, sequenceLength: 8 },
  },
  reward: {
    algorithm: "reward",
    model: "tiny",
    data: texts.map((word, i) => ({ text: `The film was ${word}.`, score: i / 4 - 1 })),
    config: learned,
  },
};
