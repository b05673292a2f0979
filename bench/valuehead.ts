/** @file Our side: node valuehead.js [--model DIR [--adapter DIR] | --sizes JSON [--rank R]] [--threads N] [--device D]. Its runs are in the last line; see side.ts. */
import { parseArgs } from "node:util";
import type { Metrics } from "../src/algorithms/events.ts";
import { type GRPOConfig, GRPOTrainer } from "../src/algorithms/grpo.ts";
import { Learner } from "../src/algorithms/learner.ts";
import { languageModelLoss } from "../src/algorithms/losses.ts";
import { PPOTrainer } from "../src/algorithms/ppo.ts";
import { DEVICES, type Device } from "../src/backend/devices.ts";
import { Engine } from "../src/backend/engine.ts";
import { makeConfig } from "../src/families/gpt2.ts";
import { loadModel, modelFromConfig } from "../src/families/index.ts";
import { makeLlamaConfig } from "../src/families/llama.ts";
import { linear } from "../src/graph/ops/index.ts";
import { input } from "../src/graph/tensor.ts";
import type { AskedTokens } from "../src/model/asked.ts";
import type { CausalLMWithValueHead } from "../src/model/model.ts";
import { arithmeticOf } from "../src/nn/arithmetic.ts";
import { gae } from "../src/rl/advantages.ts";
import { rewardsFromScores } from "../src/rl/rewards.ts";
import { type GenerateOptions, generate } from "../src/sample/generate.ts";
import { decodingWeights } from "../src/sample/precision.ts";
import { loadTokenizer } from "../src/tokenizer/load.ts";
import type { Tokenizer } from "../src/tokenizer/tokenizer.ts";
import { integers } from "./matmul.ts";
import { engineVersions } from "./report.ts";
import { type Clock, type Run, serve } from "./serve.ts";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: "" },
    /** A LoRA adapter for it, which is trained instead of its weights. */
    adapter: { type: "string" },
    /** Of a random model, instead of one from a directory. */
    sizes: { type: "string" },
    /** Of an adapter for it. */
    rank: { type: "string" },
    threads: { type: "string", default: "2" },
    /** What computes. */
    device: { type: "string", default: "cpu" },
  },
});
const device = DEVICES.find((name) => name === flags.device) as Device;
const threads = Number(flags.threads);
/** As a run opens a model. */
const opening = { threads, device, toTrain: true };
const opened = new Map<string, unknown>();

/** Made at its first use: a side holds what its case needs and nothing else. */
function once<T>(name: string, make: () => T): T {
  if (!opened.has(name)) opened.set(name, make());
  return opened.get(name) as T;
}

const openModel = () =>
  once("model", async (): Promise<CausalLMWithValueHead> => {
    if (!flags.sizes) return loadModel(flags.model, { ...opening, adapter: flags.adapter });
    const config = JSON.parse(flags.sizes);
    const made = config.modelType === "gpt2" ? makeConfig(config) : makeLlamaConfig(config);
    const model: CausalLMWithValueHead = modelFromConfig(made, opening);
    if (flags.rank) model.addAdapter({ rank: Number(flags.rank), alpha: 2 * Number(flags.rank) }, 1);
    return model;
  });
const openTokenizer = () => once("tokenizer", () => loadTokenizer(flags.model));

/** It trains the adapter, or everything. */
async function openLearner(learningRate: number): Promise<Learner> {
  const model = await openModel();
  return once("learner", () => new Learner(model, { optimizer: { learningRate, weightDecay: 0.01 }, maxGradNorm: 0 }));
}

/** Of rows of T + 1 tokens the last `keep` are predicted: log-probability, entropy and value of each. */
const forward: Run = async (command, clock) => {
  const { ids, keep } = command as unknown as { ids: number[][]; keep: number };
  const model = await openModel();
  clock.start();
  const { logprobs } = await model.score(lastTokens(ids, keep));
  clock.stop();
  return { numbers: Array.from(logprobs) };
};

