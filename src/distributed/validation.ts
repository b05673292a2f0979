/** @file Whether a result can be what the trainer asked for. Everything is looked at that can be seen at once; a share of the responses is scored again. */
import type { RNG } from "../base/rng.ts";
import { stream } from "../base/streams.ts";
import { ask, type Passes, pick } from "../experience/ask.ts";
import { ratioTolerance } from "../experience/audit.ts";
import type { Experience } from "../experience/experience.ts";
import type { Part } from "../experience/parts/parts.ts";
import type { ReferenceScores } from "../experience/reference.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { randomId } from "../platform/hash.ts";
import type { Adjustments } from "../sample/transforms.ts";

/** What a result is held against. */
export interface Expected {
  /** The policy that drew it. */
  readonly model: CausalLMWithValueHead;
  readonly reference?: CausalLMWithValueHead | undefined;
  readonly passes: Passes;
  readonly adjustments: Adjustments;
  readonly wantsExact: boolean;
  readonly config: {
    maxNewTokens: number;
    temperature: number;
    repetitionPenalty: number;
    rolloutPrecision: string;
  };
}

type Answer = { data: Experience; reference?: ReferenceScores | undefined };

/** What is wrong with the form of an answer, in words; undefined: nothing. */
export function wrongForm(part: Part, { data, reference }: Answer, expected: Expected): string | undefined {
  const { queries, responses, batch, logprobs, values, keptMass, kept } = data;
  const { vocabSize } = expected.model.sizes;
  const isSame = (a: Int32Array, b: Int32Array) => a.length === b.length && a.every((x, i) => x === b[i]);
  if (queries.length !== part.queries.length || !queries.every((query, i) => isSame(query, part.queries[i])))
    return "answers to other prompts";
  if (responses.length !== queries.length) return `${responses.length} responses to ${queries.length} prompts`;
  const size = batch.rows * batch.width;
  if (responses.some(({ length }) => length < 1 || length > expected.config.maxNewTokens))
    return "a response of no possible length";
  if (responses.some((ids) => ids.some((id) => id < 0 || id >= vocabSize))) return "ids outside the vocabulary";
  for (const [name, array] of Object.entries({ logprobs, values, keptMass, "kept sets": kept.index })) {
    if (array.length !== size) return `${array.length} ${name} for ${size} places`;
    if (array.some((x) => !Number.isFinite(x))) return `${name} that are not finite`;
  }
  if (logprobs.some((x) => x > 1e-6)) return "log-probs above 0";
  const sets = kept.sizes.length;
  const isFine = kept.starts.length === sets + 1 && kept.bits.length === sets && kept.starts[0] === 0;
  if (!isFine || kept.starts.some((x, i) => i > 0 && x < kept.starts[i - 1]) || kept.starts[sets] !== kept.words.length)
    return "kept sets that do not fit each other";
  if (kept.index.some((s) => s < -1 || s >= sets)) return "kept sets that are not there";
  const lacks = (array?: Float32Array) => array?.length !== size || array.some((x) => !Number.isFinite(x));
  if (expected.reference && lacks(reference?.refLogprobs)) return "no log-probs of the reference";
  if (expected.wantsExact && lacks(reference?.exactKl)) return "no exact KL";
  return undefined;
}

/** What is wrong with the scores of so many responses, in words. */
export function wrongScores(scores: readonly number[] | undefined, rows: number): string | undefined {
  if (scores === undefined || (scores.length === rows && scores.every(Number.isFinite))) return undefined;
  return `${scores.length} scores for ${rows} responses, or some that are no numbers`;
}

/**
 * Chance that only this process knows. What is looked at again is drawn from it and not from the run's seed, which workers are told: one who
 * could foresee it would send right numbers there and wrong ones elsewhere. Nothing of a run depends on it.
 */
export const secretStream = (purpose: "spotCheck" | "gradientCheck"): RNG =>
  stream(Number.parseInt(randomId().replaceAll("-", "").slice(0, 12), 16), purpose);

/** Some of so many rows, to be scored again: `share` of them, one at least unless it is 0. */
export function rowsToCheck(share: number, rows: number, chance: RNG): Int32Array {
  const count = share === 0 ? 0 : Math.max(1, Math.ceil(share * rows));
  return chance.permutation(rows).slice(0, count).sort();
}

/** Rounding of values, relative to their size. */
const VALUE_TOLERANCE = 1e-2;

/** What policy and reference say of some rows is not what the answer says of them, in words; undefined: it is. */
export async function wrongNumbers(
  rows: Int32Array,
  { data, reference }: Answer,
  { model, reference: frozen, adjustments, config }: Expected,
): Promise<string | undefined> {
  if (rows.length === 0) return undefined;
  const { asked, index } = ask(data, rows, model.sizes.context, adjustments);
  const far = (a: Float32Array, b: Float32Array) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
  const tolerance = ratioTolerance(model, config);
  const says = (who: string, by: number) =>
    `log-probs ${by.toPrecision(2)} nats away from what ${who} says of ${rows.length} of the responses`;
  if (frozen && reference) {
    const own = await frozen.score(asked, ["logprobs"]);
    const ofReference = far(own.logprobs, pick(reference.refLogprobs, index));
    if (!(ofReference <= tolerance)) return says("the reference", ofReference);
  }
  if (config.rolloutPrecision !== "fp32") return undefined; // drawn from a copy that says something else
  const { logprobs, values } = await model.score(asked, ["logprobs", "values"]);
  const ofPolicy = far(logprobs, pick(data.logprobs, index));
  if (!(ofPolicy <= tolerance)) return says("the policy", ofPolicy);
  const recorded = pick(data.values, index);
  const bad = values.findIndex((v, i) => !(Math.abs(v - recorded[i]) <= VALUE_TOLERANCE * (1 + Math.abs(v))));
  return bad < 0 ? undefined : `a value of ${recorded[bad]} where the policy says ${values[bad]}`;
}
