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
  /** Keep the most likely tokens until they hold this much probability; 1: all. */
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
  /** Ids that could have been drawn, ascending; undefined: all. */
  kept: KeptSet;
}

/** Draws tokens from rows of logits of one vocabulary. Holds scratch space only. */
export class TokenSampler {
  readonly #options: SamplingOptions;
  readonly #weights: Float64Array;
  readonly #order: Float32Array;

  constructor(vocabSize: number, options: SamplingOptions) {
    checkSampling(options);
    this.#options = options;
    this.#weights = new Float64Array(vocabSize);
    this.#order = new Float32Array(vocabSize);
  }

  /**
   * @param logits [V], not changed
   * @param banned a token that must not be drawn, such as eos before the minimum length; -1: none
   */
  draw(logits: Float32Array, rng: Rng, banned = -1): Draw {
    const { temperature, topK, topP } = this.#options;
    const w = this.#weights;
    const V = logits.length;
    let max = Number.NEGATIVE_INFINITY;
    for (let v = 0; v < V; v++) if (logits[v] > max && v !== banned) max = logits[v];
    if (!Number.isFinite(max))
      fail("numbers", {
        where: "logits of the next token",
        found: `a largest logit of ${max}`,
        expected: "finite numbers",
        fix: "the weights have gone bad: go back to an earlier checkpoint, lower the learning rate",
      });
    let floor = Number.NEGATIVE_INFINITY; // the smallest logit that is kept
    if (topK > 0 && topK < V) floor = this.#kthLargest(logits, topK, banned);
    let total = 0;
    for (let v = 0; v < V; v++) {
      w[v] = v === banned || logits[v] < floor ? 0 : Math.exp((logits[v] - max) / temperature);
      total += w[v];
    }
    if (topP < 1) total = this.#nucleus(total * topP);
    const truncated = banned >= 0 || floor > Number.NEGATIVE_INFINITY || topP < 1;

    let left = rng.uniform() * total;
    let id = -1;
    for (let v = 0; v < V; v++) {
      if (w[v] === 0) continue;
      id = v; // rounding may leave a little over: then the last one
      left -= w[v];
      if (left < 0) break;
    }
    return { id, logprob: Math.log(w[id] / total), kept: truncated ? nonZero(w, V) : undefined };
  }

  /** The k-th largest logit, the banned one not counted. */
  #kthLargest(logits: Float32Array, k: number, banned: number): number {
    const order = this.#order;
    order.set(logits);
    if (banned >= 0) order[banned] = Number.NEGATIVE_INFINITY;
    order.sort();
    return order[order.length - k];
  }

  /** Zero all but the largest weights that together reach `mass`; returns their sum. Equal weights stay by id. */
  #nucleus(mass: number): number {
    const w = this.#weights;
    const candidates = nonZero(w, w.length);
    candidates.sort((a, b) => w[b] - w[a] || a - b);
    let sum = 0;
    for (let i = 0; i < candidates.length; i++) {
      if (sum >= mass) w[candidates[i]] = 0;
      else sum += w[candidates[i]];
    }
    return sum;
  }
}

function nonZero(w: Float64Array, V: number): Int32Array {
  let count = 0;
  for (let v = 0; v < V; v++) if (w[v] > 0) count++;
  const ids = new Int32Array(count);
  for (let v = 0, i = 0; v < V; v++) if (w[v] > 0) ids[i++] = v;
  return ids;
}
