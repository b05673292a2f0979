/** @file Responses to prompts, each token with the log-probability it was drawn with. */
import { fail } from "../base/errors.ts";
import { Rng } from "../base/rng.ts";
import type { KeptSet } from "../gpt2/head.ts";
import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import { Decoder } from "./decoder.ts";
import { SAMPLING_DEFAULTS, type SamplingOptions, TokenSampler } from "./distribution.ts";

export interface GenerateOptions extends Partial<SamplingOptions> {
  /** Tokens per response at most, the eos included. */
  maxNewTokens: number;
  /** eos is not drawn before the response has this many tokens. */
  minNewTokens?: number;
  /** Ends a response. Default: the model's; null: nothing does. */
  eosTokenId?: number | null;
  seed?: number;
  /** Names of the random streams, one for each prompt; default 0, 1, 2, ... A prompt with its stream gives the same text in any batch. */
  streams?: readonly number[];
  /** Called with every token as it is drawn. */
  onToken?: (row: number, id: number) => void;
}

/** One response. Everything per token has the response's length; nothing exists after the first eos. */
export interface Response {
  /** int32 [n], the eos included. */
  readonly tokens: Int32Array;
  /** log p of each token under the distribution it was drawn from, natural log. [n] */
  readonly logprobs: Float32Array;
  /** The value head's estimate before each token. [n] */
  readonly values: Float32Array;
  /** What could have been drawn instead of each token. [n] */
  readonly kept: readonly KeptSet[];
  /** Whether it ended with eos, not at the maximum length. */
  readonly finished: boolean;
}

export interface Rollout {
  readonly queries: readonly Int32Array[];
  readonly responses: readonly Response[];
  readonly temperature: number;
}

/**
 * Sample a response to each query. Queries may have different lengths.
 * @throws usage - options that make no sense
 * @throws input - an empty query, one that leaves no room for the response, ids outside the vocabulary
 */
export async function generate(
  model: GPT2HeadWithValueModel,
  queries: readonly Int32Array[],
  options: GenerateOptions,
): Promise<Rollout> {
  const { maxNewTokens, minNewTokens = 0, seed = 0, eosTokenId = model.config.eosTokenId, onToken } = options;
  checkWhole("maxNewTokens", maxNewTokens, 1);
  checkWhole("minNewTokens", minNewTokens, 0);
  const sampling = { ...SAMPLING_DEFAULTS, ...definedOnly(options) };
  const { vocabSize: V } = model.config;
  const sampler = new TokenSampler(V, sampling);
  const B = queries.length;
  if (B === 0) return { queries, responses: [], temperature: sampling.temperature };
  const longest = checkQueries(model, queries, maxNewTokens);

  const rngs = queries.map((_, b) => new Rng(seed, options.streams?.[b] ?? b));
  const drawn = queries.map(() => ({
    tokens: [] as number[],
    logprobs: [] as number[],
    values: [] as number[],
    kept: [] as KeptSet[],
  }));
  const open = queries.map(() => true);
  const next = new Int32Array(B);
  const decoder = new Decoder(model, B, longest + maxNewTokens);
  try {
    await decoder.prefill(queries);
    for (let t = 0; t < maxNewTokens; t++) {
      for (let b = 0; b < B; b++) {
        if (!open[b]) continue;
        const banned = t < minNewTokens && eosTokenId !== null ? eosTokenId : -1;
        const { id, logprob, kept } = sampler.draw(decoder.logits.subarray(b * V, (b + 1) * V), rngs[b], banned);
        const row = drawn[b];
        row.tokens.push(id);
        row.logprobs.push(logprob);
        row.values.push(decoder.values[b]);
        row.kept.push(kept);
        next[b] = id;
        if (id === eosTokenId) open[b] = false;
        onToken?.(b, id);
      }
      if (t + 1 === maxNewTokens || !open.includes(true)) break;
      await decoder.step(next); // closed rows run along; nothing reads what they say
    }
  } finally {
    decoder.release();
  }
  const responses = drawn.map((row, b) => ({
    tokens: Int32Array.from(row.tokens),
    logprobs: Float32Array.from(row.logprobs),
    values: Float32Array.from(row.values),
    kept: row.kept,
    finished: !open[b],
  }));
  return { queries, responses, temperature: sampling.temperature };
}

/**
 * The notebook's sampler: exactly `txtLen` tokens for each query, eos or not.
 * @returns int32 [B, txtLen], row-major, with the shape beside it
 * @throws usage, input - as {@link generate}
 */
export async function respondToBatch(
  model: GPT2HeadWithValueModel,
  queries: readonly Int32Array[],
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

function definedOnly({ temperature, topK, topP }: Partial<SamplingOptions>): Partial<SamplingOptions> {
  return Object.fromEntries(Object.entries({ temperature, topK, topP }).filter(([, value]) => value !== undefined));
}

function checkWhole(where: string, value: number, from: number): void {
  if (Number.isInteger(value) && value >= from) return;
  fail("usage", { where, found: String(value), expected: `a whole number from ${from}`, fix: `correct ${where}` });
}

/** The longest query's length. */
function checkQueries(model: GPT2HeadWithValueModel, queries: readonly Int32Array[], maxNewTokens: number): number {
  const { nPositions, vocabSize } = model.config;
  queries.forEach((query, b) => {
    const where = `query ${b}`;
    if (query.length === 0)
      fail("input", {
        where,
        found: "no tokens",
        expected: "at least one",
        fix: "start an empty prompt with the end-of-text token",
      });
    if (query.length + maxNewTokens > nPositions)
      fail("input", {
        where,
        found: `${query.length} tokens and ${maxNewTokens} to come`,
        expected: `at most ${nPositions} together (n_positions)`,
        fix: "shorten the prompt or lower maxNewTokens",
      });
    for (let t = 0; t < query.length; t++)
      if (!(query[t] >= 0 && query[t] < vocabSize))
        fail("input", {
          where: `${where}, position ${t}`,
          found: `id ${query[t]}`,
          expected: `0 to ${vocabSize - 1}`,
          fix: "use the tokenizer of this model",
        });
  });
  return Math.max(...queries.map((q) => q.length));
}
