/**
 * @file The body of GPT-2: embeddings and blocks, forwards and backwards. One program for each kind of block, run once a
 * layer with that layer's weights; activations live in pooled buffers that this file hands from program to program.
 */

import type { BufferPool, Engine } from "../backend/engine.ts";
import { Memo } from "../base/memo.ts";
import { accumulate } from "../graph/gradient.ts";
import { add, layerNorm, linear } from "../graph/ops/index.ts";
import { type ForwardBackward, forwardBackward, type Keep } from "../graph/partition.ts";
import { dims, elementCount, input, type Tensor } from "../graph/tensor.ts";
import { activations } from "../nn/activations.ts";
import { attention, causalBias } from "../nn/attention.ts";
import type { GPT2Config } from "./config.ts";
import { BLOCK_NAMES, type ParameterBuffer } from "./parameters.ts";

/** Token ids of B sequences, right-padded to T, and where each token stands. */
export interface Tokens {
  /** int32 [B, T]; padding may be any id. */
  readonly ids: Int32Array;
  readonly B: number;
  readonly T: number;
}

/** What a forward pass keeps for the backward pass. Buffers go back to the pool in {@link Transformer.backward}. */
export interface Activations {
  readonly tokens: Tokens;
  /** Blocks below are frozen: of them nothing is kept. */
  readonly from: number;
  /** The stream before each block and after the last: nLayer - from + 1 buffers [N, C]. */
  readonly streams: Float32Array[];
  /** What each block's forward program saved, by name. */
  readonly saved: Record<string, Float32Array>[];
}

/** x times a weight plus a bias: how a program multiplies follows from how the weight is stored. */
export type Product = (x: Tensor, weight: Tensor, bias: Tensor) => Tensor;

/** The matrices of a block, [in, out]. */
export const BLOCK_MATRICES = ["attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"];

/**
 * Symbolic parameters of a block, by short name; the shapes follow from the config.
 * @param transposed the matrices are stored [out, in]
 */
export function blockInputs(config: GPT2Config, prefix = "", transposed = false): Record<string, Tensor> {
  const { nEmbd: C, nInner: I } = config;
  const sizes: Record<string, Record<string, number>> = {
    "attn.c_attn.weight": { C, "3C": 3 * C },
    "attn.c_attn.bias": { "3C": 3 * C },
    "attn.c_proj.weight": { C, O: C },
    "mlp.c_fc.weight": { C, I },
    "mlp.c_fc.bias": { I },
    "mlp.c_proj.weight": { I, C },
  };
  const axes = (n: string) =>
    transposed && BLOCK_MATRICES.includes(n) ? dims(sizes[n]).reverse() : dims(sizes[n] ?? { C });
  return Object.fromEntries(BLOCK_NAMES.map((n) => [n, input(prefix + n, axes(n))]));
}

/** x + mlp(ln_2(x)), the second half of a block. x [N, C] */
export function feedForward(
  x: Tensor,
  p: Record<string, Tensor>,
  config: GPT2Config,
  product: Product = linear,
): Tensor {
  const normed = layerNorm(x, p["ln_2.weight"], p["ln_2.bias"], config.layerNormEpsilon);
  const wide = product(normed, p["mlp.c_fc.weight"], p["mlp.c_fc.bias"]); // [N, I]
  const active = activations[config.activationFunction](wide);
  return add(x, product(active, p["mlp.c_proj.weight"], p["mlp.c_proj.bias"]));
}

/** Queries, keys and values of ln_1(x), side by side. [N, C] -> [N, 3C] */
export function queriesKeysValues(
  x: Tensor,
  p: Record<string, Tensor>,
  config: GPT2Config,
  product: Product = linear,
): Tensor {
  const normed = layerNorm(x, p["ln_1.weight"], p["ln_1.bias"], config.layerNormEpsilon);
  return product(normed, p["attn.c_attn.weight"], p["attn.c_attn.bias"]);
}

/** The factor on q k^T in one layer. */
export function attentionScale(config: GPT2Config, layer: number): number {
  const perHead = config.scaleAttnWeights ? 1 / Math.sqrt(config.nEmbd / config.nHead) : 1;
  return config.scaleAttnByInverseLayerIdx ? perHead / (layer + 1) : perHead;
}

/** What a block's programs depend on, beside the config. */
interface BlockForm {
  B: number;
  T: number;
  /** The factor on q k^T. */
  scale: number;
  keep: Keep;
  /** Gradients are added to what is there. */
  accumulates: boolean;
}

/** Causal masks [T, T] kept, one for each length met last: 4 MB each at 1,024 tokens. */
const BIASES_KEPT = 16;

export class Transformer {
  readonly config: GPT2Config;
  readonly #engine: Engine;
  readonly #pool: BufferPool;
  /** Layers share programs unless the config scales attention by layer. */
  readonly #programs = new Memo((form: BlockForm) => this.#build(form));
  readonly #biases = new Memo(causalBias, BIASES_KEPT);

  constructor(config: GPT2Config, engine: Engine, pool: BufferPool) {
    this.config = config;
    this.#engine = engine;
    this.#pool = pool;
  }

