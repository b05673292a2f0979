/**
 * @file Queries, responses and scores as a caller gives them, read before anything is computed; and responses that were sampled
 * elsewhere, as experience. Nobody wrote down how those were drawn, so that is tested.
 */
import { describe, isList } from "../base/describe.ts";
import { fail } from "../base/errors.ts";
import { type IdList, readIds, readRows } from "../base/token-ids.ts";
import type { Limits } from "../model/asked.ts";
import { KeptSet, packKept } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { addDraws, type Draws, drawStatistics, drawsOf, NO_DRAWS } from "../rl/draws.ts";
import type { Padded } from "../rl/padded.ts";
import type { SampledResponse } from "../sample/generate.ts";
import { askInParts, type Passes, put } from "./ask.ts";
import type { Answered } from "./collect.ts";
import { type Experience, experience, padded } from "./experience.ts";
import type { HonestyConfig, RolloutConfig } from "./options.ts";
import { scoreAll } from "./rescore.ts";
import { groupPlace, type Reader, readSample } from "./sample.ts";

/** A batch that was checked: either all responses have a record of how they were drawn, or none has. */
export interface GivenBatch {
  readonly queries: readonly Int32Array[];
  readonly tokens: readonly Int32Array[];
  /** What {@link generate} recorded of each; undefined: token ids are all there is. */
  readonly recorded?: readonly SampledResponse[];
  readonly scores: readonly number[];
}

/**
 * @param copies responses to each query, one after another
 * @throws usage - not as many queries, responses and scores, or none; not in groups; responses of two kinds; a score that is not finite
 * @throws input - ids that are none, an empty query or response, both together longer than the context, a record that does not
 *   fit its tokens
 */
export function readGiven(
  sizes: Limits,
  queries: readonly IdList[],
  responses: readonly (IdList | SampledResponse)[],
  scores: ArrayLike<number | boolean>,
  copies = 1,
): GivenBatch {
  const [askedRows, answerRows] = [readRows(queries, "step, queries"), readRows(responses, "step, responses")];
  if (!isList(scores))
    fail("usage", {
      where: "step, scores",
      found: describe(scores),
      expected: "a list of numbers",
      fix: "give one score for each response",
    });
  if (askedRows.length === 0 || askedRows.length !== answerRows.length || askedRows.length !== scores.length)
    fail("usage", {
      where: "step",
      found: `${askedRows.length} queries, ${answerRows.length} responses and ${scores.length} scores`,
      expected: "as many of each, at least one",
      fix: "give a response and a score for each query",
    });
  const kinds = answerRows.map(isRecord);
  const other = kinds.findIndex((kind) => kind !== kinds[0]);
  if (other >= 0)
    fail("usage", {
      where: `step, response ${other}`,
      found: `${kindOf(kinds[other])} after ${kindOf(kinds[0])}`,
      expected: "responses of one kind",
      fix: "pass what generate returned for all of them, or token ids alone for all of them",
    });
  const { vocabSize } = sizes;
  const read = askedRows.map((given, b) => {
    const where = `step, query ${b}`;
    return readIds(given, { where, vocabSize, fixEmpty: "start an empty prompt with the end-of-text token" });
  });
  const tokens = answerRows.map((given, b) => {
    const where = `step, response ${b}`;
    const ids = isRecord(given) ? given.tokens : given;
    return readIds(ids, {
      where,
      vocabSize,
      fixEmpty: "leave the pair out: a response has at least the token that ends it",
    });
  });
  tokens.forEach((response, b) => {
    const n = read[b].length + response.length;
    if (n > sizes.context)
      fail("input", {
        where: `step, response ${b}`,
        found: `${response.length} tokens after ${read[b].length} of its query`,
        expected: `at most ${sizes.context} together (${sizes.contextName})`,
        fix: "shorten the query, or lower maxNewTokens when sampling",
      });
  });
  checkGroups(read, copies);
  if (kinds[0])
    for (const [b, response] of answerRows.entries())
      checkRecord(response as SampledResponse, tokens[b], `step, response ${b}`);
  return {
    queries: read,
    tokens,
    recorded: kinds[0] ? answerRows.map((r, b) => ({ ...(r as SampledResponse), tokens: tokens[b] })) : undefined,
    scores: Array.from(scores, readScore),
  };
}

