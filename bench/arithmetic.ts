/**
 * @file What the work needs by arithmetic, whatever computes it. FLOPs: a multiplication and an addition are two. Matrix
 * products alone are counted, and of attention only what a token may look at: nobody gets credit for masked scores, for
 * elementwise work or for computing activations twice. C width, V vocabulary, H heads of D numbers.
 */

import { type GPT2Config, gpt2 } from "../src/families/gpt2.ts";
import { type LlamaConfig, llama } from "../src/families/llama.ts";
import { type LoRAConfig, loraConfig } from "../src/model/adapter.ts";
import { type Architecture, architecture, type Family } from "../src/model/family.ts";
import { namesAbove, type Parameter, parameterTable, trainedRows } from "../src/model/parameters.ts";

export type AnyConfig = GPT2Config | LlamaConfig;

function open(config: AnyConfig, adapter?: LoRAConfig): Architecture {
  const family = config.modelType === "gpt2" ? gpt2 : llama;
  return architecture(family as unknown as Family, config, adapter);
}

const elements = (rows: readonly Parameter[]) => rows.reduce((sum, { start, end }) => sum + end - start, 0);
const total = (config: AnyConfig) => elements(parameterTable(open(config)));
const adapted = (config: AnyConfig, rank: number) => open(config, loraConfig({ rank }));

/** FLOPs of a forward pass: by matrices of the blocks, by attention, by the head where there are `rows` of logits. */
function parts(config: AnyConfig, B: number, T: number, rows: number) {
  const { sizes, ...model } = open(config);
  const matrices = parameterTable({ sizes, ...model }).filter(({ matrix, layer }) => matrix && layer !== undefined);
  // Scores and weighted sum, 2 H D each for every token looked at: on average (T + 1) / 2.
  const looking = 4 * sizes.heads * sizes.headSize * ((T + 1) / 2);
  return {
    blocks: 2 * B * T * elements(matrices),
    attention: B * T * sizes.layers * looking,
    head: 2 * sizes.width * sizes.vocabSize * rows,
  };
}

/** Forward pass of B sequences of T tokens, with logits of `rows` positions. */
export function forwardFlops(config: AnyConfig, B: number, T: number, rows: number): number {
  const { blocks, attention, head } = parts(config, B, T, rows);
  return blocks + attention + head;
}

/** Forward and backward: each product has two gradients, each as large as itself. */
export function trainFlops(config: AnyConfig, B: number, T: number, rows: number): number {
  return 3 * forwardFlops(config, B, T, rows);
}

/** The same of a LoRA adapter on every matrix of the blocks: matrices and head have no gradient of their own, and the adapter is small products. */
export function trainAdapterFlops(config: AnyConfig, rank: number, B: number, T: number, rows: number): number {
  const { blocks, attention, head } = parts(config, B, T, rows);
  const adapter = elements(parameterTable(adapted(config, rank)).filter(({ adapts }) => adapts));
  return 2 * blocks + 3 * attention + 2 * head + 3 * 2 * B * T * adapter;
}

/** Responses of R tokens to prompts of P: the last token is drawn but not fed. One row of logits for each token drawn. */
export function sampleFlops(config: AnyConfig, B: number, P: number, R: number): number {
  return forwardFlops(config, B, P + R - 1, B * R);
}

/** A PPO step: sampling (whose log-probs are the old ones), the reference, and `epochs` of forward and backward. */
export function ppoFlops(config: AnyConfig, B: number, P: number, R: number, epochs: number): number {
  return (2 + 3 * epochs) * sampleFlops(config, B, P, R);
}

export const parameterCount = total;

/** fp32 weights that every decoding step reads: all but position embeddings, of which it reads a row. */
export function weightBytes(config: AnyConfig): number {
  const { family } = open(config);
  const positions = family.embeddings(config).slice(1);
  const unread = parameterTable(open(config)).filter(({ name }) => positions.some((row) => row.name === name));
  return 4 * (total(config) - elements(unread));
}

/** Keys and values of B sequences of T tokens, fp32. */
export function cacheBytes(config: AnyConfig, B: number, T: number): number {
  const { layers, kvHeads, headSize } = open(config).sizes;
  return 4 * B * T * layers * 2 * kvHeads * headSize;
}

/** One AdamW step: parameters and two moments read and written, gradients read. With a rank, of an adapter and the value head. */
export function adamwBytes(config: AnyConfig, rank?: number): number {
  const model = rank === undefined ? open(config) : adapted(config, rank);
  const table = parameterTable(model);
  return 4 * 7 * elements(trainedRows(table, namesAbove(model, table, 0)));
}
