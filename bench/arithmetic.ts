/**
 * @file What the work needs by arithmetic, whatever computes it. FLOPs: a multiplication and an addition are two. Matrix
 * products alone are counted, and of attention only what a token may look at: nobody gets credit for masked scores, for
 * elementwise work or for computing activations twice. C width, I inner width, L layers, V vocabulary.
 */

import type { GPT2Config } from "../src/families/gpt2.ts";
import { gpt2 } from "../src/families/gpt2.ts";
import { architecture } from "../src/model/family.ts";
import { parameterTable } from "../src/model/parameters.ts";

/** Forward pass through the blocks, B sequences of T tokens: per token and layer 8 C^2 + 4 C I and 4 C per token looked at. */
function blockFlops({ nEmbd: C, nInner: I, nLayer: L }: GPT2Config, B: number, T: number): number {
  const weights = 8 * C * C + 4 * C * I; // query, key, value 6 C^2; projection 2 C^2; feed-forward 2 x 2 C I
  const attention = 4 * C * ((T + 1) / 2); // scores and weighted sum, on average (T + 1) / 2 tokens each
  return B * T * L * (weights + attention);
}

/** Forward pass, with logits of `rows` positions: 2 C V each. */
export function forwardFlops(config: GPT2Config, B: number, T: number, rows: number): number {
  return blockFlops(config, B, T) + 2 * config.nEmbd * config.vocabSize * rows;
}

/** Forward and backward: each product has two gradients, each as large as itself. */
export function trainFlops(config: GPT2Config, B: number, T: number, rows: number): number {
  return 3 * forwardFlops(config, B, T, rows);
}

/** Responses of R tokens to prompts of P: the last token is drawn but not fed. One row of logits for each token drawn. */
export function sampleFlops(config: GPT2Config, B: number, P: number, R: number): number {
  return forwardFlops(config, B, P + R - 1, B * R);
}

/** A PPO step: sampling (whose log-probs are the old ones), the reference, and `epochs` of forward and backward. */
export function ppoFlops(config: GPT2Config, B: number, P: number, R: number, epochs: number): number {
  return (2 + 3 * epochs) * sampleFlops(config, B, P, R);
}

export function parameterCount(config: GPT2Config): number {
  return parameterTable(architecture(gpt2, config)).at(-1)?.end ?? 0;
}

/** fp32 weights that every decoding step reads: all but the position embeddings, of which it reads a row. */
export function weightBytes(config: GPT2Config): number {
  return 4 * (parameterCount(config) - config.nPositions * config.nEmbd);
}

/** Keys and values of B sequences of T tokens, fp32. */
export function cacheBytes({ nEmbd: C, nLayer: L }: GPT2Config, B: number, T: number): number {
  return 4 * B * T * L * 2 * C;
}

/** One AdamW step: parameters and two moments read and written, gradients read. */
export function adamwBytes(config: GPT2Config): number {
  return 4 * 7 * parameterCount(config);
}
