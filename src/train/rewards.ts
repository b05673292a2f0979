/**
 * @file Reward functions: the built-in ones, the user's own by path, and the checks on what they return.
 */
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { editDistance, nearest } from "../base/nearest.ts";
import { importModule } from "../runtime/modules.ts";
import { settledWithin } from "./patience.ts";
import { sentiment, wordsOf } from "./sentiment.ts";

/** One finished sequence: `text` is prompt + response as one string. */
export interface RewardSample {
  prompt: string;
  response: string;
  text: string;
  /** The row of the prompts file that the prompt came from, by column: labels, targets. {} without columns. */
  row: Readonly<Record<string, unknown>>;
}

/** Scores a batch: one finite number per sample, in order; higher is better. May be asynchronous. */
export type RewardFunction = (batch: RewardSample[]) => number[] | Promise<number[]>;

/**
 * A reward for a response length in words: 1 − |words − target| / target. 1 at the target, 0 for an empty response or twice
 * the target, negative beyond.
 */
export function lengthReward(target: number): RewardFunction {
  if (!(Number.isFinite(target) && target > 0)) {
    fail("config", {
      where: "lengthReward, target",
      found: String(target),
      expected: "a positive number of words",
      fix: "20 is the target of the built-in reward `length`",
    });
  }
  return (batch) => batch.map(({ response }) => 1 - Math.abs(wordsOf(response).length - target) / target);
}

export type BuiltInReward = "positive" | "negative" | "length";

/**
 * The rewards that have a name. All judge the response alone, for the prompt is given, not chosen.
 * - `positive`, `negative`: {@link sentiment} of that sign, in (−1, 1). Repeating a word cannot raise them.
 * - `length`: {@link lengthReward} with a target of 20 words.
 */
export const builtInRewards: Readonly<Record<BuiltInReward, RewardFunction>> = {
  positive: (batch) => batch.map(({ response }) => sentiment(response, 1)),
  negative: (batch) => batch.map(({ response }) => sentiment(response, -1)),
  length: lengthReward(20),
};

/**
 * The built-in reward of that name, or the default export of the module at that path (anything with a slash or ending in
 * .js, .mjs, .cjs, .ts, .mts or .cts).
 *
 * Throws `usage` for an unknown name or a missing file, `reward` when the module fails to load or has no default function.
 */
export async function resolveReward(nameOrPath: string): Promise<RewardFunction> {
  if (Object.hasOwn(builtInRewards, nameOrPath)) return builtInRewards[nameOrPath as BuiltInReward];
  if (!/[/\\]|\.[cm]?[jt]s$/.test(nameOrPath)) unknownName(nameOrPath);
  let module: Record<string, unknown>;
  try {
    module = await importModule(nameOrPath);
  } catch (error) {
    if (error instanceof ValueheadError) throw error;
    return fail(
      "reward",
      {
        where: nameOrPath,
        found: `an error while the module loaded (${messageOf(error)})`,
        expected: "a module that loads",
        fix: `correct the module; \`node ${nameOrPath}\` shows where it fails`,
      },
      error,
    );
  }
  if (typeof module.default === "function") return module.default as RewardFunction;
  const exports = Object.keys(module);
  return fail("reward", {
    where: nameOrPath,
    found: exports.length === 0 ? "no exports" : `no default function among the exports (${exports.join(", ")})`,
    expected: "a default export (batch) => number[] or Promise<number[]>",
    fix: "write `export default (batch) => batch.map(({ response }) => ...)`",
  });
}

/** How a reward function is called. */
export interface RewardCall {
  /** Seconds a call may take; 0: any time. */
  rewardTimeout?: number;
  /** How often a call that throws or takes too long is repeated. */
  rewardRetries?: number;
  /** Ends the waiting for a repetition. */
  signal?: AbortSignal;
  /** Hears of every call that will be repeated. */
  onRetry?: (message: string) => void;
}

/** Seconds before the first, second, third, ... repetition: 1, 2, 4, ... */
const backOff = (repetition: number) => Math.min(2 ** (repetition - 1), 30);

