/**
 * @file A whole PPO step against TRL 0.11.4's PPOTrainer.step and against lm-human-preference-details
 * (tools/reference/ppo_step.py). Only the responses and scores are given; everything after them is the trainer's own: its step
 * runs as it does in training, and functions on the way are watched.
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/gpt2/model.ts";
import type { ParameterBuffer } from "../../src/gpt2/parameters.ts";
import { ppoStatistics } from "../../src/rl/stats.ts";
import type { GenerateOptions, Rollout } from "../../src/sample/generate.ts";
import { Adjustments } from "../../src/sample/transforms.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { ask, experience, pick } from "../../src/train/batch.ts";
import type { PpoConfig } from "../../src/train/config.ts";
import type { Metrics } from "../../src/train/events.ts";
import { PPOTrainer } from "../../src/train/ppo.ts";
import type { UpdateRecord } from "../../src/train/update.ts";
import { goldenPath, maxDifference, readTensors, tinyDir } from "../support/golden.ts";

type Update = typeof import("../../src/train/update.ts")["updatePolicy"];
type UpdateArguments = Parameters<Update>;

const watched = vi.hoisted(() => ({
  generate: undefined as unknown as (...args: [GPT2HeadWithValueModel, unknown, GenerateOptions]) => Promise<Rollout>,
  rewards: {} as { rewards: Float32Array; nonScoreRewards: Float32Array },
  refLogprobs: new Float32Array(),
  update: {} as { arguments: UpdateArguments; record: UpdateRecord; epochs: Float32Array[] },
}));
vi.mock("../../src/sample/generate.ts", async (original) => ({
  ...(await original<object>()),
  generate: (...args: Parameters<typeof watched.generate>) => watched.generate(...args),
}));
vi.mock("../../src/rl/rewards.ts", async (original) => {
  const { rewardsFromScores } = await original<typeof import("../../src/rl/rewards.ts")>();
  return {
    rewardsFromScores: (inputs: Parameters<typeof rewardsFromScores>[0]) => {
      watched.refLogprobs = Float32Array.from(inputs.refLogprobs);
      watched.rewards = rewardsFromScores(inputs);
      return watched.rewards;
    },
  };
});
vi.mock("../../src/train/update.ts", async (original) => {
  const { updatePolicy } = await original<{ updatePolicy: Update }>();
  return {
    updatePolicy: async function* (...args: UpdateArguments) {
      const [model, , , { batch }] = args;
      const epochs: Float32Array[] = [];
      const updates = updatePolicy(...args);
      for (;;) {
        const { done, value } = await updates.next();
        if (done) {
          watched.update = { arguments: args, record: value, epochs };
          return value;
        }
        if (value.type === "progress" && value.done % batch.rows === 0) epochs.push(model.parameters.data.slice());
        yield value;
      }
    },
  };
});

interface Golden {
  queries: number[][];
  responses: number[][];
  scores: number[];
  order: number[][];
  /** Per token, row after row without padding. */
  logprobs: number[];
  refLogprobs: number[];
  values: number[];
  rewards: number[];
  nonScoreRewards: number[];
  advantages: number[];
  returns: number[];
  minibatches: Record<string, number>[];
  recorded: Record<string, number>;
  overTokens: Record<string, number>;
  klCoefAfter: number;
  options: Record<string, number>;
}

/** What our trainer did with a golden file's responses. */
interface Step {
  metrics: Metrics;
  record: UpdateRecord;
  data: UpdateArguments[3];
  targets: UpdateArguments[4];
  rewards: { rewards: Float32Array; nonScoreRewards: Float32Array };
  refLogprobs: Float32Array;
  before: Float32Array;
  epochs: Float32Array[];
  parameters: ParameterBuffer;
  klCoefAfter: number;
}

const read = (name: string): Golden => JSON.parse(readFileSync(goldenPath(`ppo-step/${name}.json`), "utf8"));

