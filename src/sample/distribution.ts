/**
 * @file From logits to the distribution a token is drawn from, and the draw. The same description, temperature and kept
 * set, is what scoring applies later (gpt2/head.ts): there is no second way to get a log-prob.
 */
import { fail } from "../base/errors.ts";
import type { Rng } from "../base/rng.ts";
import type { KeptSet } from "../gpt2/head.ts";

export interface SamplingOptions {
  /** Logits are divided by this. */
  temperature: number;
  /** Keep the k most likely tokens (and any as likely as the k-th); 0: all. */
  topK: number;
  /** Of those, keep the most likely tokens until they hold this much of the probability; 1: all. */
  topP: number;
}

export const SAMPLING_DEFAULTS: SamplingOptions = { temperature: 1, topK: 0, topP: 1 };

export function checkSampling({ temperature, topK, topP }: SamplingOptions): void {
  const wrong = (where: string, found: number, expected: string): never =>
    fail("usage", { where, found: String(found), expected, fix: `correct ${where}` });
  if (!(temperature > 0 && Number.isFinite(temperature))) wrong("temperature", temperature, "a number above 0");
  if (!(Number.isInteger(topK) && topK >= 0)) wrong("topK", topK, "a whole number, 0 for all tokens");
  if (!(topP > 0 && topP <= 1)) wrong("topP", topP, "a number above 0 and at most 1");
}

/** A token, and what it was drawn from. */
export interface Draw {
  id: number;
  /** Natural log of the probability it was drawn with: over the kept set, at the temperature. */
  logprob: number;
  /** Ids that could have been drawn, ascending, not to be changed; undefined: all. */
  kept: KeptSet;
}

/** How often the range that holds the edge of the nucleus is halved, on a log scale, before what is left is sorted. */
const HALVINGS = 5;

/** Draws tokens from rows of logits of one vocabulary. Holds scratch space only. */
export class TokenSampler {
  readonly #options: SamplingOptions;
  readonly #vocabSize: number;
  /** Unnormalised probabilities of the candidates, in the order of their ids. */
  readonly #weights: Float64Array;
  /** Scratch for the nucleus. */
  readonly #heavy: Float64Array;
  readonly #ids: Int32Array;
  readonly #heap: Float32Array;
  #allButOne = { banned: -1, ids: new Int32Array(0) };

  constructor(vocabSize: number, options: SamplingOptions) {
    checkSampling(options);
    this.#options = options;
    this.#vocabSize = vocabSize;
    this.#weights = new Float64Array(vocabSize);
    this.#heavy = new Float64Array(options.topP < 1 ? vocabSize : 0);
    this.#ids = new Int32Array(options.topP < 1 ? vocabSize : 0);
    this.#heap = new Float32Array(Math.min(options.topK, vocabSize));
  }

  /**
   * @param logits [V], not changed
   * @param banned a token that must not be drawn, such as eos before the minimum length; -1: none
   * @throws numbers - logits that are NaN or infinite
   */
  draw(logits: Float32Array, rng: Rng, banned = -1): Draw {
    const { temperature, topK, topP } = this.#options;
    const V = this.#vocabSize;
    let kept = banned < 0 ? undefined : this.#allBut(banned);
    if (topK > 0 && topK < (kept?.length ?? V)) kept = atLeast(logits, kthLargest(logits, banned, this.#heap), banned);
    let total = this.#weigh(logits, kept, temperature);
    if (topP < 1) [kept, total] = this.#nucleus(kept, total, topP);

    const w = this.#weights;
    const n = kept?.length ?? V;
    let left = rng.uniform() * total;
    let pick = 0;
    for (let i = 0; i < n; i++) {
      if (w[i] === 0) continue;
      pick = i; // rounding may leave a little over: then the last one
      left -= w[i];
      if (left < 0) break;
    }
    return { id: kept ? kept[pick] : pick, logprob: Math.log(w[pick] / total), kept };
  }

  /** Weights of the candidates relative to the largest; returns their sum. */
  #weigh(logits: Float32Array, candidates: KeptSet, temperature: number): number {
    const w = this.#weights;
    const n = candidates?.length ?? this.#vocabSize;
    let max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < n; i++) {
      const x = logits[candidates ? candidates[i] : i];
      if (x > max) max = x;
    }
    let total = 0;
    for (let i = 0; i < n; i++) {
      w[i] = Math.exp((logits[candidates ? candidates[i] : i] - max) / temperature);
      total += w[i];
    }
    if (!Number.isFinite(max) || Number.isNaN(total))
      fail("numbers", {
        where: "logits of the next token",
        found: Number.isFinite(max) ? "NaN" : `a largest logit of ${max}`,
        expected: "finite numbers",
        fix: "the weights have gone bad: go back to an earlier checkpoint, lower the learning rate",
      });
    return total;
  }

