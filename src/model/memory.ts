/** @file How large a model is and how much memory it takes to sample from it and to train it. All in float32, 4 bytes. */

import { MIN_WORKING_BYTES, SESSIONS_OF_LARGEST } from "../backend/engine.ts";
import { fail } from "../base/errors.ts";
import type { Architecture } from "./family.ts";
import { chunksOf } from "./head.ts";
import { namesAbove, parameterTable, trainedRows } from "./parameters.ts";

export interface ParameterCounts {
  total: number;
  /** The embedding tables. A tied language-model head is the token embedding and counts here. */
  embeddings: number;
  /** All transformer blocks. */
  blocks: number;
  /** Final layer norm, a language-model head of its own, value head. */
  head: number;
}

export function countParameters(model: Architecture): ParameterCounts {
  const counts = { total: 0, embeddings: 0, blocks: 0, head: 0 };
  const embeddings = model.family.embeddings(model.config).map(({ name }) => name);
  for (const { name, layer, start, end } of parameterTable(model)) {
    const part = layer !== undefined ? "blocks" : embeddings.includes(name) ? "embeddings" : "head";
    counts[part] += end - start;
    counts.total += end - start;
  }
  return counts;
}

/** Numbers in the matrices of all blocks. */
const matrixFloats = (model: Architecture): number =>
  parameterTable(model).reduce((sum, { matrix, start, end }) => sum + (matrix ? end - start : 0), 0);

/** Bytes by what they are for. */
export interface MemoryEstimate {
  /** Bytes, the sum of `parts`. */
  total: number;
  /** Bytes by the name of what they are for, such as `weights`. */
  parts: Record<string, number>;
}

/**
 * What is used whatever the sizes, as measured with small models: Node with ONNX Runtime and the tokenizer; for training
 * compiled programs and code besides.
 */
const PROCESS_BYTES = { sampling: 110e6, training: 160e6 };

/** [R, V] results alive at once in the head's programs: logits and log-softmax, and what else comes of them. */
const HEAD_BUFFERS = { loss: 3, score: 2, exactKl: 5 };

/** What ONNX Runtime's arena takes for each byte in use: it grows in powers of two. Measured. */
const ARENA = 1.2;

/** Buffers of other lengths that wait for the garbage collector when responses differ in length. Measured. */
const GARBAGE = 1.5;

const estimate = (floats: Record<string, number>, process: number): MemoryEstimate => {
  const parts = Object.fromEntries([...Object.entries(floats).map(([k, n]) => [k, 4 * n]), ["process", process]]);
  return { parts, total: Object.values<number>(parts).reduce((a, b) => a + b, 0) };
};

/**
 * Floats per token that a block's programs work with, besides their inputs and results; C the width, A that of all heads, I the
 * feed-forward's, H T a row of attention for each head. Each is the larger of its feed-forward and its attention: `workingBytes` of
 * the programs. Where one matrix of the feed-forward gates the other there is one more [N, I] for each [N, I].
 */
function blockWork({ sizes }: Architecture, T: number) {
  const { width: C, heads, headSize, inner, innerMatrices } = sizes;
  const [I, A] = [inner * innerMatrices, heads * headSize];
  const attention = heads * T;
  return {
    forward: Math.max(I + 5 * C, 2 * attention + A),
    keeping: Math.max(I + 2 * C, 2 * attention + A),
    backward: Math.max(4 * I + 11 * C, 2 * attention + 5 * A),
    recomputing: Math.max(4 * I + 15 * C + attention, 3 * attention + 5 * A),
  };
}

/** Keys and values in each layer, next-token logits, the prompts' pass through one block. */
function samplingFloats(model: Architecture, rows: number, length: number): Record<string, number> {
  const { layers, width: C, kvHeads, headSize, vocabSize } = model.sizes;
  return {
    cache: rows * length * 2 * layers * kvHeads * headSize,
    logits: 2 * rows * vocabSize, // and their softmax
    activations: rows * length * (2 * C + ARENA * blockWork(model, length).forward),
  };
}

/**
 * Sampling `rows` responses together in fp32; `length` is prompt and response. Several rows are decoded with a transposed
 * copy of the blocks' matrices (sample/weights.ts); in training it lies in the gradients' buffer.
 */
export function samplingMemory(model: Architecture, { rows, length, int8 }: SamplingSizes): MemoryEstimate {
  const weights = countParameters(model).total;
  const copy: Record<string, number> = int8
    ? { "int8 copy": int8Copy(model) }
    : { transposed: rows > 1 ? transposedFloats(model) : 0 };
  return estimate({ weights, ...samplingFloats(model, rows, length), ...copy }, PROCESS_BYTES.sampling);
}

/** Responses sampled together, and the tokens of prompt and response. */
export interface SamplingSizes {
  rows: number;
  length: number;
  /** From a copy in int8. */
  int8?: boolean;
}

/** Bytes for each weight of a copy in int8 while it is made: 300 MB for GPT-2 124M, and 125 afterwards. */
const INT8_BYTES = 2.5;

const int8Copy = (model: Architecture) =>
  (INT8_BYTES / 4) * (matrixFloats(model) + model.sizes.vocabSize * model.sizes.width);

/** A copy of the matrices that are not stored as decoding wants them. */
const transposedFloats = (model: Architecture): number =>
  parameterTable(model).reduce((sum, { matrix, start, end }) => sum + (matrix === "in,out" ? end - start : 0), 0);