/** @throws usage - responses that are not in groups of `copies` to the same query */
function checkGroups(queries: readonly Int32Array[], copies: number): void {
  if (queries.length % copies !== 0)
    fail("usage", {
      where: "step, queries",
      found: `${queries.length}`,
      expected: `a multiple of numGenerations (${copies})`,
      fix: `give each query ${copies} times, one after another, with a response each`,
    });
  const other = queries.findIndex((query, b) => query.join() !== queries[b - (b % copies)].join());
  if (other >= 0)
    fail("usage", {
      where: `step, query ${other}`,
      found: `another query than query ${other - (other % copies)}, whose group it is in`,
      expected: `the same query ${copies} times in a row (numGenerations)`,
      fix: "put responses to the same query one after another",
    });
}

const isRecord = (response: unknown): response is SampledResponse =>
  typeof response === "object" && response !== null && "tokens" in response;
const kindOf = (recorded: boolean) => (recorded ? "a response of generate" : "token ids alone");

function readScore(score: unknown, b: number): number {
  const number = typeof score === "boolean" ? Number(score) : score;
  if (typeof number === "number" && Number.isFinite(Math.fround(number))) return number;
  return fail("usage", {
    where: `step, score ${b}`,
    found: describe(score),
    expected: Number.isFinite(score) ? "a number that float32 can hold, up to 3.4e38" : "a finite number",
    fix: Number.isFinite(score) ? "scale the reward down" : "correct the reward",
  });
}

const AS_RETURNED = "pass responses as generate returned them, unchanged";

function checkRecord(response: SampledResponse, tokens: Int32Array, where: string): void {
  const n = tokens.length;
  const bad = (name: string, found: string, expected: string): never =>
    fail("input", { where: `${where}, ${name}`, found, expected, fix: AS_RETURNED });
  const floats = { logprobs: Float32Array, values: Float32Array, keptMass: Float64Array };
  for (const [name, type] of Object.entries(floats)) {
    const list = response[name as keyof typeof floats];
    if (!(list instanceof type)) bad(name, describe(list), `a ${type.name} [${n}]`);
    if (list.length !== n) bad(name, `${list.length} numbers`, `${n}, one for each token`);
  }
  const { logprobs, values, keptMass, kept } = response;
  if (!Array.isArray(kept)) bad("kept", describe(kept), `an array [${n}]`);
  if (kept.length !== n) bad("kept", `${kept.length} sets`, `${n}, one for each token`);
  for (let t = 0; t < n; t++) {
    if (!(logprobs[t] <= LARGEST_LOGPROB && logprobs[t] > Number.NEGATIVE_INFINITY))
      bad(`logprobs, token ${t}`, String(logprobs[t]), "a log-probability: finite, at most 0");
    if (!Number.isFinite(values[t])) bad(`values, token ${t}`, String(values[t]), "a finite number");
    if (!(keptMass[t] > 0 && keptMass[t] <= 1 + 1e-9))
      bad(`keptMass, token ${t}`, String(keptMass[t]), "above 0 and at most 1");
    const set = kept[t];
    if (set === undefined) continue;
    if (!(set instanceof KeptSet)) bad(`kept, token ${t}`, describe(set), "a KeptSet or undefined");
    if (!set.has(tokens[t]))
      bad(`kept, token ${t}`, `a set without the token drawn, id ${tokens[t]}`, "the set it was drawn from");
  }
}

/** Rounding may lift the logarithm of a probability of 1 a little above 0. */
const LARGEST_LOGPROB = 1e-5;

/** How far recorded numbers may be from those of the training pass, which rounds in another order. */
const TOLERANCE = 1e-3;

/** What a forward pass says of each token, [B, W]. */
interface Scored {
  readonly logprobs: Float32Array;
  readonly values: Float32Array;
}

/**
 * Whether recorded numbers are those that the policy gives now for the same tokens after the same queries. Others were sampled
 * after another query, with other options, or by other weights.
 * @returns what is wrong, in the words of an error; undefined when all is well
 */
