/**
 * @file The reward's scores: asking a reward function, on a copy of the samples, with patience and again where it has an accident, and
 * its answer as one finite number per sample.
 */
import type { ChatMessage } from "../base/chat-messages.ts";
import { describe, isList, shorten } from "../base/describe.ts";
import { fail, ValueheadError } from "../base/errors.ts";
import { isProgrammingError, whatWasThrown, whereAndWhy } from "../base/thrown.ts";
import { pause, settledWithin } from "./patience.ts";
import type { RewardContext, RewardFunction, RewardSample } from "./sample.ts";

/** How a reward function is called. */
export interface RewardCall {
  /** Seconds a call may take; 0: any time. */
  rewardTimeout?: number;
  /** How often a call that has an accident or takes too long is repeated. */
  rewardRetries?: number;
  /** Ends the calls and the waiting for a repetition. */
  signal?: AbortSignal;
  /** Hears of every call that will be repeated. */
  onRetry?: (message: string) => void;
}

/** Seconds before the first, second, third, ... repetition: 1, 2, 4, ... */
const backOff = (repetition: number) => Math.min(2 ** (repetition - 1), 30);

/**
 * Calls a reward function on a batch and checks what it returns. `where` is how errors call it: a name or a path.
 *
 * What it throws counts as an accident (a network, a busy server): it is called again, after a while. A TypeError and its like
 * ({@link isProgrammingError}) is no accident, and what it returns is its own doing: both are final. A call that takes too long is
 * not waited for; its signal aborts, and whether that stops it is its own affair.
 *
 * Throws a `reward` error when the last call throws (the original is its cause), and for anything returned but one finite
 * number per sample.
 */
export async function computeScores(
  reward: RewardFunction,
  batch: RewardSample[],
  where: string,
  { rewardTimeout = 0, rewardRetries = 0, signal, onRetry }: RewardCall = {},
): Promise<number[]> {
  for (let call = 1; ; call++) {
    try {
      return await answerOf(reward, batch, where, rewardTimeout, signal);
    } catch (error) {
      if (isFinal(error) || call > rewardRetries || signal?.aborted) return callFailed(error, batch, where, call);
      const seconds = backOff(call);
      onRetry?.(`reward ${where}: ${briefly(error)}; call ${call} of ${rewardRetries + 1}, the next in ${seconds} s`);
      if (!(await pause(seconds, signal))) return callFailed(error, batch, where, call);
    }
  }
}

/** Whether another call would end the same way. */
const isFinal = (error: unknown): boolean =>
  error instanceof ValueheadError ? !error.transient : isProgrammingError(error);

async function answerOf(
  reward: RewardFunction,
  batch: RewardSample[],
  where: string,
  seconds: number,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const call = new AbortController();
  const end = () => call.abort(signal?.reason);
  signal?.addEventListener("abort", end);
  try {
    const answer = askReward(reward, batch, where, { signal: call.signal });
    if (seconds > 0 && !(await settledWithin(answer, seconds))) {
      const late = new TooSlow(seconds);
      call.abort(late);
      throw late;
    }
    return await answer;
  } finally {
    signal?.removeEventListener("abort", end);
  }
}

function briefly(error: unknown): string {
  if (error instanceof ValueheadError) return error.problem.found;
  return error instanceof TooSlow ? error.message : whatWasThrown(error) + whereAndWhy(error);
}

class TooSlow extends Error {
  constructor(seconds: number) {
    super(`no answer within ${seconds} seconds`);
  }
}

