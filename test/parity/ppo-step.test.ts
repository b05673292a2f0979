/**
 * @file A whole PPO step against TRL 0.11.4's PPOTrainer.step and against lm-human-preference-details
 * (tools/reference/ppo_step.py). Only the responses and scores are given; everything after them is the trainer's own: its step
 * runs as it does in training, and functions on the way are watched.
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test, vi } from "vitest";
import type { Metrics } from "../../src/algorithms/events.ts";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import type { UpdateRecord } from "../../src/algorithms/update.ts";
import { ask, pick } from "../../src/experience/ask.ts";
import { experience } from "../../src/experience/experience.ts";
import { loadModel } from "../../src/families/index.ts";
import type { ParameterBuffer } from "../../src/model/parameters.ts";
import { ppoStatistics } from "../../src/rl/stats.ts";
import type { GenerateOptions, Rollout } from "../../src/sample/generate.ts";
import { Adjustments } from "../../src/sample/transforms.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import type { Model } from "../support/families.ts";
import { goldenPath, maxDifference, readTensors, tinyDir } from "../support/golden.ts";

type Update = typeof import("../../src/algorithms/update.ts")["updatePolicy"];
type UpdateArguments = Parameters<Update>;

const watched = vi.hoisted(() => ({
  generate: undefined as unknown as (...args: [Model, unknown, GenerateOptions]) => Promise<Rollout>,
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
vi.mock("../../src/algorithms/update.ts", async (original) => {
  const { updatePolicy } = await original<{ updatePolicy: Update }>();
  return {
    updatePolicy: async function* (...args: UpdateArguments) {
      const [{ policy }, { batch }] = args;
      const epochs: Float32Array[] = [];
      const updates = updatePolicy(...args);
      for (;;) {
        const { done, value } = await updates.next();
        if (done) {
          watched.update = { arguments: args, record: value, epochs };
          return value;
        }
        if (value.type === "progress" && value.done % batch.rows === 0)
          epochs.push(policy.model.parameters.data.slice());
        yield value;
      }
    },
  };
});

interface Golden {
  /** An adapter of test/golden/lora, which is trained on its base, the reference. Default: gpt2-tiny, and that times 33 / 32. */
  adapter?: string;
  /** What ends a response; default 100. */
  eos?: number;
  options: Record<string, number>;
  queries: number[][];
  responses: number[][];
  scores: number[];
  /** Rows in the order they were learned from, epoch by epoch. */
  order: number[][];
  /** Per token, row after row without padding. */
  logprobs: number[];
  refLogprobs: number[];
  values: number[];
  rewards: number[];
  nonScoreRewards: number[];
  /** Per token in the order of use. */
  used: { advantages: number[]; returns: number[] };
  minibatches: Record<string, number>[];
  /** What TRL logs: means of the minibatches' means. */
  recorded?: Record<string, number>;
  /** The same over all tokens of all minibatches, as this library logs it. */
  overTokens: Record<string, number>;
  klCoefAfter: number;
}

/** What our trainer did with a golden file's responses. */
interface Step {
  metrics: Metrics;
  record: UpdateRecord;
  data: UpdateArguments[1];
  rewards: { rewards: Float32Array; nonScoreRewards: Float32Array };
  refLogprobs: Float32Array;
  before: Float32Array;
  epochs: Float32Array[];
  parameters: ParameterBuffer;
  klCoefAfter: number;
}

const read = (name: string): Golden => JSON.parse(readFileSync(goldenPath(`ppo-step/${name}.json`), "utf8"));

