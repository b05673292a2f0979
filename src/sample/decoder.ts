/** @file Decoding with a key-value cache: prompts in one pass, then one token per row and step. */

import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import { attentionScale, blockInputs, feedForward, queriesKeysValues } from "../gpt2/transformer.ts";
import type { Program } from "../graph/onnx.ts";
import { add, cachedAttention, concat, linear, reshape, split } from "../graph/ops/index.ts";
import { constant, dims, input, type Tensor } from "../graph/tensor.ts";

/** The cache length is rounded up to a multiple of this, so that few programs serve all lengths. */
const CACHE_MULTIPLE = 16;
/** GroupQueryAttention takes heads of a multiple of this. Others are filled up with zeros, which change no score. */
const HEAD_MULTIPLE = 8;

/**
 * B sequences being extended. Rows may have different lengths: there is no padding on the left, row b's next token goes
 * to position lengths[b] of its own cache.
 */
export class Decoder {
  readonly B: number;
  /** Tokens each row has in the cache. int32 [B] */
  readonly lengths: Int32Array;
  /** What the last call predicts: logits of the next token, [B, V], and the value of the state before it, [B]. */
  readonly logits: Float32Array;
  readonly values: Float32Array;
  readonly #model: GPT2HeadWithValueModel;
  readonly #capacity: number;
  /** D, the size of a head in the cache. */
  readonly #headSize: number;
  /** Per layer keys and values, each [B, H, M, D]. Attention reads and writes them in place. */
  readonly #cache: { keys: Float32Array; values: Float32Array }[];

  /** @param maxLength the longest a row will get, at most nPositions */
  constructor(model: GPT2HeadWithValueModel, B: number, maxLength: number) {
    const { nEmbd: C, nHead: H, nLayer, vocabSize: V } = model.config;
    model.vHead.requireScalar();
    this.#model = model;
    this.B = B;
    this.lengths = new Int32Array(B);
    this.#capacity = Math.ceil(maxLength / CACHE_MULTIPLE) * CACHE_MULTIPLE;
    this.#headSize = Math.ceil(C / H / HEAD_MULTIPLE) * HEAD_MULTIPLE;
    const take = () => model.pool.take(B * H * this.#capacity * this.#headSize);
    this.#cache = Array.from({ length: nLayer }, () => ({ keys: take(), values: take() }));
    this.logits = model.pool.take(B * V);
    this.values = new Float32Array(B);
  }

  /** Read the prompts (each at least one token) and predict the token after each. */
  async prefill(prompts: readonly Int32Array[]): Promise<void> {
    const T = Math.max(...prompts.map((p) => p.length));
    const ids = new Int32Array(this.B * T);
    prompts.forEach((p, b) => {
      ids.set(p, b * T);
      this.lengths[b] = p.length;
    });
    await this.#extend(ids, T);
  }

  /** Append one token to every row and predict the next. ids int32 [B] */
  async step(ids: Int32Array): Promise<void> {
    for (let b = 0; b < this.B; b++) this.lengths[b]++;
    await this.#extend(ids, 1);
  }

  /** Give the buffers back. */
  release(): void {
    for (const { keys, values } of this.#cache) this.#model.pool.release(keys, values);
    this.#model.pool.release(this.logits);
  }

  /** T tokens a row, already counted in `lengths`; in a prefill rows shorter than T are padded on the right. */
  async #extend(ids: Int32Array, T: number): Promise<void> {
    const { config, parameters, pool, engine, head, transformer } = this.#model;
    const { B } = this;
    const C = config.nEmbd;
    const last = this.lengths.map((length) => length - 1);
    const total = Int32Array.of(Math.max(...this.lengths));
    let x = pool.take(B * T * C);
    let y = pool.take(B * T * C);
    const first = T === 1 ? last : undefined; // a prefill begins at the beginning
    transformer.embed(parameters, { ids, B, T }, x, first);
    for (let layer = 0; layer < config.nLayer; layer++) {
      const cache = this.#cache[layer];
      const scale = attentionScale(config, layer);
      const key = `cached.${B}x${T}.M${this.#capacity}.C${C}.I${config.nInner}.H${config.nHead}.${config.activationFunction}.${config.layerNormEpsilon}.${scale}`;
      const feeds = { x, pastKeys: cache.keys, pastValues: cache.values, last, total, ...parameters.block(layer) };
      await engine.run(key, () => this.#program(T, scale), feeds, { y, keys: cache.keys, values: cache.values });
      [x, y] = [y, x];
    }
    const ends = pool.take(B * C); // hidden state of each row's last token
    for (let b = 0; b < B; b++) {
      const t = T === 1 ? 0 : last[b];
      ends.set(x.subarray((b * T + t) * C, (b * T + t + 1) * C), b * C);
    }
    await head.logits(parameters, ends, B, this.logits, this.values);
    pool.release(x, y, ends);
  }

  #program(T: number, scale: number): Program {
    const { config } = this.#model;
    const { nEmbd: C, nHead: H } = config;
    const { B } = this;
    const cacheShape = { B, H, M: this.#capacity, D: this.#headSize };
    const x = input("x", { N: B * T, C });
    const p = blockInputs(config);
    const fill = this.#headSize - C / H;
    const fillUp = (part: Tensor) => {
      if (fill === 0) return reshape(part, dims({ B, T, C })); // [N, C] -> [B, T, C]
      const heads = reshape(part, dims({ B, T, H, D: C / H })); // [N, C] -> [B, T, H, C / H]
      const filled = concat([heads, constant(0, dims({ B, T, H, fill }))], 3);
      return reshape(filled, dims({ B, T, HD: H * this.#headSize })); // [B, T, H, D] -> [B, T, H D]
    };
    const qkv = split(queriesKeysValues(x, p, config), 1, [C, C, C]).map(fillUp);
    const past = [input("pastKeys", cacheShape), input("pastValues", cacheShape)];
    const lengths = [input("last", { B }, "int32"), input("total", { one: 1 }, "int32")];
    const [mixed, keys, values] = cachedAttention([...qkv, ...past, ...lengths], { heads: H, scale });
    const perHead = reshape(mixed, dims({ B, T, H, D: this.#headSize })); // [B, T, H D] -> [B, T, H, D]
    const trimmed = fill === 0 ? perHead : split(perHead, 3, [C / H, fill])[0];
    const flat = reshape(trimmed, dims({ N: B * T, C })); // [B, T, H, C / H] -> [N, C]
    const middle = add(x, linear(flat, p["attn.c_proj.weight"], p["attn.c_proj.bias"]));
    return { name: "cached block", outputs: { y: feedForward(middle, p, config), keys, values } };
  }
}