function callFailed(error: unknown, batch: RewardSample[], where: string, calls: number): never {
  const times = calls === 1 ? "" : ` in each of ${calls} calls`;
  if (error instanceof ValueheadError)
    throw new ValueheadError(
      error.kind,
      { ...error.problem, found: `${error.problem.found}${times}` },
      { cause: error.cause },
    );
  const slow = error instanceof TooSlow;
  const what = slow ? error.message : `an exception (${whatWasThrown(error)})${whereAndWhy(error)},`;
  const [{ prompt, response }] = batch;
  return fail(
    "reward",
    {
      where: `reward ${where}`,
      found: `${what}${times} with ${batch.length} samples, the first: prompt ${shorten(prompt)}, response ${shorten(response)}`,
      expected: `${batch.length} scores`,
      fix: slow
        ? "raise rewardTimeout, or lower rolloutBatchSize for smaller calls"
        : "correct the reward function; it is called with an array of { prompt, response, text, tokens, row, ... }",
    },
    error,
  );
}

/**
 * Calls a reward function and waits for its answer, Promises inside an array included. It works on a copy of the samples, so
 * that whatever it does to them stays its own affair.
 * @returns one finite number per sample
 * @throws reward - it answered anything else. What it throws comes as it is
 */
export async function askReward(
  reward: RewardFunction,
  batch: readonly RewardSample[],
  where: string,
  context: RewardContext = {},
): Promise<number[]> {
  const answer: unknown = await reward(batch.map(copyOf), context);
  const settled = Array.isArray(answer) && answer.some(isPromise) ? await Promise.all(answer) : answer;
  return checkScores(settled, batch, where);
}

function copyOf(sample: RewardSample): RewardSample {
  const { promptTokens, tokens, row, messages } = sample;
  const said = messages && { messages: messages.map(copyOfRow) as ChatMessage[] };
  return { ...sample, ...said, promptTokens: [...promptTokens], tokens: [...tokens], row: copyOfRow(row) };
}

/** A row of the caller's own may hold what cannot be cloned, such as a function: then its columns are copied, not what they hold. */
function copyOfRow(row: RewardSample["row"]): RewardSample["row"] {
  try {
    return structuredClone(row);
  } catch {
    return { ...row };
  }
}

/**
 * The scores as numbers of our own, when there is one finite number or boolean per sample of `batch`.
 * @throws reward - anything else; says which score is wrong and for which text
 */
export function checkScores(answer: unknown, batch: readonly RewardSample[], where: string): number[] {
  const place = `reward ${where}`;
  if (!isList(answer))
    fail("reward", {
      where: place,
      found: describe(answer),
      expected: `an array of ${batch.length} numbers`,
      fix: notAList(answer),
    });
  if (answer.length !== batch.length)
    fail("reward", {
      where: place,
      found: `${answer.length} scores`,
      expected: `${batch.length}, one per sample`,
      fix: "return a number for every sample, also for an empty response",
    });
  return Array.from(answer, (score: unknown, i) => {
    const number = typeof score === "boolean" ? Number(score) : score;
    if (typeof number === "number" && Number.isFinite(Math.fround(number))) return number;
    return fail("reward", {
      where: `${place}, score ${i} of ${batch.length}, for prompt ${shorten(batch[i].prompt)}, response ${shorten(batch[i].response)}`,
      found: describe(score),
      expected: Number.isFinite(score) ? "a number that float32 can hold, up to 3.4e38" : "a finite number",
      fix: notANumber(score),
    });
  });
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

function notAList(answer: unknown): string {
  if (typeof (answer as Iterable<unknown> | null)?.[Symbol.iterator] === "function" && typeof answer !== "string")
    return "return an array: Array.from makes one of this";
  if (typeof answer === "object" && answer !== null && "data" in answer && isList(answer.data))
    return "return its numbers: Array.from(result.data)";
  return "return one number per sample, in order, as an array";
}

function notANumber(score: unknown): string {
  if (typeof score === "bigint") return "convert it: Number(score)";
  if (typeof score === "string" && score.trim() !== "" && Number.isFinite(Number(score)))
    return "convert it: Number(score)";
  if (isList(score)) return "return one number per sample, not a list of them: [score], not [[score]]";
  if (isPromise(score)) return "await the scores: await Promise.all(batch.map(async (sample) => ...))";
  if (Number.isFinite(score)) return "scale the reward down: differences between scores count, not their size";
  return "look for a division by zero, a logarithm of 0 or a missing return for such a text";
}