const train: Run = async (command, clock) => {
  const { ids } = command as unknown as { ids: number[][] };
  const learner = await openLearner(1e-5);
  const asked = lastTokens(ids, ids[0].length - 1);
  const weight = new Float32Array(asked.rows.length).fill(1 / asked.rows.length);
  clock.start();
  const { loss } = await learner.accumulate(asked, languageModelLoss, { weight });
  await learner.apply();
  clock.stop();
  return { numbers: [loss] };
};

const adamw: Run = async (_, clock) => {
  const { model, optimizer, grads } = await openLearner(0.1);
  const arithmetic = arithmeticOf(model.engine);
  once("adamw", () => {
    for (const { name } of grads.table) {
      const view = grads.view(name);
      for (let i = 0; i < view.length; i++) view[i] = ((i % 7) - 3) * 1e-3;
    }
  });
  clock.start();
  await arithmetic.step(optimizer, model.parameters, grads, 1);
  clock.stop();
  await model.parameters.refresh();
  return { numbers: Array.from(model.parameters.view("transformer.h.0.mlp.c_fc.weight").subarray(0, 16)) };
};

interface SampleCommand {
  ids: number[][];
  tokens: number;
  /** "int8" draws from a quantised copy. */
  precision?: string;
  /** Give so many of the sequences, and the log-probabilities their tokens were drawn with. */
  check?: number;
}

const sample: Run = async (command, clock) => {
  const { ids, tokens, precision, check = 0 } = command as unknown as SampleCommand;
  const model = await openModel();
  const queries = ids.map((row) => Int32Array.from(row));
  const options = { maxNewTokens: tokens, eosTokenId: null };
  if (precision === "int8") return sampleInt8(model, queries, options, clock);
  clock.start();
  const { responses } = await generate(model, queries, options);
  clock.stop();
  const checked = responses.slice(0, check);
  return {
    sequences: checked.map((r, b) => [...ids[b], ...r.tokens]),
    logprobs: checked.flatMap((r) => Array.from(r.logprobs)),
  };
};

/** Sequences drawn with one quantised copy before the policy changes: a PPO batch. */
const INT8_SEQUENCES = 128;

/** A batch's time with its part of the quantising: all of it is done once for {@link INT8_SEQUENCES}. */
async function sampleInt8(
  model: CausalLMWithValueHead,
  queries: readonly Int32Array[],
  options: GenerateOptions,
  clock: Clock,
): ReturnType<Run> {
  const form = { precision: "int8" as const, rows: queries.length, steps: options.maxNewTokens };
  clock.start();
  const weights = decodingWeights(model, form);
  clock.stop();
  const quantiseSeconds = clock.seconds;
  try {
    clock.start();
    await generate(model, queries, { ...options, weights });
    clock.stop();
  } finally {
    weights.release();
  }
  const sampleSeconds = clock.seconds;
  clock.seconds += (quantiseSeconds * queries.length) / INT8_SEQUENCES;
  return { quantiseSeconds, sampleSeconds };
}

/** `count` prompts of `length` tokens each: what {@link ppo} then trains on. */
const prompts: Run = async (command) => {
  const { count, length } = command as unknown as { count: number; length: number };
  const tokenizer = await openTokenizer();
  const texts: string[] = [];
  for (let i = 0; texts.length < count; i++) {
    // Letters with a space before each: one or two tokens, whatever the vocabulary.
    const letters = Array.from(
      { length },
      (_, j) => ` ${String.fromCharCode(97 + ((i * 31 + j * j * 7 + i * j) % 26))}`,
    );
    const words = Array.from({ length }, (_, n) => letters.slice(0, n + 1).join(""));
    const text = words.find((candidate) => tokenizer.encode(candidate).length === length);
    if (text) texts.push(text);
    else if (i === 100 * count) throw new Error(`no prompts of ${length} tokens with this tokenizer`);
  }
  opened.set("prompts", texts);
  return { queries: texts.map((text) => Array.from(tokenizer.encode(text))) };
};