async function step(golden: Golden, config: Partial<PPOConfig>): Promise<Step> {
  const model = await loadModel(golden.adapter ? goldenPath(`lora/${golden.adapter}`) : tinyDir, { threads: 1 });
  const reference = golden.adapter ? undefined : model.frozenCopy();
  reference?.parameters.data.forEach((x, i, data) => {
    data[i] = (x * 33) / 32; // as in the script
  });
  const before = model.parameters.data.slice();
  const { table } = model.parameters;
  const base = table.filter(({ name }) => model.parameters.view(name).buffer !== model.parameters.data.buffer);
  const frozen = base.map(({ name }) => model.parameters.view(name).slice());
  watched.generate = async (_, __, options) => givenRollout(golden, model, options);
  const tokenizer = {
    eosTokenId: golden.eos ?? 100,
    encode: () => Int32Array.of(1),
    decode: () => "",
    has: () => true,
  } as unknown as Tokenizer;
  const rows = golden.queries.length;
  const trainer = new PPOTrainer({
    model,
    tokenizer,
    reference,
    reward: () => golden.scores,
    config: { steps: 1, seed: 0, batchSize: rows, rolloutBatchSize: rows, maxNewTokens: 8, logSamples: 0, ...config },
  });
  let metrics: Metrics = {};
  for await (const event of trainer.train(golden.queries.map(String)))
    if (event.type === "step") metrics = event.metrics;
  const { arguments: args, record, epochs } = watched.update;
  expect(base.length > 0).toBe(golden.adapter !== undefined);
  for (const [i, { name }] of base.entries()) expect(model.parameters.view(name), name).toEqual(frozen[i]);
  model.dispose();
  return {
    metrics,
    record,
    data: args[1],
    rewards: watched.rewards,
    refLogprobs: watched.refLogprobs,
    before,
    epochs,
    parameters: model.parameters,
    klCoefAfter: trainer.klController.value,
  };
}

/** The golden responses as the sampler would have returned them, log-probs and values by our own model. */
async function givenRollout(golden: Golden, model: Model, options: GenerateOptions): Promise<Rollout> {
  const { temperature = 1, repetitionPenalty = 1 } = options;
  const queries = golden.queries.map((q) => Int32Array.from(q));
  const adjustments = new Adjustments({ temperature, repetitionPenalty }, model.sizes.vocabSize);
  const bare = golden.responses.map((ids) => ({
    tokens: Int32Array.from(ids),
    logprobs: new Float32Array(ids.length),
    rawLogprobs: new Float32Array(ids.length).fill(Number.NaN),
    values: new Float32Array(ids.length),
    kept: ids.map(() => undefined),
    keptMass: new Float64Array(ids.length).fill(1),
    finished: ids.at(-1) === (golden.eos ?? 100),
  }));
  const rollout = { queries, responses: bare, adjustments };
  const data = experience([rollout]);
  for (const [b, response] of bare.entries()) {
    const { logprobs, values } = await model.score(ask(data, [b], model.sizes.context, adjustments).asked);
    response.logprobs.set(logprobs);
    response.values.set(values);
  }
  return rollout;
}

/** Existing tokens of a [B, W] array, row after row. */
const existing = (x: Float32Array, { data }: Step) => x.filter((_, i) => data.batch.mask[i] === 1);

/** The statistics of each minibatch under TRL's names, from what the losses were computed from, and its rows. */
function minibatches({ data, record }: Step, golden: Golden, clip: Pick<PPOConfig, "clipRange" | "clipRangeValue">) {
  const { mini_batch_size: size, vf_coef: vfCoef } = golden.options;
  let start = 0;
  return golden.order.flatMap((order) =>
    Array.from({ length: Math.ceil(order.length / size) }, (_, i) => {
      const rows = order.slice(i * size, (i + 1) * size);
      const end = start + rows.reduce((n, b) => n + golden.responses[b].length, 0);
      const part = (x: Float32Array) => x.subarray(start, end);
      const index = record.index.subarray(start, end);
      const stats = ppoStatistics({
        logprobs: part(record.logprobs),
        oldLogprobs: pick(data.logprobs, index),
        values: part(record.values),
        oldValues: pick(data.values, index),
        advantages: part(record.advantages),
        returns: part(record.returns),
        mask: new Uint8Array(index.length).fill(1),
        ...clip,
      });
      const entropy = part(record.entropies).reduce((a, b) => a + b, 0) / index.length;
      start = end;
      const named = {
        "loss/policy": stats.policyLoss,
        "loss/value": stats.valueLoss,
        "loss/total": stats.policyLoss + vfCoef * stats.valueLoss,
        "policy/entropy": entropy,
        "policy/approxkl": stats.approxKl,
        "policy/policykl": stats.policyKl,
        "policy/clipfrac": stats.clipFraction,
        "policy/advantages_mean": stats.advantagesMean,
        "returns/mean": stats.returnsMean,
        "returns/var": stats.returnsVar,
        "val/vpred": stats.valuePredictionMean,
        "val/error": stats.valueError,
        "val/clipfrac": stats.valueClipFraction,
        "val/mean": stats.valuesMean,
        "val/var": stats.valuesVar,
      } as Record<string, number>;
      return { named, rows: [...new Set(Array.from(index, (j) => Math.floor(j / data.batch.width)))] };
    }),
  );
}