/** The peak of language-model training, {@link trainingMemory} without a reference or responses. */
export function pretrainingMemory(
  model: Architecture,
  { batchSize, sequenceLength }: { batchSize: number; sequenceLength: number },
): MemoryEstimate {
  const lengths = { promptTokens: 0, maxNewTokens: sequenceLength, minNewTokens: sequenceLength };
  const sizes = {
    ...lengths,
    rolloutBatchSize: 1,
    miniBatchSize: batchSize,
    microBatchSize: 0,
    gradientCheckpointing: false,
  };
  const { reference, ...parts } = trainingMemory(model, sizes).parts;
  return { parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
}

/** @throws config - the one message for everything that does not fit in memory */
export function refuseForMemory(what: string, need: MemoryEstimate, limit: number, fix: string): never {
  return fail("config", {
    where: "memory",
    found: `${what} that takes about ${bytesInWords(need.total)}: ${memoryParts(need)}`,
    expected: `at most ${bytesInWords(limit)}, what this process may use now`,
    fix,
  });
}

export const bytesInWords = (bytes: number): string =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;

/** `weights 498 MB, gradients 498 MB, ...` */
export const memoryParts = ({ parts }: MemoryEstimate): string =>
  Object.entries(parts)
    .map(([name, bytes]) => `${name} ${bytesInWords(bytes)}`)
    .join(", ");

/** The options of a PPO run that determine its memory. */
export interface TrainingSizes {
  rolloutBatchSize: number;
  miniBatchSize: number;
  /** 0: the whole minibatch. */
  microBatchSize: number;
  maxNewTokens: number;
  minNewTokens: number;
  gradientCheckpointing: boolean;
  /** Tokens of the longest prompt. */
  promptTokens: number;
  /** Whether the KL over the whole vocabulary is computed. */
  exactKl?: boolean;
  /** Whether sampling leaves tokens out (top-k and the like): kept sets are fed as [R, V]. */
  truncates?: boolean;
  /** Blocks below which nothing has gradients, moments or a copy in the reference, with the embeddings; 0: everything has. */
  frozenLayers?: number;
  /** Whether the value head has a model of its own. */
  separateValues?: boolean;
  /** Whether responses are sampled from a copy in int8, and scored again by the policy. */
  int8Rollouts?: boolean;
}

/**
 * The peak of a PPO run. Besides the weights: gradients, AdamW's two moments and the frozen reference, each as large as what is
 * trained; what the blocks keep for the backward pass, or the sampler's cache, which take turns; and what the programs work
 * with, which ONNX Runtime keeps for each program up to a bound ({@link Engine}).
 */
export function trainingMemory(model: Architecture, sizes: TrainingSizes): MemoryEstimate {
  const { width: C, heads: H, headSize, kvHeads, layers, vocabSize: V, context } = model.sizes;
  const I = model.sizes.inner * model.sizes.innerMatrices;
  const { miniBatchSize, maxNewTokens, frozenLayers = 0, truncates = false } = sizes;
  const micro = sizes.microBatchSize || miniBatchSize;
  const ragged = sizes.minNewTokens < maxNewTokens;
  const length = Math.min(context, Math.ceil((sizes.promptTokens + maxNewTokens) / 8) * 8);
  const weights = countParameters(model).total;
  const table = parameterTable(model);
  const trained = trainedRows(table, namesAbove(model, table, frozenLayers)).at(-1)?.end ?? 0;

  // queries, keys and values, attention, what it mixed, the stream between, the feed-forward input; and the streams
  const kept = sizes.gradientCheckpointing
    ? 0
    : (layers - frozenLayers) * (2 * C + (H + 2 * kvHeads) * headSize + I + H * length);
  const saved = micro * length * (kept + (layers + 3) * C);
  const { cache, logits, ...rest } = samplingFloats(model, sizes.rolloutBatchSize, length);
  const buffers = Math.max(saved * (ragged ? GARBAGE : 1), cache + logits + rest.activations);

  const work = blockWork(model, length);
  const chunks = (rows: number) => headChunks(rows * maxNewTokens, V).map((R) => R * V);
  const scored = chunks(micro).map((n) => n * (sizes.exactKl ? HEAD_BUFFERS.exactKl : HEAD_BUFFERS.score));
  const learned = chunks(micro).map((n) => n * HEAD_BUFFERS.loss);
  const adding = micro < miniBatchSize; // programs of their own add gradients to those there are
  const programs = [
    micro * length * work.forward,
    ...(sizes.gradientCheckpointing ? [] : [micro * length * work.keeping]), // the program for scoring is used
    ...new Array(adding ? 2 : 1).fill(
      micro * length * (sizes.gradientCheckpointing ? work.recomputing : work.backward),
    ),
    ...new Set(scored),
    ...(sizes.int8Rollouts ? new Set(scored) : []), // the policy scores what its copy drew, and asks for more than the reference
    learned[0],
    ...new Set(adding ? learned : learned.slice(1)),
  ];
  const sum = programs.reduce((a, b) => a + b, 0);
  const bound = Math.max(MIN_WORKING_BYTES / 4, SESSIONS_OF_LARGEST * Math.max(...programs));
  const transposed = frozenLayers > 0 ? transposedFloats(model) : 0; // otherwise in the gradients' buffer
  const dense = truncates ? Math.max(...chunks(micro)) : 0;
  return estimate(
    {
      weights,
      reference: trained,
      gradients: trained,
      moments: 2 * trained,
      ...(sizes.separateValues ? { "value model": 4 * trained } : {}),
      ...(sizes.int8Rollouts ? { "int8 copy": int8Copy(model) } : {}),
      "activations and cache": Math.max(buffers, cache + logits + rest.activations + transposed),
      "working memory": ARENA * Math.min(bound, ragged ? 3 * sum : sum) + dense,
    },
    PROCESS_BYTES.training,
  );
}

/** Rows of each chunk that `rows` go through the head in. */
function headChunks(rows: number, V: number): number[] {
  const size = chunksOf(rows, V);
  return new Array(Math.ceil(rows / size)).fill(size);
}
