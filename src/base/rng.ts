/**
 * @file Seeded random numbers. One generator, many independent streams: a stream is named by its seed and any number of
 * integer keys, so a sequence draws the same numbers whatever batch it is in. Nothing in the library uses Math.random.
 */

/** State of an {@link RNG}: four 32-bit words and the cached second normal deviate. Plain data, safe for JSON. */
export interface RNGState {
  /** Four unsigned 32-bit words, not all 0. */
  words: [number, number, number, number];
  /** The normal deviate that the next call of normal() returns; null: none is waiting. */
  spare: number | null;
}

/** SplitMix32 (Steele, Lea and Flood 2014): spreads any 32-bit integer over all bits. */
function splitMix(x: number): number {
  let z = (x + 0x9e3779b9) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) >>> 0;
}

/** xoshiro128** 1.1 (Blackman and Vigna 2018), period 2^128 - 1. */
export class RNG {
  #s: Uint32Array;
  #spare: number | null = null;

  /** `new RNG(seed, ...keys)`: the stream of that name. Any safe integers will do. */
  constructor(seed: number, ...keys: number[]) {
    this.#s = new Uint32Array(4);
    for (let word = 0; word < 4; word++) {
      let h = splitMix(word + 1);
      for (const key of [seed, ...keys]) {
        h = splitMix(h ^ (key | 0));
        h = splitMix(h ^ Math.floor(key / 4294967296));
      }
      this.#s[word] = h;
    }
    // All-zero state is the one fixed point of the generator.
    if (this.#s.every((w) => w === 0)) this.#s[0] = 1;
  }

  /** A uniform 32-bit unsigned integer. */
  uint32(): number {
    const s = this.#s;
    const x = Math.imul(s[1], 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** A uniform number in [0, 1) with 53 random bits. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** A uniform integer in [0, n). Multiply-and-floor of 53 bits: the bias is below n / 2^53. */
  int(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** A standard normal deviate (Marsaglia's polar method). */
  normal(): number {
    if (this.#spare !== null) {
      const spare = this.#spare;
      this.#spare = null;
      return spare;
    }
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const r = u * u + v * v;
      if (r > 0 && r < 1) {
        const scale = Math.sqrt((-2 * Math.log(r)) / r);
        this.#spare = v * scale;
        return u * scale;
      }
    }
  }

  /** A uniformly random order of 0 .. n-1 (Fisher and Yates). */
  permutation(n: number): Int32Array {
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.int(i + 1);
      const t = order[i];
      order[i] = order[j];
      order[j] = t;
    }
    return order;
  }

  /** The state to save. It is a copy. */
  getState(): RNGState {
    return { words: [this.#s[0], this.#s[1], this.#s[2], this.#s[3]], spare: this.#spare };
  }

  /** Continue from a saved state, with the same numbers as then. */
  setState(state: RNGState): void {
    this.#s = Uint32Array.from(state.words);
    this.#spare = state.spare;
  }

  /** A generator that continues from a saved state. */
  static fromState(state: RNGState): RNG {
    const rng = new RNG(0);
    rng.setState(state);
    return rng;
  }
}