/**
 * The change of every parameter: within 1e-4 of its size, or of the size of one Adam step where steps have cancelled out. A
 * key's bias adds the same to all scores of a query, which the softmax takes out: its gradient is rounding, and Adam's epsilon
 * decides how little it moves.
 */
function expectSameChange(ours: Step, epoch: number, changes: ReturnType<typeof readTensors>, learningRate: number) {
  const { data, view } = { data: ours.parameters.data, view: (name: string) => ours.parameters.view(name) };
  const table = ours.parameters.table
    .filter(({ name }) => view(name).buffer === data.buffer)
    .map(({ name }) => ({ name, start: (view(name).byteOffset - data.byteOffset) / 4 }));
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

// The presets themselves; sizes, rates and coefficients are the golden file's. Scores are as after the check for a full stop.
const openai = { preset: "openai", truncateToken: "", truncateAfter: 0, failScore: null } as const;
const cases: [reference: string, file: string, options: Partial<PPOConfig>][] = [
  ["TRL 0.11.4", "trl", { preset: "trl-0.11" }],
  ["lm-human-preference-details", "details", { ...openai, whiteningScope: "batch" }],
  ["lm-human-preferences", "openai", openai],
  ["TRL 0.11.4 with an adapter of GPT-2", "lora-gpt2", { preset: "trl-0.11" }],
  ["TRL 0.11.4 with an adapter of a Llama", "lora-llama", { preset: "trl-0.11" }],
];
describe.each(cases)("%s", (_, file, options) => {
  const golden = read(file);
  const o = golden.options;
  const clip = { clipRange: o.cliprange, clipRangeValue: o.cliprange_value };
  let ours: Step;
  beforeAll(async () => {
    ours = await step(golden, {
      miniBatchSize: o.mini_batch_size,
      ppoEpochs: o.ppo_epochs,
      temperature: o.temperature ?? 1,
      learningRate: o.learning_rate,
      adamEpsilon: o.eps,
      klCoef: o.init_kl_coef ?? o.kl_coef,
      klTarget: o.target,
      klHorizon: o.horizon,
      gamma: o.gamma,
      lambda: o.lam,
      vfCoef: o.vf_coef,
      ...clip,
      ...options,
    });
  });

  test("log-probs, reference log-probs and values", () => {
    expect(maxDifference(existing(ours.data.logprobs, ours), golden.logprobs)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.refLogprobs, ours), golden.refLogprobs)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.data.values, ours), golden.values)).toBeLessThan(1e-5);
  });

  test("rewards, advantages and returns", () => {
    expect(maxDifference(existing(ours.rewards.rewards, ours), golden.rewards)).toBeLessThan(1e-5);
    expect(maxDifference(existing(ours.rewards.nonScoreRewards, ours), golden.nonScoreRewards)).toBeLessThan(1e-5);
    expect(maxDifference(ours.record.advantages, golden.used.advantages)).toBeLessThan(1e-5);
    expect(maxDifference(ours.record.returns, golden.used.returns)).toBeLessThan(1e-5);
  });

  test("losses and statistics of every minibatch", () => {
    const parts = minibatches(ours, golden, clip);
    expect(parts.flatMap(({ rows }) => rows)).toEqual(golden.order.flat());
    expect(parts.length).toBe(golden.minibatches.length);
    for (const [i, { named }] of parts.entries())
      for (const [name, want] of Object.entries(golden.minibatches[i]))
        expect(Math.abs(named[name] - want), `minibatch ${i}, ${name}`).toBeLessThan(1e-4);
  });

  test("every metric that the reference has", () => {
    const want = { ...golden.recorded, ...golden.overTokens };
    for (const name of Object.keys(want) as (keyof Metrics)[])
      expect(Math.abs((ours.metrics[name] ?? Number.NaN) - want[name]), name).toBeLessThan(1e-4);
    expect(ours.metrics["ppo/policy/first_ratio_deviation"]).toBeLessThan(1e-5);
  });

  test("the KL coefficient after the step", () => expect(ours.klCoefAfter).toBeCloseTo(golden.klCoefAfter, 6));

  const changes = readTensors(goldenPath(`ppo-step/${file}.safetensors`));
  test.each([1, 2])("the change of every weight after epoch %i", (epoch) =>
    expectSameChange(ours, epoch, changes, o.learning_rate),
  );
});
