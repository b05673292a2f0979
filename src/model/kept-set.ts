/** @file Which tokens could have been drawn, remembered for every token of a rollout: small. */
import { fail } from "../base/errors.ts";

/** A set of token ids of one vocabulary. Where there is none (undefined), every token could have been drawn. */
export class KeptSet {
  /** How many ids. */
  readonly size: number;
  /** Either the ids, ascending, or one bit for each token of the vocabulary, whichever is shorter. Not to be changed. */
  readonly data: Int32Array | Uint32Array;

  private constructor(size: number, data: Int32Array | Uint32Array) {
    this.size = size;
    this.data = data;
  }

  /**
   * The set of some ids.
   * @param ids ascending, each once, from 0 to vocabSize - 1; not to be changed afterwards
   * @throws input - ids that are not that
   */
  static of(ids: Int32Array, vocabSize: number): KeptSet {
    for (let i = 0, least = 0; i < ids.length; least = ids[i++] + 1)
      if (!(ids[i] >= least && ids[i] < vocabSize))
        fail("input", {
          where: `KeptSet.of, place ${i}`,
          found: `id ${ids[i]}`,
          expected: `ascending ids from ${least} to ${vocabSize - 1}`,
          fix: "sort the ids, leave out repeated ones, and use those of this vocabulary",
        });
    const words = Math.ceil(vocabSize / 32);
    if (ids.length <= words) return new KeptSet(ids.length, ids);
    const bits = new Uint32Array(words);
    for (let i = 0; i < ids.length; i++) bits[ids[i] >>> 5] |= 1 << (ids[i] & 31);
    return new KeptSet(ids.length, bits);
  }

  /** @internal the sets of {@link packKept} */
  static unpacked(size: number, data: Int32Array | Uint32Array): KeptSet {
    return new KeptSet(size, data);
  }

  /** Whether the id is in the set. */
  has(id: number): boolean {
    const { data } = this;
    if (data instanceof Uint32Array) return id < 32 * data.length && ((data[id >>> 5] >>> (id & 31)) & 1) === 1;
    return data.includes(id);
  }

  /** Write `inside` at the places of the ids and `outside` at all others. row [vocabSize], or of another vocabulary */
  fill(row: Float32Array, inside: number, outside: number): void {
    const { data } = this;
    const few = data instanceof Int32Array || 2 * this.size < row.length; // then those inside are written one by one
    row.fill(few ? outside : inside);
    if (data instanceof Int32Array) for (let i = 0; i < data.length; i++) row[data[i]] = inside;
    else {
      for (let word = 0; word < data.length; word++)
        for (let bits = few ? data[word] : ~data[word], low = 0; bits !== 0; bits ^= low) {
          low = bits & -bits; // the lowest bit that is set
          row[32 * word + 31 - Math.clz32(low)] = few ? inside : outside;
        }
      row.fill(outside, 32 * data.length);
    }
  }

  /** The ids, ascending. */
  ids(): Int32Array {
    const { data } = this;
    if (data instanceof Int32Array) return data;
    const ids = new Int32Array(this.size);
    let n = 0;
    for (let word = 0; word < data.length; word++)
      for (let bits = data[word], low = 0; bits !== 0; bits ^= low) {
        low = bits & -bits; // the lowest bit that is set
        ids[n++] = 32 * word + 31 - Math.clz32(low);
      }
    return ids;
  }
}

/** The kept sets of N tokens as plain data: each different set once, one after another. */
export interface PackedKept {
  /** Which set each token has, [N]; -1: none, every token could have been drawn. */
  readonly index: Int32Array;
  /** How many ids each set has, [S]. */
  readonly sizes: Int32Array;
  /** Where each set begins in `words`, [S + 1]. */
  readonly starts: Int32Array;
  /** 1: the set is written as one bit for each id of the vocabulary; 0: as its ids, ascending. [S] */
  readonly bits: Uint8Array;
  readonly words: Int32Array;
}

/** Sets that are the same object are packed once. */
export function packKept(kept: readonly (KeptSet | undefined)[]): PackedKept {
  const numbers = new Map<KeptSet, number>();
  const index = Int32Array.from(kept, (set) => {
    if (set === undefined) return -1;
    const number = numbers.get(set) ?? numbers.size;
    numbers.set(set, number);
    return number;
  });
  const sets = [...numbers.keys()];
  const starts = new Int32Array(sets.length + 1);
  sets.forEach(({ data }, s) => {
    starts[s + 1] = starts[s] + data.length;
  });
  const words = new Int32Array(starts[sets.length]);
  sets.forEach(({ data }, s) => {
    words.set(data, starts[s]); // bits keep their pattern: numbers are taken modulo 2^32
  });
  return {
    index,
    sizes: Int32Array.from(sets, ({ size }) => size),
    starts,
    bits: Uint8Array.from(sets, ({ data }) => (data instanceof Uint32Array ? 1 : 0)),
    words,
  };
}

/** The kept set of token i; views of the packed words. */
export function keptAt({ index, sizes, starts, bits, words }: PackedKept, i: number): KeptSet | undefined {
  const s = index[i];
  if (s < 0) return undefined;
  const data = words.subarray(starts[s], starts[s + 1]);
  const asBits = () => new Uint32Array(data.buffer, data.byteOffset, data.length);
  return KeptSet.unpacked(sizes[s], bits[s] === 1 ? asBits() : data);
}