  /**
   * The heaviest candidates that together reach p of the total, and their sum; moves their weights to the front. Of
   * equal weights at the edge the lowest ids stay.
   */
  #nucleus(candidates: KeptSet, total: number, p: number): [Int32Array, number] {
    const w = this.#weights;
    const n = candidates?.length ?? this.#vocabSize;
    // Weights below `low` hold less than 1 - p together: the edge of the nucleus is not among them.
    let low = ((1 - p) * total) / n;
    let high = 2; // the largest weight is 1
    const heavy = this.#heavy;
    let count = 0;
    let mass = 0;
    for (let i = 0; i < n; i++)
      if (w[i] >= low) {
        heavy[count++] = w[i];
        mass += w[i];
      }
    const target = Math.min(p * total, mass);
    let above = 0; // the sum of all weights from `high` up, less than the target
    for (let halving = 0; halving < HALVINGS; halving++) {
      const middle = Math.sqrt(low * high);
      mass = 0;
      for (let i = 0; i < count; i++) mass += heavy[i] >= middle ? heavy[i] : 0;
      if (mass >= target) low = middle;
      else {
        high = middle;
        above = mass;
      }
    }
    let between = 0;
    for (let i = 0; i < count; i++) if (heavy[i] >= low && heavy[i] < high) heavy[between++] = heavy[i];
    const sorted = heavy.subarray(0, between).sort();
    let first = sorted.length;
    let sum = above;
    while (first > 0 && sum < target) sum += sorted[--first];
    const edge = sorted[first];
    let atEdge = 0;
    while (first + atEdge < between && sorted[first + atEdge] === edge) atEdge++;

    const ids = this.#ids;
    let m = 0;
    for (let i = 0; i < n; i++) {
      if (!(w[i] > edge || (w[i] === edge && atEdge-- > 0))) continue;
      ids[m] = candidates ? candidates[i] : i;
      w[m++] = w[i];
    }
    return [ids.slice(0, m), sum];
  }

  /** All ids but one. The same array for every draw: kept sets are remembered for each token of a rollout. */
  #allBut(banned: number): Int32Array {
    if (this.#allButOne.banned !== banned) {
      const ids = Int32Array.from({ length: this.#vocabSize }, (_, v) => v).filter((v) => v !== banned);
      this.#allButOne = { banned, ids };
    }
    return this.#allButOne.ids;
  }
}

/** The k-th largest logit, the banned one not counted. `heap` [k] holds the k largest so far, the smallest on top. */
function kthLargest(logits: Float32Array, banned: number, heap: Float32Array): number {
  const k = heap.length;
  heap.fill(Number.NEGATIVE_INFINITY);
  for (let v = 0; v < logits.length; v++) {
    const x = logits[v];
    if (!(x > heap[0]) || v === banned) continue;
    let at = 0; // x replaces the top and sinks to its place
    for (let child = 1; child < k; child = 2 * at + 1) {
      if (child + 1 < k && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= x) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = x;
  }
  return heap[0];
}

/** Ids of logits not below the floor, ascending. NaN stays, to be found later. */
function atLeast(logits: Float32Array, floor: number, banned: number): Int32Array {
  const ids: number[] = [];
  for (let v = 0; v < logits.length; v++) if (!(logits[v] < floor) && v !== banned) ids.push(v);
  return Int32Array.from(ids);
}
