/**
 * @file Two models on the same prompts with the same random streams: what the reward says of each, how far they are apart, how long
 * and how varied their responses are, each difference with its interval, paired by prompt.
 */
import { fail } from "../base/errors.ts";
import { STREAMS } from "../base/streams.ts";
import type { PromptGiven } from "../data/chat.ts";
import { encodePrompts, type PromptOptions } from "../data/encode.ts";
import { askInParts } from "../experience/ask.ts";
import { type Responses, respondAndScore } from "../experience/collect.ts";
import { experience } from "../experience/experience.ts";
import type { Responder } from "../experience/parts/parts.ts";
import type { RewardFunction } from "../experience/reward-functions.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { distinctNgrams, type Interval, intervalOf, jackknife } from "../rl/compare.ts";
import { meanAndStandardError } from "../rl/kl.ts";
import { responseEnds } from "../sample/ends.ts";
import type { GenerateOptions } from "../sample/generate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** One of the two, with its tokenizer. */
export interface Compared {
  /** What is asked. */
  model: CausalLMWithValueHead;
  /** Its own. */
  tokenizer: Tokenizer;
}

/** What is asked, and how it is answered. */
export interface CompareOptions
  extends Omit<
      GenerateOptions,
      "stop" | "onToken" | "numReturnSequences" | "streams" | "weights" | "precision" | "rawLogprobs"
    >,
    Pick<PromptOptions, "chat" | "system" | "chatArgs"> {
  /** Texts or conversations. */
  prompts: readonly PromptGiven[];
  /** What judges responses. */
  reward: RewardFunction;
  /** What errors call the reward. Default "reward". */
  rewardName?: string;
  /** Responses of each model to each prompt. Default 1. */
  num?: number;
  /** Texts that end a response. */
  stop?: readonly string[];
  /** Responses sampled at a time. Default 16. */
  batchSize?: number;
  /** Hears how far it is. */
  onProgress?: (progress: CompareProgress) => void;
}

/** How far a comparison is. */
export interface CompareProgress {
  /** Which model, and what it does; `kl` is of both. */
  phase: "a" | "b" | "kl";
  /** Responses so far. */
  done: number;
  /** Responses in all. */
  total: number;
}

/** What is measured of both: mean reward; mean length in tokens; share of responses that ended by themselves; distinct-1 and distinct-2. */
export type Measure = "reward" | "length" | "ended" | "distinct1" | "distinct2";
const MEASURES: readonly Measure[] = ["reward", "length", "ended", "distinct1", "distinct2"];

/** A response as it is shown. */
export interface ComparedResponse {
  /** Without special tokens. */
  text: string;
  /** Its score. */
  reward: number;
  /** Tokens, the one that ended it included. */
  length: number;
  /** Whether an end token or a stop text ended it, not the maximum length. */
  ended: boolean;
}

/** What {@link compareModels} found. Intervals are at 95 %, over prompts. */
export interface Comparison {
  /** Of the first. */
  a: Record<Measure, Interval>;
  /** Of the second. */
  b: Record<Measure, Interval>;
  /** b - a, paired by prompt. */
  difference: Record<Measure, Interval>;
  /** KL(b ‖ a) of responses, nats, from those of b and the whole distribution at each of their tokens; undefined: they have different vocabularies. */
  kl?: Interval;
  /** Each prompt with the responses of both. */
  samples: { prompt: string; a: ComparedResponse[]; b: ComparedResponse[] }[];
}

interface Answers extends Responses {
  /** By prompt. */
  readonly responses: readonly ComparedResponse[][];
}

/**
 * Ask both models the same prompts with the same random streams.
 * @throws data - prompts that leave no room for a response; none
 * @throws reward - a reward function that throws, or answers with no numbers
 */
export async function compareModels(a: Compared, b: Compared, options: CompareOptions): Promise<Comparison> {
  if (options.prompts.length === 0)
    fail("data", { where: "prompts", found: "none", expected: "at least one prompt", fix: "give some" });
  const [ofA, ofB] = [await answer(a, "a", options), await answer(b, "b", options)];
  const [first, second] = [measured(ofA), measured(ofB)];
  const kl = a.model.sizes.vocabSize === b.model.sizes.vocabSize ? await divergence(a, b, ofB, options) : undefined;
  const n = options.prompts.length;
  const difference = (name: Measure): Interval => {
    const [x, y] = [first[name], second[name]];
    const apart = y.parts.map((value, i) => value - x.parts[i]);
    return intervalOf(y.isMean ? meanAndStandardError(apart) : jackknife(y.value - x.value, apart), n);
  };
  const each = (of: ReturnType<typeof measured>) => record((name) => alone(of[name], n));
  return {
    a: each(first),
    b: each(second),
    difference: record(difference),
    kl,
    samples: ofA.responses.map((responses, i) => ({
      prompt: ofA.samples[i * (options.num ?? 1)].prompt,
      a: responses,
      b: ofB.responses[i],
    })),
  };
}

