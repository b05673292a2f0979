/**
 * @file From logits to the distribution a token is drawn from, and the draw. What is recorded of a draw, with the
 * adjustments that follow from its context, is what scoring applies later (model/distribution.ts): there is no second way
 * to get a log-prob.
 *
 * In order: repetition penalty, biases, forced or banned tokens, temperature, top-k, top-p, min-p, the user's truncations.
 */
import { fail } from "../base/errors.ts";
import type { RNG } from "../base/rng.ts";
import type { Adjustment, Bias } from "../model/distribution.ts";
import { KeptSet } from "../model/kept-set.ts";
import { logSumOfExp, mostLikely, sumOfExp, weigh } from "./logits.ts";
import { nucleusOf } from "./nucleus.ts";
import { badLogits, type Draw, drawIndex, drawPlain } from "./plain.ts";
import { Adjustments, checkDrawable, checkIds, type TokenContext, type Transform } from "./transforms.ts";

/** How a token is drawn. By default from the whole distribution of the model: temperature 1, nothing left out. */
export interface SamplingOptions {
  /** Logits are divided by this. */
  temperature: number;
  /** Keep the k most likely tokens (and any as likely as the k-th); 0: all. */
  topK: number;
  /** Of those, keep the most likely tokens until they hold this much of the probability; 1: all. */
  topP: number;
  /** Of those, keep tokens at least this fraction as likely as the most likely one; 0: all. */
  minP: number;
  /** p: the logit z of a token that prompt or response has already becomes z / p where z > 0, else z p; 1: nothing. */
  repetitionPenalty: number;
  /** Ids that can be drawn at all: those that text can be made of. Others do not exist, here or in scoring; undefined: all. */
  drawable?: KeptSet;
  /** Ids that are never drawn, but where they are forced. */
  bannedTokens?: readonly number[];
  /** The token at a place of the response, by place from 0: no other can be drawn there. */
  forcedTokens?: Readonly<Record<number, number>>;
  /** Numbers added to the logits of some tokens. */
  bias?: Bias;
  /** The user's own: biases that may follow from earlier tokens, choices of the tokens that stay. */
  transforms?: readonly Transform[];
}

export const SAMPLING_DEFAULTS: SamplingOptions = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };

/** Logits are divided by nothing smaller, nor by more than its inverse: what came out would not be a number in fp32. */
export const SMALLEST_DIVISOR = 1e-4;
export const DIVISOR = "a number from 0.0001 to 10000";
const isDivisor = (x: number) => x >= SMALLEST_DIVISOR && x <= 1 / SMALLEST_DIVISOR;

export function checkSampling(options: Partial<SamplingOptions>): void {
  const { temperature, topK, topP, minP, repetitionPenalty } = samplingOptions(options);
  const wrong = (where: string, found: number, expected: string): never =>
    fail("usage", { where, found: String(found), expected, fix: `correct ${where}` });
  if (!isDivisor(temperature)) wrong("temperature", temperature, DIVISOR);
  if (!(Number.isInteger(topK) && topK >= 0)) wrong("topK", topK, "a whole number, 0 for all tokens");
  if (!(topP > 0 && topP <= 1)) wrong("topP", topP, "a number above 0 and at most 1");
  if (!(minP >= 0 && minP <= 1)) wrong("minP", minP, "a number from 0 to 1");
  if (!isDivisor(repetitionPenalty)) wrong("repetitionPenalty", repetitionPenalty, DIVISOR);
}

/** The sampling options among others, without those that are undefined. */
export function samplingOptions(options: Partial<SamplingOptions>): SamplingOptions {
  const { temperature, topK, topP, minP, repetitionPenalty, bannedTokens, forcedTokens, bias, transforms } = options;
  const { drawable } = options;
  const given = {
    ...{ temperature, topK, topP, minP, repetitionPenalty },
    ...{ bannedTokens, forcedTokens, bias, transforms, drawable },
  };
  const defined = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...SAMPLING_DEFAULTS, ...Object.fromEntries(defined) };
}

