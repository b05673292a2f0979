/** @file Responses to prompts, each token with the log-probability it was drawn with. */
import { fail } from "../base/errors.ts";
import type { RNG } from "../base/rng.ts";
import { stream } from "../base/streams.ts";
import { type IdList, readIds, readRows } from "../base/token-ids.ts";
import { endTokens } from "../checkpoint/config-json.ts";
import type { Distribution } from "../model/distribution.ts";
import type { KeptSet } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { breathe } from "../platform/worker.ts";
import { Decoder } from "./decoder.ts";
import { decodingWeights, type Precision } from "./precision.ts";
import { checkStop, type StopOptions, StopWatch } from "./stop.ts";
import { type SamplingOptions, TokenSampler } from "./token-sampler.ts";
import { type Adjustments, checkIds } from "./transforms.ts";
import type { DecodingWeights } from "./weights.ts";

/** Options of {@link generate}. Those of sampling default to the whole distribution of the model. */
export interface GenerateOptions extends Partial<SamplingOptions> {
  /** Tokens per response at most, the eos included. */
  maxNewTokens: number;
  /** No token that ends a response is drawn before it has this many. */
  minNewTokens?: number;
  /** The token, or the tokens, that end a response. Default: the model's; null: nothing does. */
  eosTokenId?: number | readonly number[] | null;
  /** A response also ends with the token that completes one of these strings, be it shorter than minNewTokens. */
  stop?: StopOptions;
  /** Responses to each query: n rows, one after another, for each. Default 1. */
  numReturnSequences?: number;
  /** Seed of the random streams. Default 0. */
  seed?: number;
  /**
   * Names of the random streams, one for each query: a number or several; default 0, 1, 2, ... A query with its stream gives
   * the same text in any batch. Each of numReturnSequences has a stream of its own beside it.
   */
  streams?: readonly (number | readonly number[])[];
  /** Default fp32. With int8 the log-probs are those of the quantised copy the tokens are drawn from, not the model's. */
  precision?: Precision;
  /** The weights to sample with, made once for several calls; default: made for this one, of the asked precision. */
  weights?: DecodingWeights;
  /** Whether raw log-probs are wanted (default true). Without a temperature, bias or penalty they cost nothing. */
  rawLogprobs?: boolean;
  /** Called with every token as it is drawn. */
  onToken?: (row: number, id: number) => void;
}

/** One response. Everything per token has the response's length; nothing exists after the token that ended it. */
export interface SampledResponse {
  /** int32 [n], the token that ended it included. */
  readonly tokens: Int32Array;
  /** log p of each token under the distribution it was drawn from, natural log. [n] */
  readonly logprobs: Float32Array;
  /** log p of each token under the model alone: temperature 1, all tokens that text can be made of, no adjustments. [n]; NaN if not wanted. */
  readonly rawLogprobs: Float32Array;
  /** The value head's estimate before each token. [n] */
  readonly values: Float32Array;
  /** What could have been drawn instead of each token; undefined: anything that text can be made of. [n] */
  readonly kept: readonly (KeptSet | undefined)[];
  /** How likely the kept set was, before the rest was left out: in (0, 1]. [n] */
  readonly keptMass: Float64Array;
  /** Whether an end token or a stop string ended it, not the maximum length. */
  readonly finished: boolean;
}

/** Responses with what they answer, and what is needed to score them again. */
export interface Rollout {
  /** One for each response. */
  readonly queries: readonly Int32Array[];
  /** In the order of the queries; those to one query follow each other. */
  readonly responses: readonly SampledResponse[];
  /** The changes of the logits, but for the kept sets. */
  readonly adjustments: Adjustments;
}

/** The distributions that the tokens of response b were drawn from, for `model.score`. */
export function replay({ queries, responses, adjustments }: Rollout, b: number): Distribution {
  if (!(b in responses))
    fail("usage", {
      where: "replay, response",
      found: String(b),
      expected: `0 to ${responses.length - 1}`,
      fix: "name a response of this rollout",
    });
  const { tokens, kept } = responses[b];
  const recorded = Array.from(tokens, (_, t) => ({
    prompt: queries[b],
    response: tokens.subarray(0, t),
    kept: kept[t],
  }));
  return adjustments.distribution(recorded);
}

/**
 * Sample a response to each query. Queries may have different lengths.
 * @param given token ids of each query
 * @throws usage - options that make no sense
 * @throws input - an empty query, one that leaves no room for the response, ids outside the vocabulary
 * @throws config - a value head of more than one number; int8 for a model whose head size is not a multiple of 8
 * @throws numbers - logits that are not numbers
 */
