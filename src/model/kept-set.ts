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

  /** @param ids ascending, each once, from 0 to vocabSize - 1; not to be changed afterwards */
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

  has(id: number): boolean {
    const { data } = this;
    if (data instanceof Uint32Array) return id < 32 * data.length && ((data[id >>> 5] >>> (id & 31)) & 1) === 1;
    return data.includes(id);
  }

  /** Write `inside` at the places of the ids and `outside` at all others. row [vocabSize], or of another vocabulary */
  fill(row: Float32Array, inside: number, outside: number): void {
    const { data } = this;
    row.fill(data instanceof Int32Array ? outside : inside);
    if (data instanceof Int32Array) for (let i = 0; i < data.length; i++) row[data[i]] = inside;
    else {
      for (let word = 0; word < data.length; word++) {
        if (data[word] === 0xffffffff) continue; // most words where one token is banned
        const end = Math.min(32 * word + 32, row.length);
        for (let id = 32 * word; id < end; id++) if (((data[word] >>> (id & 31)) & 1) === 0) row[id] = outside;
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