  /**
   * Hidden states before the final layer norm, [N, C] with N = B T, in a pooled buffer the caller releases.
   * @param layers blocks to go through; default: all
   */
  async hidden(params: ParameterBuffer, tokens: Tokens, layers = this.config.nLayer): Promise<Float32Array> {
    const length = tokens.B * tokens.T * this.config.nEmbd;
    let x = this.#pool.take(length);
    let y = this.#pool.take(length);
    this.embed(params, tokens, x);
    for (let layer = 0; layer < layers; layer++) {
      const { forward } = this.#block(tokens, layer, "nothing", false);
      await this.#engine.run(forward, { x, bias: this.#biases.get(tokens.T), ...params.block(layer) }, { y });
      [x, y] = [y, x];
    }
    this.#pool.release(y);
    return x;
  }

  /** The same, keeping what the backward pass needs from block `from` on. The result is the last of `streams`. */
  async forward(params: ParameterBuffer, tokens: Tokens, keep: Keep = "heavy", from = 0): Promise<Activations> {
    const { nEmbd: C, nLayer } = this.config;
    const streams = [await this.hidden(params, tokens, from)];
    const saved: Record<string, Float32Array>[] = [];
    for (let layer = from; layer < nLayer; layer++) {
      const program = this.#block(tokens, layer, keep, false);
      const buffers = Object.fromEntries([...program.saved].map(([n, t]) => [n, this.#pool.take(elementCount(t))]));
      const y = this.#pool.take(tokens.B * tokens.T * C);
      const feeds = { x: streams[layer - from], bias: this.#biases.get(tokens.T), ...params.block(layer) };
      await this.#engine.run(program.forward, feeds, { y, ...buffers });
      streams.push(y);
      saved.push(buffers);
    }
    return { tokens, from, streams, saved };
  }

  /**
   * Gradients of every body parameter from block `kept.from` on, given that of the last stream.
   * @param dHidden    [N, C], overwritten
   * @param grads      receives the gradients
   * @param accumulate add to what `grads` holds instead of replacing it. The token embedding is always added to: with a
   *                   tied head its gradient was written by the head before this runs
   */
  async backward(
    params: ParameterBuffer,
    kept: Activations,
    dHidden: Float32Array,
    grads: ParameterBuffer,
    accumulate: boolean,
    keep: Keep = "heavy",
  ): Promise<void> {
    const { tokens, from, streams, saved } = kept;
    let dy = dHidden;
    let dx = this.#pool.take(dHidden.length);
    for (let layer = this.config.nLayer - 1; layer >= from; layer--) {
      const { backward } = this.#block(tokens, layer, keep, accumulate);
      const feeds = {
        x: streams[layer - from],
        bias: this.#biases.get(tokens.T),
        dy,
        ...saved[layer - from],
        ...params.block(layer),
        ...(accumulate ? grads.block(layer, "before.") : {}),
      };
      const results = { "d.x": dx, ...grads.block(layer, "d.") };
      await this.#engine.run(backward, feeds, results);
      this.#pool.release(streams[layer - from + 1], ...Object.values(saved[layer - from]));
      [dy, dx] = [dx, dy];
    }
    if (grads.has("transformer.wte.weight")) this.#embedBackward(tokens, dy, grads, accumulate);
    this.#pool.release(streams[0], dx === dHidden ? dy : dx);
  }

  /** x[n] = wte[ids[n]] + wpe[first[b] + t]; `first` int32 [B] is where each row's first token stands, default 0. */
  embed(params: ParameterBuffer, { ids, T }: Tokens, x: Float32Array, first?: Int32Array): void {
    const C = this.config.nEmbd;
    const wte = params.view("transformer.wte.weight");
    const wpe = params.view("transformer.wpe.weight");
    for (let n = 0; n < ids.length; n++) {
      const token = ids[n] * C;
      const position = ((first ? first[Math.floor(n / T)] : 0) + (n % T)) * C;
      for (let c = 0; c < C; c++) x[n * C + c] = wte[token + c] + wpe[position + c];
    }
  }

  /** d wte[ids[n]] += dx[n], d wpe[t] += dx[n]. */
  #embedBackward({ ids, T }: Tokens, dx: Float32Array, grads: ParameterBuffer, accumulate: boolean): void {
    const C = this.config.nEmbd;
    const dWte = grads.view("transformer.wte.weight");
    const dWpe = grads.view("transformer.wpe.weight");
    if (!accumulate) dWpe.fill(0);
    for (let n = 0; n < ids.length; n++) {
      const token = ids[n] * C;
      const position = (n % T) * C;
      for (let c = 0; c < C; c++) {
        dWte[token + c] += dx[n * C + c];
        dWpe[position + c] += dx[n * C + c];
      }
    }
  }

  #block({ B, T }: Tokens, layer: number, keep: Keep, accumulates: boolean): ForwardBackward {
    return this.#programs.get({ B, T, scale: attentionScale(this.config, layer), keep, accumulates });
  }

  /** Forward and backward program of a block. */
  #build({ B, T, scale, keep, accumulates }: BlockForm): ForwardBackward {
    const { config } = this;
    const x = input("x", { N: B * T, C: config.nEmbd });
    const bias = input("bias", dims({ one: 1, head: 1, T, S: T }));
    const p = blockInputs(config);
    const { mixed } = attention(queriesKeysValues(x, p, config), bias, { B, T, H: config.nHead }, scale);
    const middle = add(x, linear(mixed, p["attn.c_proj.weight"], p["attn.c_proj.bias"]));
    const y = feedForward(middle, p, config);
    return forwardBackward(
      "block",
      { y },
      { y: input("dy", y.shape) },
      { x, ...p },
      {
        keep,
        finish: (name, g) => (accumulates && name !== "x" ? accumulate(input(`before.${name}`, g.shape), g) : g),
      },
    );
  }
}