async function step(golden: Golden, config: Partial<PpoConfig>): Promise<Step> {
  const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
  const reference = model.frozenCopy();
  reference.parameters.data.forEach((x, i, data) => {
    data[i] = (x * 33) / 32; // as in the script
  });
  const before = model.parameters.data.slice();
  watched.generate = async (_, __, options) => givenRollout(golden, model, options);
  const tokenizer = { eosTokenId: 100, encode: () => Int32Array.of(1), decode: () => "" } as unknown as Tokenizer;
  const rows = golden.queries.length;
  const trainer = new PPOTrainer({
    model,
    tokenizer,
    reference,
    reward: () => golden.scores,
    config: { steps: 1, seed: 0, batchSize: rows, rolloutBatchSize: rows, maxNewTokens: 8, ...config },
  });
  let metrics: Metrics = {};
  for await (const event of trainer.train(golden.queries.map(String)))
    if (event.type === "step") metrics = event.metrics;
  const { arguments: args, record, epochs } = watched.update;
  model.dispose();
  return {
    metrics,
    record,
    data: args[3],
    targets: args[4],
    rewards: watched.rewards,
    refLogprobs: watched.refLogprobs,
    before,
    epochs,
    parameters: model.parameters,
    klCoefAfter: trainer.klController.value,
  };
}

/** The golden responses as the sampler would have returned them, log-probs and values by our own model. */
async function givenRollout(golden: Golden, model: GPT2HeadWithValueModel, options: GenerateOptions): Promise<Rollout> {
  const { temperature = 1, repetitionPenalty = 1 } = options;
  const queries = golden.queries.map((q) => Int32Array.from(q));
  const adjustments = new Adjustments({ temperature, repetitionPenalty }, model.config.vocabSize);
  const bare = golden.responses.map((ids) => ({
    tokens: Int32Array.from(ids),
    logprobs: new Float32Array(ids.length),
    rawLogprobs: new Float32Array(ids.length).fill(Number.NaN),
    values: new Float32Array(ids.length),
    kept: ids.map(() => undefined),
    keptMass: new Float64Array(ids.length).fill(1),
    finished: ids.at(-1) === model.config.eosTokenId,
  }));
  const rollout = { queries, responses: bare, adjustments };
  const data = experience([rollout]);
  for (const [b, response] of bare.entries()) {
    const { logprobs, values } = await model.score(ask(data, [b], model.config.nPositions).asked);
    response.logprobs.set(logprobs);
    response.values.set(values);
  }
  return rollout;
}

/** Existing tokens of a [B, W] array, row after row. */
const existing = (x: Float32Array, { data }: Step) => x.filter((_, i) => data.batch.mask[i] === 1);

/** The statistics of each minibatch, from what the losses were computed from. */
function minibatchStatistics({ data, targets, record }: Step, golden: Golden, miniBatchSize: number, config: PpoClip) {
  let start = 0;
  return golden.order.flatMap((order) =>
    Array.from({ length: Math.ceil(order.length / miniBatchSize) }, (_, i) => {
      const rows = order.slice(i * miniBatchSize, (i + 1) * miniBatchSize);
      const end = start + rows.reduce((n, b) => n + golden.responses[b].length, 0);
      const index = record.index.subarray(start, end);
      const stats = ppoStatistics({
        logprobs: record.logprobs.subarray(start, end),
        oldLogprobs: pick(data.logprobs, index),
        values: record.values.subarray(start, end),
        oldValues: pick(data.values, index),
        advantages: pick(targets.advantages, index),
        returns: pick(targets.returns, index),
        mask: new Uint8Array(index.length).fill(1),
        ...config,
      });
      const entropy = record.entropies.subarray(start, end).reduce((a, b) => a + b, 0) / index.length;
      start = end;
      return { ...stats, entropy, rows: [...new Set(Array.from(index, (j) => Math.floor(j / data.batch.width)))] };
    }),
  );
}
type PpoClip = Pick<PpoConfig, "clipRange" | "clipRangeValue">;

/**
 * The change of every parameter: within 1e-4 of its size, or of the size of one Adam step where steps have cancelled out. A
 * key's bias adds the same to all scores of a query, which the softmax takes out: its gradient is rounding, and Adam's epsilon
 * decides how little it moves.
 */