/** Candidates that follow from the step alone: what stays, and what else could be drawn. Both ascending. */
interface Allowed {
  readonly ids: Int32Array;
  readonly others: Int32Array;
  /** undefined: there are no others. */
  readonly kept: KeptSet | undefined;
}

const idsBelow = (n: number) => Int32Array.from({ length: n }, (_, v) => v);

const NO_WEIGHTS = new Float64Array(0);

const NOWHERE: TokenContext = { prompt: new Int32Array(0), response: new Int32Array(0) };

/** Whether nothing is done to the logits, and no token left out. */
function isPlain(options: SamplingOptions): boolean {
  const { temperature, topK, topP, minP, repetitionPenalty, bias, transforms = [] } = options;
  const { bannedTokens = [], forcedTokens = {} } = options;
  const numbers = temperature === 1 && topK === 0 && topP === 1 && minP === 0 && repetitionPenalty === 1;
  return numbers && !bias && transforms.length + bannedTokens.length + Object.keys(forcedTokens).length === 0;
}

/** Draws tokens from rows of logits of one vocabulary. Holds scratch space only. */
export class TokenSampler {
  readonly adjustments: Adjustments;
  readonly #options: SamplingOptions;
  readonly #vocabSize: number;
  readonly #wantsRaw: boolean;
  /** Whether tokens are drawn from the softmax of the logits as they are. */
  readonly #isPlain: boolean;
  readonly #truncations: readonly Extract<Transform, { kind: "truncate" }>[];
  /** Unnormalised probabilities of the candidates, in the order of their ids: of one draw. */
  #weights: Float64Array = NO_WEIGHTS;
  /** Scratch: adjusted logits, and those divided by the temperature; for the nucleus; for top-k. */
  readonly #adjusted: Float32Array;
  readonly #tempered: Float32Array;
  readonly #heavy: Float64Array;
  readonly #lighter: Float64Array;
  readonly #ids: Int32Array;
  readonly #heap: Float32Array;
  /** Ids that can be drawn at all, and those that cannot, ascending; undefined: all can. */
  readonly #drawable: Int32Array | undefined;
  readonly #undrawable: Int32Array;
  /** By what is banned for a while, joined. */
  readonly #allowed = new Map<string, Allowed | undefined>();