const record = <T>(of: (name: Measure) => T) =>
  Object.fromEntries(MEASURES.map((name) => [name, of(name)])) as Record<Measure, T>;

/** A number, and what it is for each prompt, or without each in turn. */
interface Measured {
  value: number;
  isMean: boolean;
  parts: readonly number[];
}

const alone = ({ value, isMean, parts }: Measured, n: number) =>
  intervalOf(isMean ? meanAndStandardError(parts) : jackknife(value, parts), n);

function measured({ responses }: Answers): Record<Measure, Measured> {
  const texts = responses.map((list) => list.map(({ text }) => text));
  const average = (of: (response: ComparedResponse) => number): Measured => {
    const parts = responses.map((list) => list.reduce((sum, r) => sum + of(r), 0) / list.length);
    return { value: meanAndStandardError(parts).mean, isMean: true, parts };
  };
  const distinct = (n: number): Measured => {
    const { value, without } = distinctNgrams(texts, n);
    return { value, isMean: false, parts: without };
  };
  return {
    reward: average((r) => r.reward),
    length: average((r) => r.length),
    ended: average((r) => Number(r.ended)),
    distinct1: distinct(1),
    distinct2: distinct(2),
  };
}

async function answer({ model, tokenizer }: Compared, phase: "a" | "b", options: CompareOptions): Promise<Answers> {
  const { prompts: given, reward, rewardName = "reward", num = 1, stop = [], batchSize = 16, onProgress } = options;
  const { chat, system, chatArgs, maxNewTokens } = options;
  const encoded = encodePrompts(given, tokenizer, model.sizes, { chat, system, chatArgs, maxNewTokens });
  const times = <T>(list: readonly T[]) => list.flatMap((item) => new Array<T>(num).fill(item));
  const responder: Responder = {
    ...{ model, reward, rewardName },
    reader: { tokenizer, truncation: { truncateToken: null, truncateAfter: 0 } },
    config: { rolloutBatchSize: batchSize, rewardConcurrency: 1, rewardTimeout: 0, rewardRetries: 0 },
    sampling: {
      eosTokenId: responseEnds(model, tokenizer).ids,
      ...samplingOf(options),
      stop: stop.length > 0 ? { strings: stop, tokenizer } : undefined,
    },
  };
  const place = { step: 0, streamOf: (i: number) => [STREAMS.evaluation, i], copies: num };
  const work = respondAndScore(responder, times(encoded.prompts), times(encoded.ids), place);
  let next = await work.next();
  for (; !next.done; next = await work.next()) {
    const event = next.value;
    if (event.type === "progress" && event.phase === "respond")
      onProgress?.({ phase, done: event.done, total: event.total });
  }
  const { rollouts, samples, scores } = next.value;
  const drawn = rollouts.flatMap(({ responses }) => responses);
  const shown = drawn.map(({ tokens, finished }, i): ComparedResponse => {
    return { text: samples[i].response, reward: scores[i], length: tokens.length, ended: finished };
  });
  const responses = encoded.prompts.map((_, i) => shown.slice(i * num, (i + 1) * num));
  return { rollouts, samples, scores, responses };
}

/** What is about sampling. */
function samplingOf({
  prompts: _,
  reward: __,
  rewardName,
  num,
  stop,
  batchSize,
  onProgress,
  chat,
  system,
  chatArgs,
  ...rest
}: CompareOptions): GenerateOptions {
  return rest;
}

/** KL(b ‖ a) per prompt, on what b has written. */
async function divergence(a: Compared, b: Compared, { rollouts }: Answers, options: CompareOptions): Promise<Interval> {
  const { num = 1, batchSize = 16, prompts, onProgress } = options;
  const data = experience(rollouts);
  const sums = new Float64Array(prompts.length);
  let done = 0;
  const { adjustments } = rollouts[0];
  const context = Math.min(a.model.sizes.context, b.model.sizes.context);
  for (const { asked, index } of askInParts(data, { adjustments, partSize: batchSize }, context)) {
    const { kl } = await b.model.exactKl(asked, a.model);
    index.forEach((j, i) => {
      sums[Math.floor(j / data.batch.width / num)] += kl[i] / num;
    });
    done = Math.min(data.batch.rows, done + batchSize);
    onProgress?.({ phase: "kl", done, total: data.batch.rows });
  }
  return intervalOf(meanAndStandardError(sums), prompts.length);
}