function expectSameChange(ours: Step, epoch: number, changes: ReturnType<typeof readTensors>, learningRate: number) {
  const { table } = ours.parameters;
  expect([...changes.keys()].filter((n) => n.startsWith("epoch1.")).sort()).toEqual(
    table.map(({ name }) => `epoch1.${name}`).sort(),
  );
  const after = ours.epochs[epoch - 1];
  for (const { name, start } of table) {
    const want = Float32Array.from(changes.get(`epoch${epoch}.${name}`)?.data ?? []);
    const change = want.map((_, i) => after[start + i] - ours.before[start + i]);
    expect(maxDifference(change, want), name).toBeLessThan(2e-5);
    const isKey = (i: number) => name.endsWith(".c_attn.bias") && Math.floor((3 * i) / want.length) === 1;
    const moves = want.filter((_, i) => !isKey(i));
    const gap = norm(change.filter((_, i) => !isKey(i)).map((x, i) => x - moves[i]));
    expect(gap / Math.max(norm(moves), learningRate * Math.sqrt(moves.length)), name).toBeLessThan(1e-4);
  }
}
const norm = (x: Float32Array) => Math.hypot(...x);

describe("TRL 0.11.4", () => {
  const golden = read("trl");
  const o = golden.options;
  const config: Partial<PpoConfig> = {
    miniBatchSize: o.mini_batch_size,
    ppoEpochs: o.ppo_epochs,
    learningRate: o.learning_rate,
    adamEpsilon: o.eps,
    maxGradNorm: 0,
    klCoef: o.init_kl_coef,
    klTarget: o.target,
    klHorizon: o.horizon,
    gamma: o.gamma,
    lambda: o.lam,
    clipRange: o.cliprange,
    clipRangeValue: o.cliprange_value,
    vfCoef: o.vf_coef,
  };
  let ours: Step;
  beforeAll(async () => {
    ours = await step(golden, config);
  });

  test("log-probs, reference log-probs and values", () => {
    expect(maxDifference(existing(ours.data.logprobs, ours), golden.logprobs)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.refLogprobs, ours), golden.refLogprobs)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.data.values, ours), golden.values)).toBeLessThan(1e-5);
  });

  test("rewards, advantages and returns", () => {
    expect(maxDifference(existing(ours.rewards.rewards, ours), golden.rewards)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.rewards.nonScoreRewards, ours), golden.nonScoreRewards)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.targets.advantages, ours), golden.advantages)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.targets.returns, ours), golden.returns)).toBeLessThan(1e-5);
  });

  test("losses and statistics of every minibatch", () => {
    const minibatches = minibatchStatistics(ours, golden, o.mini_batch_size, config as PpoClip);
    expect(minibatches.flatMap((m) => m.rows)).toEqual(golden.order.flat());
    expect(minibatches.length).toBe(golden.minibatches.length);
    for (const [i, m] of minibatches.entries()) {
      const named = {
        "loss/policy": m.policyLoss,
        "loss/value": m.valueLoss,
        "loss/total": m.policyLoss + o.vf_coef * m.valueLoss,
        "policy/entropy": m.entropy,
        "policy/approxkl": m.approxKl,
        "policy/policykl": m.policyKl,
        "policy/clipfrac": m.clipFraction,
        "policy/advantages_mean": m.advantagesMean,
        "returns/mean": m.returnsMean,
        "returns/var": m.returnsVar,
        "val/vpred": m.valuePredictionMean,
        "val/error": m.valueError,
        "val/clipfrac": m.valueClipFraction,
        "val/mean": m.valuesMean,
        "val/var": m.valuesVar,
      };
      expect(Object.keys(named).sort()).toEqual(Object.keys(golden.minibatches[i]).sort());
      for (const [name, value] of Object.entries(named))
        expect(Math.abs(value - golden.minibatches[i][name]), `minibatch ${i}, ${name}`).toBeLessThan(1e-4);
    }
  });

  test("every metric that TRL has", () => {
    // Ours are over all tokens of all minibatches, TRL's are means of the minibatches' means.
    const want = { ...golden.recorded, ...golden.overTokens };
    const names = Object.keys(want) as (keyof Metrics)[];
    expect(names.filter((name) => ours.metrics[name] === undefined)).toEqual([]);
    for (const name of names) expect(Math.abs((ours.metrics[name] as number) - want[name]), name).toBeLessThan(1e-4);
    expect(ours.metrics["ppo/policy/first_ratio_deviation"]).toBeLessThan(1e-5);
  });

  test("the KL coefficient after the step", () => expect(ours.klCoefAfter).toBeCloseTo(golden.klCoefAfter, 6));

  const changes = readTensors(goldenPath("ppo-step/trl.safetensors"));
  test.each([1, 2])("the change of every weight after epoch %i", (epoch) =>
    expectSameChange(ours, epoch, changes, o.learning_rate),
  );
});