export async function generate(
  model: CausalLMWithValueHead,
  given: readonly IdList[],
  options: GenerateOptions,
): Promise<Rollout> {
  const { maxNewTokens, minNewTokens = 0, eosTokenId = model.eosTokenIds, stop, onToken } = options;
  const { numReturnSequences: copies = 1, rawLogprobs = true, drawable = model.drawable } = options;
  checkWhole("maxNewTokens", maxNewTokens, 1);
  checkWhole("minNewTokens", minNewTokens, 0);
  checkWhole("numReturnSequences", copies, 1);
  if (stop) checkStop(stop);
  const { vocabSize: V } = model.sizes;
  const ends = endTokens(eosTokenId);
  if (options.eosTokenId !== undefined) checkIds(ends, "eosTokenId", V);
  const sampler = new TokenSampler(V, { ...options, drawable }, rawLogprobs);
  const { adjustments } = sampler;
  const queries = readQueries(model, given, maxNewTokens);
  if (queries.length === 0) return { queries, responses: [], adjustments };
  const longest = Math.max(...queries.map((query) => query.length));

  const prompts = queries.flatMap((query) => new Array<Int32Array>(copies).fill(query));
  const B = prompts.length;
  const rows = prompts.map((prompt, row) => newRow(prompt, maxNewTokens, randomStream(row, copies, options), stop));
  const next = new Int32Array(B);
  if (options.precision === "int8" && !options.weights) await model.parameters.refresh();
  const weights =
    options.weights ?? decodingWeights(model, { precision: options.precision, rows: B, steps: maxNewTokens });
  const decoder = new Decoder(model, B, longest + maxNewTokens, weights);
  try {
    await decoder.prefill(prompts);
    for (let t = 0; t < maxNewTokens; t++) {
      rows.forEach((row, b) => {
        if (row.ended) return;
        const logits = decoder.logits.subarray(b * V, (b + 1) * V);
        const probabilities = decoder.probabilities.subarray(b * V, (b + 1) * V);
        const banned = t < minNewTokens ? ends : NONE;
        const context = { prompt: row.prompt, response: row.tokens.subarray(0, t) };
        const draw = sampler.draw(logits, row.rng, banned, context, probabilities);
        row.tokens[t] = draw.id;
        row.logprobs.push(draw.logprob);
        row.rawLogprobs.push(draw.rawLogprob);
        row.values.push(decoder.values[b]);
        row.kept.push(draw.kept);
        row.keptMass.push(draw.keptMass);
        next[b] = draw.id;
        const stops = row.watch?.push(draw.id) ?? false; // reads every token
        row.ended = ends.includes(draw.id) || stops;
        onToken?.(b, draw.id);
      });
      if (t + 1 === maxNewTokens || rows.every((row) => row.ended)) break;
      await decoder.step(next); // ended rows run along; nothing reads what they say
      await breathe(); // a reward function may be at work on earlier responses
    }
  } finally {
    decoder.release();
    if (weights !== options.weights) weights.release();
  }
  const responses = rows.map((row) => ({
    tokens: row.tokens.slice(0, row.logprobs.length),
    logprobs: Float32Array.from(row.logprobs),
    rawLogprobs: Float32Array.from(row.rawLogprobs),
    values: Float32Array.from(row.values),
    kept: row.kept,
    keptMass: Float64Array.from(row.keptMass),
    finished: row.ended,
  }));
  return { queries: prompts, responses, adjustments };
}

const NONE: readonly number[] = [];

function newRow(prompt: Int32Array, maxNewTokens: number, rng: RNG, stop: StopOptions | undefined) {
  return {
    prompt,
    rng,
    watch: stop && new StopWatch(stop, prompt),
    tokens: new Int32Array(maxNewTokens),
    logprobs: [] as number[],
    rawLogprobs: [] as number[],
    values: [] as number[],
    kept: [] as (KeptSet | undefined)[],
    keptMass: [] as number[],
    ended: false,
  };
}

/** The random numbers of a row, whatever batch it is in. */
function randomStream(row: number, copies: number, { seed = 0, streams }: GenerateOptions): RNG {
  const query = Math.floor(row / copies);
  const copy = row % copies;
  const name = [streams?.[query] ?? query].flat() as number[];
  return stream(seed, "response", name.length, ...name, copy);
}

/**
 * The notebook's sampler: exactly `txtLen` tokens for each query, eos or not.
 * @returns int32 [B, txtLen], row-major, with the shape beside it
 * @throws usage, input - as {@link generate}
 */
export async function respondToBatch(
  model: CausalLMWithValueHead,
  queries: readonly IdList[],
  options: { txtLen?: number; topK?: number; topP?: number; temperature?: number; seed?: number } = {},
): Promise<{ data: Int32Array; shape: [number, number]; rollout: Rollout }> {
  const { txtLen = 20, ...rest } = options;
  checkWhole("txtLen", txtLen, 1);
  const rollout = await generate(model, queries, { ...rest, maxNewTokens: txtLen, eosTokenId: null });
  const data = new Int32Array(queries.length * txtLen);
  rollout.responses.forEach((r, b) => {
    data.set(r.tokens, b * txtLen);
  });
  return { data, shape: [queries.length, txtLen], rollout };
}

function checkWhole(where: string, value: number, from: number): void {
  if (Number.isInteger(value) && value >= from) return;
  fail("usage", { where, found: String(value), expected: `a whole number from ${from}`, fix: `correct ${where}` });
}

/** @throws input - as {@link generate} */
function readQueries(
  { sizes }: Pick<CausalLMWithValueHead, "sizes">,
  given: readonly IdList[],
  maxNewTokens: number,
): Int32Array[] {
  const { context, contextName, vocabSize } = sizes;
  return readRows(given, "queries").map((row, b) => {
    const where = `query ${b}`;
    const query = readIds(row, { where, vocabSize, fixEmpty: "start an empty prompt with the end-of-text token" });
    if (query.length + maxNewTokens > context)
      fail("input", {
        where,
        found: `${query.length} tokens and ${maxNewTokens} to come`,
        expected: `at most ${context} together (${contextName})`,
        fix: "shorten the prompt or lower maxNewTokens",
      });
    return query;
  });
}
