/** @file Windows of a tokenized corpus: shuffled batches for training, consecutive ones for evaluation. */
import { fail } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import type { TokenIds } from "./corpus.ts";

/** Where a {@link CorpusSampler} is. Plain data, safe for JSON. */
export interface CorpusSamplerState {
  /** Seed of offsets and order. */
  seed: number;
  /** Tokens in the corpus and in a window: another corpus would have another order. */
  tokens: number;
  /** T: tokens of a window, without the last target. */
  sequenceLength: number;
  /** Epochs finished. */
  epoch: number;
  /** Windows of this epoch already given out. */
  position: number;
}

/**
 * Random windows of T + 1 tokens (T inputs, and the same shifted by one as targets), each once per epoch.
 *
 * An epoch cuts the corpus into windows at a random offset and shuffles them. Neighbours share one token, the last target
 * of one and the first input of the next, so within an epoch no token is a target twice. The tokens before the offset and
 * after the last whole window are left out of that epoch, fewer than 2T of them. A batch may span two epochs.
 */
export class CorpusSampler {
  /** T: inputs of each window, which has T + 1 tokens. */
  readonly sequenceLength: number;
  /** Windows of a batch. */
  readonly batchSize: number;
  readonly #ids: TokenIds;
  readonly #seed: number;
  #epoch = 0;
  #position = 0;
  #offset = 0;
  #order: Int32Array = new Int32Array(0);
  /** Where the windows of the last batch begin in the corpus. [batchSize] @internal */
  starts: Int32Array = new Int32Array(0);

  /**
   * @throws data - a corpus shorter than one window
   * @throws usage - a length or batch size that is not a whole number from 1
   */
  constructor(ids: TokenIds, options: { sequenceLength: number; batchSize: number; seed: number }) {
    this.sequenceLength = positive("sequenceLength", options.sequenceLength);
    this.batchSize = positive("batchSize", options.batchSize);
    this.#ids = ids;
    this.#seed = options.seed;
    checkLength(ids, this.sequenceLength);
    this.#startEpoch();
  }

  /** Epochs seen, with the part of the current one. */
  get epoch(): number {
    return this.#epoch + this.#position / this.#order.length;
  }

  /** The next batch, row-major [batchSize, sequenceLength + 1]. */
  next(): Int32Array {
    const T = this.sequenceLength;
    const batch = new Int32Array(this.batchSize * (T + 1));
    this.starts = new Int32Array(this.batchSize);
    for (let row = 0; row < this.batchSize; row++) {
      if (this.#position >= this.#order.length) {
        this.#epoch++;
        this.#position = 0;
        this.#startEpoch();
      }
      const start = this.#offset + this.#order[this.#position++] * T;
      batch.set(this.#ids.subarray(start, start + T + 1), row * (T + 1));
      this.starts[row] = start;
    }
    return batch;
  }

  /** The state to save: where the next batch begins. */
  getState(): CorpusSamplerState {
    return {
      seed: this.#seed,
      tokens: this.#ids.length,
      sequenceLength: this.sequenceLength,
      epoch: this.#epoch,
      position: this.#position,
    };
  }

  /**
   * Continues where `getState` was called; the batch size may be another one.
   * @throws data - the state of another corpus, sequence length or seed
   */
  setState(state: CorpusSamplerState): void {
    checkSameCorpus(this.getState(), state);
    this.#epoch = state.epoch;
    this.#position = state.position;
    this.#startEpoch();
  }

  /** Offset and order depend on seed and epoch alone, so the state need not hold them. */
  #startEpoch(): void {
    const T = this.sequenceLength;
    const rng = stream(this.#seed, "corpusWindows", this.#epoch);
    this.#offset = rng.int(Math.min(T, this.#ids.length - T));
    this.#order = rng.permutation(Math.floor((this.#ids.length - 1 - this.#offset) / T));
  }
}

/** @throws data - a state of another corpus, sequence length or seed than one's own */
export function checkSameCorpus(own: CorpusSamplerState, state: CorpusSamplerState): void {
  for (const key of ["seed", "tokens", "sequenceLength"] as const) {
    if (state[key] === own[key]) continue;
    fail("data", {
      where: `state of the corpus sampler, ${key}`,
      found: String(state[key]),
      expected: `${own[key]}`,
      fix: "resume with the data files, tokenizer, sequence length and seed the run was started with",
    });
  }
}

/**
 * The whole corpus in order, for a held-out loss: batches of up to `batchSize` windows, row-major [rows, T + 1]. Every
 * token but the first is a target once; the tokens after the last whole window are left out, fewer than T of them.
 * @throws data - a corpus shorter than one window
 */
export function* consecutiveWindows(
  ids: TokenIds,
  options: { sequenceLength: number; batchSize: number },
): Generator<{ ids: Int32Array; rows: number; starts: Int32Array }, void, undefined> {
  const T = positive("sequenceLength", options.sequenceLength);
  const batchSize = positive("batchSize", options.batchSize);
  checkLength(ids, T);
  const windows = Math.floor((ids.length - 1) / T);
  for (let first = 0; first < windows; first += batchSize) {
    const rows = Math.min(batchSize, windows - first);
    const batch = new Int32Array(rows * (T + 1));
    for (let row = 0; row < rows; row++) {
      const start = (first + row) * T;
      batch.set(ids.subarray(start, start + T + 1), row * (T + 1));
    }
    yield { ids: batch, rows, starts: Int32Array.from({ length: rows }, (_, row) => (first + row) * T) };
  }
}

function positive(where: string, value: number): number {
  if (Number.isInteger(value) && value > 0) return value;
  return fail("usage", { where, found: String(value), expected: "a whole number from 1", fix: `correct ${where}` });
}

function checkLength(ids: TokenIds, sequenceLength: number): void {
  if (ids.length > sequenceLength) return;
  fail("data", {
    where: "corpus",
    found: `${ids.length} tokens`,
    expected: `at least ${sequenceLength + 1}, one window of sequenceLength + 1`,
    fix: "add text or shorten sequenceLength",
  });
}
