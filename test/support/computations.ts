/** @file What is computed on a backend and compared with the CPU: forward passes, log-probs, gradients, decoding, steps of PPO. */
import { expect } from "vitest";
import { ppoLoss } from "../../src/algorithms/losses.ts";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { gpt2, makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { llama } from "../../src/families/llama.ts";
import type { AskedTokens } from "../../src/model/asked.ts";
import { KeptSet } from "../../src/model/kept-set.ts";
import { newModel } from "../../src/model/load.ts";
import { CausalLMWithValueHead } from "../../src/model/model.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { int8Weights } from "../../src/sample/quantized-weights.ts";
import { scoreTokens } from "../../src/sample/score.ts";
import { type DecodingWeights, transposedWeights } from "../../src/sample/weights.ts";
import { maxDifference } from "./golden.ts";
import { trainSmall } from "./ppo.ts";

const B = 3;
const T = 7;
const ids = Int32Array.from({ length: B * T }, (_, i) => (37 * i + 5) % 53); // 53: the smallest vocabulary of the models
/** Every position that has a next token, and two of them twice. */
const rows = Int32Array.from({ length: B * (T - 1) + 2 }, (_, i) => {
  const n = i % (B * (T - 1));
  return Math.floor(n / (T - 1)) * T + (n % (T - 1));
});
function askedOf({ sizes: { vocabSize: V } }: CausalLMWithValueHead): AskedTokens {
  const kept = (n: number) => KeptSet.of(Int32Array.from(new Set([1, 2, 3, ids[n + 1]])).sort(), V);
  const penalised = (n: number) => ({ penalised: Int32Array.of(0, ids[n + 1]) });
  return {
    tokens: { ids, B, T },
    rows,
    ids: rows.map((n) => ids[n + 1]),
    distribution: {
      temperature: 0.8,
      repetitionPenalty: 1.3,
      adjustments: Array.from(rows, (n) => (n % 2 ? penalised(n) : undefined)),
      kept: Array.from(rows, (n) => (n % 3 ? undefined : kept(n))),
    },
  };
}

/** What the loss wants to know of each row. */
const inputs = Object.fromEntries(
  ["oldLogprobs", "advantages", "oldValues", "returns"].map((name, i) => [
    name,
    Float32Array.from(rows, (n) => Math.sin(5 * i + n) - (i === 0 ? 4 : 0)),
  ]),
);
inputs.weight = new Float32Array(rows.length).fill(1 / rows.length);
const loss = ppoLoss({ clipRange: 0.2, clipRangeValue: 0.2, vfCoef: 0.5, entropyCoef: 0.01 });

/** Numbers by name. */
export type Results = Readonly<Record<string, ArrayLike<number>>>;

async function gradients(model: CausalLMWithValueHead, keep: "heavy" | "nothing"): Promise<Results> {
  const grads = new ParameterBuffer(model.parameters.table);
  grads.data.fill(Number.NaN); // whatever is not written shows
  const asked = askedOf(model);
  const first = await model.lossAndGradients(asked, loss, inputs, grads, false, keep);
  const alone = grads.data.slice();
  const second = await model.lossAndGradients(asked, loss, inputs, grads, true, keep); // added to the first
  expect(grads.data.every(Number.isFinite)).toBe(true);
  return { loss: [first.loss, second.loss], values: first.values, alone, both: grads.data };
}

/** Two prompts of several lengths and three tokens each. */
async function decode(model: CausalLMWithValueHead, weights?: DecodingWeights): Promise<Results> {
  const decoder = new Decoder(model, 2, 12, weights);
  const results: number[] = [];
  const note = () => results.push(...decoder.logits, ...decoder.probabilities, ...decoder.values);
  await decoder.prefill([ids.slice(0, 5), ids.slice(5, 7)]);
  note();
  for (const i of [8, 10, 12]) {
    await decoder.step(ids.slice(i, i + 2));
    note();
  }
  decoder.release();
  weights?.release();
  return { results };
}

export const computations: [string, (model: CausalLMWithValueHead) => Promise<Results>][] = [
  [
    "forward, with all it can return",
    async (model) => {
      const attentionMask = Array.from({ length: B }, (_, b) => Array.from({ length: T }, (_, t) => (t >= b ? 1 : 0)));
      const inputIds = { data: ids, shape: [B, T] };
      const out = await model.forward({ inputIds, attentionMask, outputHiddenStates: true, outputAttentions: true });
      const states = [...(out.hiddenStates ?? []), ...(out.attentions ?? [])].flatMap(({ data }) => [...data]);
      const cache = out.pastKeyValues.flatMap(({ keys, values }) => [...keys.data, ...values.data]);
      return { logits: out.logits.data, values: out.values.data, states, cache };
    },
  ],
  ["a text", async (model) => ({ ...(await scoreTokens(model, ids.slice(0, 9))) })],
  [
    "log-probs, entropies and values",
    async (model) => {
      const { more, ...scores } = await model.score(askedOf(model), undefined, {
        tilts: [{ slope: 0.5, below: 0.1 }],
        ids: [3],
      });
      return { ...scores, ...more };
    },
  ],
  [
    "exact KL",
    async (model) => {
      const other = model.frozenCopy();
      other.parameters.data.forEach((x, i, all) => {
        all[i] = x * (1 + 0.05 * Math.sin(i));
      });
      return { ...(await model.exactKl(askedOf(model), other)) };
    },
  ],
  ["gradients", (model) => gradients(model, "heavy")],
  ["gradients that recompute", (model) => gradients(model, "nothing")],
  ["decoding", (model) => decode(model)],
  ["decoding with transposed weights", (model) => decode(model, transposedWeights(model))],
  ["decoding in int8", (model) => decode(model, int8Weights(model))],
  ["a PPO step", (model) => step(model, {})],
  ["a PPO step in micro-batches, scored exactly", (model) => step(model, { microBatchSize: 1, klLog: "exact" })],
];

const shape = { vocabSize: 8192, nEmbd: 32, nLayer: 2, nHead: 4, nInner: 64, nPositions: 48, eosTokenId: 8191 };
const llamaShape = {
  model_type: "llama",
  vocab_size: 8192,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 48,
  initializer_range: 0.2,
  tie_word_embeddings: true,
  eos_token_id: 8191,
};
const prompts = ["This movie", "The acting in this film was", "I", "Well, the director"];

/** A new model of the same family, for the vocabulary of the tokenizer. */
function larger({ family, engine }: CausalLMWithValueHead): CausalLMWithValueHead {
  const options = { engine, seed: 5 };
  if (family.modelTypes === gpt2.modelTypes)
    return GPT2HeadWithValueModel.fromConfig(makeConfig({ ...shape, initializerRange: 0.2 }), options);
  return new CausalLMWithValueHead(newModel(llama, llama.readConfig(llamaShape, "llama"), options), options);
}

/** Weights and metrics after a step. A large epsilon: next to it what a gradient of nearly 0 rounds to does not count. */
async function step(of: CausalLMWithValueHead, more: Partial<PPOConfig>): Promise<Results> {
  const model = larger(of);
  const before = model.parameters.data.slice();
  const options = { steps: 1, learningRate: 0.03, adamEpsilon: 1e-2, ...more };
  const { metrics, weights } = await trainSmall(model, prompts, options);
  expect(maxDifference(weights, before)).toBeGreaterThan(0.01);
  const numbers = Object.entries(metrics[0]).filter(
    ([name, x]) => !/^(time|memory)\//.test(name) && typeof x === "number",
  );
  expect(numbers.length).toBeGreaterThan(20);
  return { weights, metrics: numbers.map(([, x]) => x as number) };
}

/** The same numbers, to `tolerance` of each, or of 1 where it is smaller. */
export function sameResults(got: Results, want: Results, tolerance: number): void {
  for (const [key, numbers] of Object.entries(want)) {
    expect(got[key]).toHaveLength(numbers.length);
    for (let i = 0; i < numbers.length; i++) {
      const [x, y] = [got[key][i], numbers[i]];
      if (!(Object.is(x, y) || Math.abs(x - y) <= tolerance * Math.max(1, Math.abs(y))))
        expect.fail(`${key}[${i}]: ${x}, on the CPU ${y}`);
    }
  }
}
