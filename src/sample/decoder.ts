/** @file Decoding with a key-value cache: prompts in one pass, then one token per row and step. */
import type { DeviceBuffer } from "../backend/backend.ts";
import { distinctLists } from "../base/token-ids.ts";
import { rotaryFeeds } from "../model/attend.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { Rows } from "../model/rows.ts";
import { type DecodingWeights, storedWeights } from "./weights.ts";

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
  /** What the last call predicts: logits of the next token and their softmax, [B, V], and the value of the state before it, [B]. */
  readonly logits: Float32Array;
  readonly probabilities: Float32Array;
  readonly values: Float32Array;
  readonly #model: CausalLMWithValueHead;
  readonly #weights: DecodingWeights;
  readonly #capacity: number;
  /** D, the size of a head in the cache. */
  readonly #headSize: number;
  /** Per layer keys and values, each [B, K, M, D]. Attention reads and writes them in place. */
  readonly #cache: { keys: DeviceBuffer; values: DeviceBuffer }[];

  /**
   * @param maxLength the longest a row will get, at most the model's context
   * @param weights   what multiplies; default: the model's, where they lie
   */
  constructor(model: CausalLMWithValueHead, B: number, maxLength: number, weights = storedWeights(model)) {
    const { kvHeads: K, headSize, layers, vocabSize: V } = model.sizes;
    model.vHead.requireScalar();
    this.#model = model;
    this.#weights = weights;
    this.B = B;
    this.lengths = new Int32Array(B);
    this.#capacity = Math.ceil(maxLength / CACHE_MULTIPLE) * CACHE_MULTIPLE;
    this.#headSize = Math.ceil(headSize / HEAD_MULTIPLE) * HEAD_MULTIPLE;
    const take = () => model.pool.take(B * K * this.#capacity * this.#headSize);
    this.#cache = Array.from({ length: layers }, () => ({ keys: take(), values: take() }));
    this.logits = model.pool.array(B * V);
    this.probabilities = model.pool.array(B * V);
    this.values = new Float32Array(B);
  }

  /** Read the prompts (each at least one token) and predict the token after each. Of equal prompts one is computed. */
  async prefill(prompts: readonly Int32Array[]): Promise<void> {
    const T = Math.max(...prompts.map((p) => p.length));
    const { distinct, which } = distinctLists(prompts);
    const ids = new Int32Array(distinct.length * T);
    distinct.forEach((p, u) => {
      ids.set(p, u * T);
    });
    prompts.forEach(({ length }, b) => {
      this.lengths[b] = length;
    });
    const lengths = Int32Array.from(distinct, ({ length }) => length);
    await this.#extend(ids, T, lengths, distinct.length < this.B ? which : undefined);
  }

  /** Append one token to every row and predict the next. ids int32 [B] */
  async step(ids: Int32Array): Promise<void> {
    for (let b = 0; b < this.B; b++) this.lengths[b]++;
    await this.#extend(ids, 1, this.lengths);
  }

  /** Give the buffers back. */
  release(): void {
    for (const { keys, values } of this.#cache) this.#model.pool.release(keys, values);
    this.#model.pool.release(this.logits, this.probabilities);
  }

  /**
   * T tokens a row, already counted in `lengths`; in a prefill rows shorter than T are padded on the right.
   * @param ids     [R, T], of the rows that are computed
   * @param lengths [R]
   * @param which   which of these each of the B sequences is, [B]; default: they are the sequences
   */
  async #extend(ids: Int32Array, T: number, lengths: Int32Array, which?: Int32Array): Promise<void> {
    const { family, config, sizes, parameters, pool, rows, body } = this.#model;
    const B = lengths.length;
    const { width: C, layers, kvHeads: K } = sizes;
    const last = lengths.map((length) => length - 1);
    const total = Int32Array.of(Math.max(...lengths));
    let x = pool.take(B * T * C);
    let y = pool.take(B * T * C);
    const first = T === 1 ? last : undefined; // a prefill begins at the beginning
    await body.embed(parameters, { ids, B, T }, x, first);
    const positions = Int32Array.from({ length: B * T }, (_, n) => (first ? first[n] : n % T));
    const rotary = rotaryFeeds(this.#model, positions);
    const perRow = K * this.#capacity * this.#headSize;
    const shared = which && { keys: pool.take(B * perRow), values: pool.take(B * perRow) };
    const cacheRows = new Rows(perRow, this.#model.engine);
    for (let layer = 0; layer < layers; layer++) {
      const cache = this.#cache[layer];
      const { keys, values } = shared ?? cache;
      const form = { B, T, M: this.#capacity, D: this.#headSize, scale: family.attentionScale(config, layer) };
      const feeds = { x, pastKeys: keys, pastValues: values, last, total, ...rotary };
      await this.#weights.block(layer, form, feeds, { y, keys, values });
      if (which) {
        await cacheRows.gather([{ from: keys, rows: which }], cache.keys);
        await cacheRows.gather([{ from: values, rows: which }], cache.values);
      }
      [x, y] = [y, x];
    }
    const ends = pool.take(this.B * C); // hidden state of each sequence's last token
    const lastRows = last.map((t, r) => (T === 1 ? r : r * T + t));
    await rows.gather([{ from: x, rows: which?.map((r) => lastRows[r]) ?? lastRows }], ends);
    await this.#weights.head(ends, this.B, this);
    pool.release(x, y, ends);
    if (shared) pool.release(shared.keys, shared.values);
  }
}