interface PpoCommand {
  /** The batch: the first of the prompts. */
  batch: number;
  tokens: number;
  epochs: number;
  miniBatch: number;
  sampleBatch: number;
  /** Of the base under an adapter. */
  basePrecision?: "int8";
  /** Default 1. */
  steps?: number;
}

/** The reward: a number for each place in the batch, which takes no time. */
const score = (place: number) => (place % 4) / 4;

const timesOf = (metrics: Metrics) =>
  Object.fromEntries(Object.entries(metrics).filter(([name]) => name.startsWith("time/"))) as Record<string, number>;

/** PPO steps; "stepSeconds" is each one's, the first with everything that is made for it. */
const ppo: Run = async (command, clock) => {
  const { batch, tokens, epochs, miniBatch, sampleBatch, basePrecision, steps = 1 } = command as unknown as PpoCommand;
  const model = await openModel();
  const tokenizer = await openTokenizer();
  const trainer = once("trainer", () => {
    let scored = 0; // a batch is a multiple of four
    const reward = (samples: unknown[]) => samples.map(() => score(scored++));
    const config = { batchSize: batch, miniBatchSize: miniBatch, maxNewTokens: tokens, maxGradNorm: 0, basePrecision };
    return new PPOTrainer({ model, tokenizer, reward, config: { ...config, rolloutBatchSize: sampleBatch } });
  });
  if (model.adapter) once("first", () => model.frozenCopy()); // shares the base: it costs an adapter
  Object.assign(trainer.config, { batchSize: batch, ppoEpochs: epochs, steps: trainer.stepsTaken + steps });
  const before = trainer.optimizer.step;
  let times: Record<string, number> = {};
  let responseTokens = 0;
  const stepSeconds: number[] = [];
  let last = performance.now();
  clock.start();
  for await (const event of trainer.train(once("prompts", () => [] as string[]))) {
    if (event.type !== "step") continue;
    stepSeconds.push((performance.now() - last) / 1000);
    last = performance.now();
    times = timesOf(event.metrics);
    responseTokens = event.metrics["tokens/responses_len_mean"] as number;
  }
  clock.stop();
  return { times, stepSeconds, responseTokens, optimizerSteps: trainer.optimizer.step - before };
};

/**
 * What the first PPO step reports of given responses: entropy, mean return, mean value. The first weights are the reference's, or with an
 * adapter those of a copy; the reference has none then.
 */
const ppoNumbers: Run = async (command) => {
  const { queries, responses } = command as unknown as Record<"queries" | "responses", number[][]>;
  const { reference } = opened.get("trainer") as PPOTrainer & Required<Pick<PPOTrainer, "reference">>;
  const model = (opened.get("first") as CausalLMWithValueHead | undefined) ?? reference;
  const width = Math.max(...responses.map((r) => r.length));
  const batch = { rows: responses.length, width, mask: new Uint8Array(responses.length * width) };
  const logprobs = new Float32Array(batch.mask.length);
  const refLogprobs = new Float32Array(batch.mask.length);
  const values = new Float32Array(batch.mask.length);
  for (const [b, response] of responses.entries()) {
    const asked = lastTokens([[...queries[b], ...response]], response.length);
    const scored = await model.score(asked);
    refLogprobs.set((await reference.score(asked)).logprobs, b * width);
    batch.mask.fill(1, b * width, b * width + response.length);
    logprobs.set(scored.logprobs, b * width);
    values.set(scored.values, b * width);
  }
  const scores = responses.map((_, place) => score(place));
  const given = { scores, logprobs, refLogprobs, klCoef: 0.2, penalty: "k1" as const, batch };
  const { returns } = gae({ ...rewardsFromScores(given), values, batch, gamma: 1, lambda: 0.95 });
  const mean = (x: Float32Array, count: number) => x.reduce((sum, xi, i) => sum + (batch.mask[i] ? xi : 0), 0) / count;
  const tokens = batch.mask.reduce((a, b) => a + b, 0);
  return { numbers: [-mean(logprobs, batch.rows), mean(returns, tokens), mean(values, tokens)] };
};