  /** @param wantsRaw whether {@link Draw.rawLogprob} is wanted: another pass over the logits unless they are plain */
  constructor(vocabSize: number, options: Partial<SamplingOptions>, wantsRaw = true) {
    checkSampling(options);
    this.#options = samplingOptions(options);
    const { topK, topP, transforms = [], bannedTokens = [], forcedTokens = {} } = this.#options;
    checkIds(bannedTokens, "bannedTokens", vocabSize);
    checkIds(Object.values(forcedTokens), "forcedTokens", vocabSize);
    const { drawable } = this.#options;
    const inside = new Set(drawable?.ids());
    this.#drawable = drawable?.ids().filter((v) => v < vocabSize);
    this.#undrawable = drawable ? idsBelow(vocabSize).filter((v) => !inside.has(v)) : new Int32Array(0);
    checkDrawable(Object.values(forcedTokens), "forcedTokens", drawable);
    this.adjustments = new Adjustments(this.#options, vocabSize);
    this.#vocabSize = vocabSize;
    this.#wantsRaw = wantsRaw;
    this.#isPlain = isPlain(this.#options);
    this.#truncations = transforms.filter((t) => t.kind === "truncate");
    this.#adjusted = new Float32Array(vocabSize);
    this.#tempered = new Float32Array(this.#truncations.length > 0 ? vocabSize : 0);
    const forNucleus = topP < 1 ? vocabSize : 0;
    this.#heavy = new Float64Array(forNucleus);
    this.#lighter = new Float64Array(forNucleus);
    this.#ids = new Int32Array(vocabSize);
    this.#heap = new Float32Array(Math.min(topK, vocabSize));
  }

  /**
   * @param logits  [V], not changed
   * @param banned  tokens that must not be drawn here, such as those that end a response before its minimum length
   * @param context the tokens before
   * @param probabilities softmax of the logits, float32 [V], if there is one: plain sampling need not make it again
   * @throws numbers - logits that are NaN or infinite
   * @throws usage - a user's transform that returns what it must not
   */
  draw(
    logits: Float32Array,
    rng: RNG,
    banned: readonly number[] = [],
    context = NOWHERE,
    probabilities?: Float32Array,
  ): Draw {
    if (probabilities && this.#isPlain && banned.length === 0)
      return drawPlain(this.#withoutUndrawable(probabilities), rng, this.#wantsRaw);
    const { temperature, topK, topP, minP, forcedTokens } = this.#options;
    const V = this.#vocabSize;
    const adjustment = this.adjustments.at(context);
    const z = adjustment ? this.#adjust(logits, adjustment) : logits;
    const step = context.response.length;
    const forced = forcedTokens?.[step];
    const allowed = forced === undefined ? this.#allowedWithout(banned) : this.#only(forced);

    // Top-k goes by the logits, so the weights of what it leaves out need not be remembered, only added up.
    const chooses = topK > 0 && topK < (allowed?.ids.length ?? V);
    const likely = chooses ? mostLikely(z, allowed?.ids, this.#heap, this.#ids) : allowed?.ids;
    const { max, total, weights: w } = weigh(z, likely, temperature);
    this.#weights = w;
    let all = total;
    if (likely !== allowed?.ids) all = sumOfExp(z, this.#drawable, max, temperature);
    else if (allowed) all += sumOfExp(z, allowed.others, max, temperature);
    if (!Number.isFinite(max) || Number.isNaN(all))
      badLogits(Number.isFinite(max) ? "NaN" : `a largest logit of ${max}`);
    let ids = likely;
    let sum = total;
    if (topP < 1) [ids, sum] = this.#nucleus(ids, sum, topP);
    if (minP > 0) [ids, sum] = this.#keepWhere(ids, (i) => w[i] >= minP);
    for (const transform of this.#truncations) [ids, sum] = this.#truncate(transform, z, ids, sum, context);

    const pick = drawIndex(w, ids?.length ?? V, sum, rng);
    const id = ids ? ids[pick] : pick;
    let rawLogprob = Number.NaN;
    if (this.#wantsRaw)
      rawLogprob =
        temperature === 1 && !adjustment && Number.isFinite(all)
          ? logits[id] - max - Math.log(all)
          : logits[id] - logSumOfExp(logits, this.#drawable);
    return {
      id,
      logprob: Math.log(w[pick] / sum),
      rawLogprob,
      kept: ids === undefined ? undefined : ids === allowed?.ids ? allowed.kept : KeptSet.of(ids, V),
      keptMass: ids === undefined ? 1 : Math.max(Number.MIN_VALUE, Math.min(1, sum / all)),
    };
  }

  /** The logits with the penalty on what was there before, and the biases: the same as the graph makes of them. */
  #adjust(logits: Float32Array, { penalised, biases = [] }: Adjustment): Float32Array {
    const z = this.#adjusted;
    z.set(logits);
    const p = this.#options.repetitionPenalty;
    penalised?.forEach((id) => {
      z[id] = z[id] > 0 ? z[id] / p : z[id] * p;
    });
    for (const { ids, values } of biases) for (let i = 0; i < ids.length; i++) z[ids[i]] += values[i];
    return z;
  }

  /** The candidates whose place in their order passes, and the sum of their weights, which move to the front. */
  #keepWhere(
    candidates: Int32Array | undefined,
    passes: (i: number) => boolean,
  ): [ids: Int32Array | undefined, sum: number] {
    const w = this.#weights;
    const ids = this.#ids;
    const n = candidates?.length ?? this.#vocabSize;
    let m = 0;
    let sum = 0;
    for (let i = 0; i < n; i++) {
      if (!passes(i)) continue;
      ids[m] = candidates ? candidates[i] : i;
      w[m++] = w[i];
      sum += w[m - 1];
    }
    return [m === n ? candidates : ids.slice(0, m), sum];
  }

  /** A user's truncation. */
  #truncate(
    transform: Extract<Transform, { kind: "truncate" }>,
    z: Float32Array,
    candidates: Int32Array | undefined,
    sum: number,
    context: TokenContext,
  ): [Int32Array | undefined, number] {
    const { temperature } = this.#options;
    const V = this.#vocabSize;
    const logits = this.#tempered;
    for (let v = 0; v < V; v++) logits[v] = z[v] / temperature;
    const input = { logits, candidates, step: context.response.length };
    const ids = transform.dependsOnTokens ? transform.keep({ ...input, ...context }) : transform.keep(input);
    if (ids === undefined) return [candidates, sum];
    const where = `transform ${transform.name}`;
    checkIds(ids, where, V);
    const stays = new Set(Array.from(ids));
    const [kept, keptSum] = this.#keepWhere(candidates, (i) => stays.has(candidates ? candidates[i] : i));
    const size = kept?.length ?? V;
    if (size === stays.size && keptSum > 0) return [kept, keptSum];
    return fail("usage", {
      where,
      found: size < stays.size ? "tokens kept that were not candidates" : "no token kept that can be drawn",
      expected: "some of the candidates, at least one of them possible",
      fix: `correct what ${transform.name} returns`,
    });
  }

  /**
   * The heaviest candidates that together reach p of the total, and their sum; moves their weights to the front. Of
   * equal weights at the edge the lowest ids stay.
   */
  #nucleus(candidates: Int32Array | undefined, total: number, p: number): [Int32Array, number] {
    const w = this.#weights;
    const n = candidates?.length ?? this.#vocabSize;
    // Weights below `low` hold less than 1 - p together: the edge of the nucleus is not among them.
    const low = ((1 - p) * total) / n;
    const heavy = this.#heavy;
    const ids = this.#ids; // first places among the candidates
    let count = 0;
    for (let i = 0; i < n; i++) {
      heavy[count] = w[i];
      ids[count] = i;
      count += Number(w[i] >= low);
    }
    let mass = 0;
    for (let j = 0; j < count; j++) mass += heavy[j];
    const { edge, atEdge, sum } = nucleusOf(heavy, this.#lighter, count, Math.min(p * total, mass));

    let [m, ties] = [0, 0];
    for (let j = 0; j < count; j++) {
      const i = ids[j];
      const weight = w[i];
      ids[m] = candidates ? candidates[i] : i;
      w[m] = weight;
      ties += Number(weight === edge);
      m += Number(weight > edge || (weight === edge && ties <= atEdge));
    }
    return [ids.slice(0, m), sum];
  }

  /** Every token but those banned. The same object for every draw: kept sets are remembered for each token of a rollout. */
  #allowedWithout(bannedHere: readonly number[]): Allowed | undefined {
    const key = bannedHere.join();
    if (!this.#allowed.has(key)) {
      const banned = new Set([...(this.#options.bannedTokens ?? []), ...bannedHere]);
      const all = banned.size + this.#undrawable.length === 0;
      this.#allowed.set(key, all ? undefined : this.#split((v) => !banned.has(v)));
    }
    return this.#allowed.get(key);
  }

  #only(forced: number): Allowed {
    return this.#split((v) => v === forced);
  }

  #split(isAllowed: (id: number) => boolean): Allowed {
    const all = this.#drawable ?? idsBelow(this.#vocabSize);
    const ids = all.filter(isAllowed);
    if (ids.length === 0)
      fail("usage", {
        where: "bannedTokens",
        found: "every token of the vocabulary",
        expected: "at least one that may be drawn",
        fix: "ban fewer tokens, or lower minNewTokens",
      });
    const others = all.filter((v) => !isAllowed(v));
    return { ids, others, kept: others.length > 0 ? KeptSet.of(ids, this.#vocabSize) : undefined };
  }

  /** Probabilities with 0 for ids that do not exist; their sum is then less than 1. */
  #withoutUndrawable(probabilities: Float32Array): Float32Array {
    if (this.#undrawable.length === 0) return probabilities;
    const p = this.#adjusted;
    p.set(probabilities);
    for (const id of this.#undrawable) p[id] = 0;
    return p;
  }
}