export function unlikeRecord(recorded: Scored, now: Scored, { width, mask }: Padded) {
  for (let i = 0; i < mask.length; i++) {
    if (mask[i] !== 1) continue;
    const place = `response ${Math.floor(i / width)}, token ${i % width}`;
    const expected = "what the policy says of this token";
    if (!(Math.abs(Math.exp(now.logprobs[i] - recorded.logprobs[i]) - 1) <= TOLERANCE))
      return {
        found: `a recorded log-prob of ${recorded.logprobs[i].toFixed(4)} where the policy has ${now.logprobs[i].toFixed(4)} (${place})`,
        expected,
        fix: "it was sampled after another query, with other options (temperature, penalties, biases) or by other weights: sample with sampling() of this trainer and give queries and responses in the same order, before any other step",
      };
    if (!(Math.abs(now.values[i] - recorded.values[i]) <= TOLERANCE * Math.max(1, Math.abs(now.values[i]))))
      return {
        found: `a recorded value of ${recorded.values[i].toFixed(4)} where the value head has ${now.values[i].toFixed(4)} (${place})`,
        expected,
        fix: AS_RETURNED,
      };
  }
  return undefined;
}

/**
 * Token ids as experience: log-probs and values from one forward pass of the policy as it is now, over all tokens.
 * @param tested whether to ask what {@link Draws} needs, about two more passes of the head
 */
export async function givenExperience(
  model: CausalLMWithValueHead,
  queries: readonly Int32Array[],
  responses: readonly Int32Array[],
  passes: Passes,
  tested: boolean,
): Promise<{ data: Experience; draws?: Draws }> {
  const batch = padded(responses);
  const size = batch.rows * batch.width;
  const data: Experience = {
    queries,
    responses,
    batch,
    logprobs: new Float32Array(size),
    values: new Float32Array(size),
    kept: packKept(new Array(size).fill(undefined)),
    keptMass: Float64Array.from(batch.mask),
  };
  const { eosTokenIds, sizes } = model;
  const statistics = tested ? drawStatistics(eosTokenIds) : undefined;
  let draws = NO_DRAWS;
  for (const { asked, index } of askInParts(data, passes, sizes.context)) {
    const scores = await model.score(asked, undefined, statistics);
    put(scores.logprobs, data.logprobs, index);
    put(scores.values, data.values, index);
    if (tested) draws = addDraws(draws, drawsOf(asked.ids, scores, eosTokenIds));
  }
  return { data, draws: tested ? draws : undefined };
}

/** @throws input - a token that nobody can have drawn, for no text is made of it */
export function checkDrawn(responses: readonly Int32Array[], drawable: KeptSet | undefined): void {
  responses.forEach((tokens, b) => {
    const t = drawable ? tokens.findIndex((id) => !drawable.has(id)) : -1;
    if (t >= 0)
      fail("input", {
        where: `step, response ${b}, token ${t}`,
        found: `id ${tokens[t]}, for which the tokenizer has no text`,
        expected: "ids that can be drawn",
        fix: "sample with this trainer's sampling(), which leaves such ids out",
      });
  });
}

/**
 * A checked batch as experience, with its texts. Recorded numbers are compared with what the policy says now; tokens without a
 * record are scored now.
 * @param passes what they are scored with: the adjustments they were drawn with, and responses per forward pass
 * @param where what errors call the step
 * @param copies responses to each query, one after another
 * @returns with what is wrong with the records, in words, where config.audit is "warn"
 * @throws audit - records that are not what the policy says
 */
export async function answersGiven(
  model: CausalLMWithValueHead,
  { queries, tokens, recorded, scores }: GivenBatch,
  passes: Passes,
  reader: Reader,
  config: HonestyConfig & Pick<RolloutConfig, "rolloutPrecision">,
  where: string,
  copies = 1,
): Promise<{ answered: Answered; warning?: string }> {
  const { data, draws } = recorded
    ? { data: experience([{ queries, responses: recorded }], config.maskReplay), draws: undefined }
    : await givenExperience(model, queries, tokens, passes, config.audit !== "off");
  let warning: string | undefined;
  if (recorded && config.audit !== "off" && config.maskReplay && config.rolloutPrecision === "fp32") {
    const unlike = unlikeRecord(data, await scoreAll(model, data, passes), data.batch);
    if (unlike && config.audit === "stop") fail("audit", { where, ...unlike });
    if (unlike) warning = `found ${unlike.found}, expected ${unlike.expected}. ${unlike.fix}`;
  }
  const episodes = data.responses.map((response, b) =>
    readSample(
      reader,
      { prompt: reader.tokenizer.decode(queries[b]), row: {} },
      queries[b],
      response,
      groupPlace(b, copies),
    ),
  );
  return { answered: { data, adjustments: passes.adjustments, episodes, scores, draws }, warning };
}

export type AnswersGiven = typeof answersGiven;