/**
 * Calls a reward function on a batch and checks what it returns. `where` is how errors call it: a name or a path.
 *
 * What it throws counts as an accident (a network, a busy server): it is called again, after a while. What it returns is its
 * own doing, and a wrong result is final. A call that takes too long is not waited for, but it cannot be stopped.
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
  const stopped = new Promise<void>((resolve) => signal?.addEventListener("abort", () => resolve(), { once: true }));
  for (let call = 1; ; call++) {
    let answer: unknown;
    try {
      answer = await inTime(reward, batch, rewardTimeout);
    } catch (error) {
      if (call > rewardRetries || signal?.aborted) return callFailed(error, batch, where, call);
      const seconds = backOff(call);
      onRetry?.(`reward ${where}: ${messageOf(error)}; call ${call} of ${rewardRetries + 1}, the next in ${seconds} s`);
      if (await settledWithin(stopped, seconds)) return callFailed(error, batch, where, call);
      continue;
    }
    return checkScores(answer, batch, where);
  }
}

async function inTime(reward: RewardFunction, batch: RewardSample[], seconds: number): Promise<number[]> {
  const answer = (async () => reward(batch))(); // also what is thrown before the first await comes as a rejection
  if (seconds > 0 && !(await settledWithin(answer, seconds))) throw new TooSlow(seconds);
  return answer;
}

class TooSlow extends Error {
  constructor(seconds: number) {
    super(`no answer within ${seconds} seconds`);
  }
}

function callFailed(error: unknown, batch: RewardSample[], where: string, calls: number): never {
  const slow = error instanceof TooSlow;
  const what = slow ? error.message : `an exception (${messageOf(error)})`;
  const times = calls === 1 ? "" : ` in each of ${calls} calls`;
  const [{ prompt, response }] = batch;
  return fail(
    "reward",
    {
      where: `reward ${where}`,
      found: `${what}${times} with ${batch.length} samples, the first: prompt ${shorten(prompt)}, response ${shorten(response)}`,
      expected: `${batch.length} scores`,
      fix: slow
        ? "raise rewardTimeout, or lower rolloutBatchSize for smaller calls"
        : "correct the reward function; it is called with an array of { prompt, response, text, row }",
    },
    error,
  );
}

/** `scores` itself when it is one finite number per sample of `batch`; otherwise a `reward` error that says which one is not. */
export function checkScores(scores: unknown, batch: RewardSample[], where: string): number[] {
  const place = `reward ${where}`;
  if (!Array.isArray(scores)) {
    fail("reward", {
      where: place,
      found: describe(scores),
      expected: `an array of ${batch.length} numbers`,
      fix: "return one number per sample, in order, as an array",
    });
  }
  if (scores.length !== batch.length) {
    fail("reward", {
      where: place,
      found: `${scores.length} scores`,
      expected: `${batch.length}, one per sample`,
      fix: "return a number for every sample, also for an empty response",
    });
  }
  for (const [i, score] of scores.entries()) {
    if (Number.isFinite(score) && Number.isFinite(Math.fround(score))) continue;
    fail("reward", {
      where: `${place}, score ${i} of ${batch.length}, for prompt ${shorten(batch[i].prompt)}, response ${shorten(batch[i].response)}`,
      found: describe(score),
      expected: "a finite number",
      fix: "look for a division by zero, a logarithm of 0 or a missing return for such a text",
    });
  }
  return scores;
}

function describe(value: unknown): string {
  if (value === null || typeof value === "number" || typeof value === "undefined") return String(value);
  if (typeof value === "string") return `the string ${shorten(value)}`;
  return `${/^[aeiou]/i.test(typeName(value)) ? "an" : "a"} ${typeName(value)}`;
}

function typeName(value: unknown): string {
  return typeof value === "object" ? (value?.constructor?.name ?? "object") : typeof value;
}

function shorten(text: string, limit = 80): string {
  return JSON.stringify(text.length <= limit ? text : `${text.slice(0, limit - 1)}…`);
}

function unknownName(name: string): never {
  const names = Object.keys(builtInRewards);
  const closest = nearest(name, names);
  return fail("usage", {
    where: "reward",
    found: JSON.stringify(name),
    expected: `${names.join(", ")} or the path of a module (./reward.mjs)`,
    fix: editDistance(name, closest) <= 3 ? `did you mean ${closest}?` : "choose one of the names or give a path",
  });
}