interface GrpoCommand {
  prompts: number;
  generations: number;
  tokens: number;
  microBatch: number;
}

function grpoTrainer(
  { prompts, generations, tokens, microBatch }: GrpoCommand,
  model: CausalLMWithValueHead,
  tokenizer: Tokenizer,
): GRPOTrainer {
  const batchSize = prompts * generations;
  let scored = 0; // a batch is a multiple of four
  const reward = (samples: unknown[]) => samples.map(() => score(scored++));
  const config: Partial<GRPOConfig> = {
    ...{ steps: 1, batchSize, numGenerations: generations, miniBatchSize: batchSize, microBatchSize: microBatch },
    ...{ rolloutBatchSize: batchSize, maxNewTokens: tokens, stopAtEos: false, klCoef: 0.04, logSamples: 0 },
  };
  return new GRPOTrainer({ model, tokenizer, reward, config });
}

/** A GRPO step: one optimizer step on all responses. */
const grpo: Run = async (command, clock) => {
  const [model, tokenizer] = [await openModel(), await openTokenizer()];
  const trainer = once("grpo", () => grpoTrainer(command as unknown as GrpoCommand, model, tokenizer));
  Object.assign(trainer.config, { steps: trainer.stepsTaken + 1 });
  let times: Record<string, number> = {};
  clock.start();
  for await (const event of trainer.train(once("prompts", () => [] as string[])))
    if (event.type === "step") times = timesOf(event.metrics);
  clock.stop();
  return { times };
};

/** What the first GRPO step of given responses, from the first weights, says: entropy, norm of the gradient. */
const grpoNumbers: Run = async (command) => {
  const { queries, responses, ...sizes } = command as unknown as GrpoCommand &
    Record<"queries" | "responses", number[][]>;
  const fresh = await loadModel(flags.model, { threads });
  try {
    const trainer = grpoTrainer(sizes, fresh, await openTokenizer());
    Object.assign(trainer.config, { audit: "off" }); // who drew them never ends a text
    const asked = queries.flatMap((query) => Array.from({ length: sizes.generations }, () => query));
    const { metrics } = await trainer.step(
      asked,
      responses,
      responses.map((_, place) => score(place)),
    );
    return { numbers: [metrics["policy/entropy"] as number, metrics["update/grad_norm"] as number] };
  } finally {
    fresh.dispose();
  }
};

const matmul: Run = async (command, clock) => {
  const { M, K, N } = command as unknown as { M: number; K: number; N: number };
  const engine = once("engine", () => new Engine({ threads }));
  const feeds = once("operands", () => ({ a: integers(M * K), b: integers(K * N) }));
  const product = once("product", () => new Float32Array(M * N));
  const program = once("program", () => ({
    name: "product",
    outputs: { product: linear(input("a", { M, K }), input("b", { K, N })) },
  }));
  clock.start();
  await engine.run(program, feeds, { product });
  clock.stop();
  return { numbers: Array.from(product.subarray(0, 16)) };
};

/** Of rows of T + 1 tokens, the last `keep` given those before. */
function lastTokens(ids: readonly number[][], keep: number): AskedTokens {
  const B = ids.length;
  const T = ids[0].length - 1;
  const rows = Int32Array.from({ length: B * keep }, (_, i) => Math.floor(i / keep) * T + T - keep + (i % keep));
  return {
    tokens: { ids: Int32Array.from(ids.flatMap((row) => row.slice(0, T))), B, T },
    rows,
    ids: Int32Array.from(ids.flatMap((row) => row.slice(-keep))),
    distribution: { temperature: 1 },
  };
}

const runs = { forward, train, adamw, sample, prompts, ppo, ppoNumbers, grpo, grpoNumbers, matmul };
await serve({ ...engineVersions(), threads, device }, runs);
