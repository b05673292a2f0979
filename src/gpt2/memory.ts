/** @file How large a model is and how much memory it takes to sample from it and to train it. All in float32, 4 bytes. */
import type { GPT2Config } from "./config.ts";
import { parameterTable } from "./parameters.ts";

export interface ParameterCounts {
  total: number;
  /** wte and wpe. A tied language-model head is the token embedding and counts here. */
  embeddings: number;
  /** All transformer blocks. */
  blocks: number;
  /** Final layer norm, a language-model head of its own, value head. */
  head: number;
}

export function countParameters(config: GPT2Config): ParameterCounts {
  const counts = { total: 0, embeddings: 0, blocks: 0, head: 0 };
  for (const { name, start, end } of parameterTable(config)) {
    const part = /^transformer\.w[tp]e\./.test(name)
      ? "embeddings"
      : name.startsWith("transformer.h.")
        ? "blocks"
        : "head";
    counts[part] += end - start;
    counts.total += end - start;
  }
  return counts;
}

/** Bytes by what they are for. */
export interface MemoryEstimate {
  total: number;
  parts: Record<string, number>;
}

/**
 * What is there whatever the sizes, as measured with the embedded model (resident memory less all the rest): Node with ONNX
 * Runtime and compiled programs; for training a second thread, more programs and their working memory.
 */
const PROCESS_BYTES = { sampling: 100e6, training: 350e6 };

/** [rows, V] buffers alive in the head's programs: logits, log-softmax, entropy, gradients, for scoring and for the loss. Measured too. */
const HEAD_BUFFERS = 8;

const estimate = (floats: Record<string, number>, process: number): MemoryEstimate => {
  const parts = Object.fromEntries([...Object.entries(floats).map(([k, n]) => [k, 4 * n]), ["process", process]]);
  return { parts, total: Object.values<number>(parts).reduce((a, b) => a + b, 0) };
};

/**
 * Floats a block holds per token while it runs, or keeps for its backward pass: the stream C, queries, keys and values
 * 3C, mixed values C, the stream after attention C, the feed-forward input I, and a row of attention for each head, H T.
 * With I = 4C that is 10C + H T.
 */
const blockFloats = ({ nEmbd: C, nInner: I, nHead: H }: GPT2Config, T: number) => 6 * C + I + H * T;

/** Weights, key-value cache of keys and values in each layer, the prompts' pass through one block, next-token logits and their softmax. */
function samplingFloats(config: GPT2Config, rows: number, length: number): Record<string, number> {
  return {
    weights: countParameters(config).total,
    cache: rows * length * 2 * config.nLayer * config.nEmbd,
    activations: rows * length * blockFloats(config, length),
    logits: 2 * rows * config.vocabSize,
  };
}

/**
 * Sampling `rows` responses together in fp32; `length` is prompt and response. Several rows are decoded with a transposed
 * copy of the blocks' matrices (sample/weights.ts); in training it lies in the gradients' buffer.
 */
export function samplingMemory(config: GPT2Config, { rows, length }: { rows: number; length: number }): MemoryEstimate {
  const { nEmbd: C, nInner: I, nLayer } = config;
  const transposed = rows > 1 ? nLayer * (4 * C * C + 2 * C * I) : 0;
  return estimate({ ...samplingFloats(config, rows, length), transposed }, PROCESS_BYTES.sampling);
}

/**
 * A PPO run. Beside the weights: gradients, AdamW's two moments and the frozen reference, each as large; what every block
 * keeps for its backward pass; the head's [rows, V] buffers for one chunk of rows; and the sampler, whose buffers stay for the next step.
 * @param rows          responses sampled together
 * @param miniBatchSize sequences in one backward pass
 * @param length        tokens of prompt and response
 * @param chunkRows     rows of the head's chunks, {@link Head.chunkRows}
 */
export function trainingMemory(
  config: GPT2Config,
  {
    rows,
    miniBatchSize,
    length,
    chunkRows,
  }: { rows: number; miniBatchSize: number; length: number; chunkRows: number },
): MemoryEstimate {
  const { weights, ...sampler } = samplingFloats(config, rows, length);
  const tokens = miniBatchSize * length;
  return estimate(
    {
      weights,
      gradients: weights,
      moments: 2 * weights,
      reference: weights,
      activations: tokens * config.nLayer * blockFloats(config, length),
      head: HEAD_BUFFERS * Math.min(tokens, chunkRows) * config.vocabSize,
      sampler: Object.values(sampler).reduce((a, b) => a + b, 0),
    },
    PROCESS_BYTES.training,
  );
}
