/**
 * @file Reward functions: the built-in ones, the user's own by path, and the checks on what they return.
 */
import { shorten } from "../base/describe.ts";
import { fail, ValueheadError } from "../base/errors.ts";
import { editDistance, nearest } from "../base/nearest.ts";
import { isProgrammingError, whatWasThrown, whereAndWhy } from "../base/thrown.ts";
import { importModule } from "../platform/modules.ts";
import { pause, settledWithin } from "./patience.ts";
import type { RewardFunction, RewardSample } from "./sample.ts";
import { askReward } from "./scores.ts";
import { sentiment, wordsOf } from "./sentiment.ts";

export type { RewardContext, RewardFunction, RewardSample, RewardScores } from "./sample.ts";

/** A reward that judges the text of responses alone, and answers at once. */
export type TextReward = (batch: readonly (Partial<RewardSample> & Pick<RewardSample, "response">)[]) => number[];

/**
 * A reward for a response length in words: 1 − |words − target| / target. 1 at the target, 0 for an empty response or twice
 * the target, negative beyond.
 */
export function lengthReward(target: number): TextReward {
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
export const builtInRewards: Readonly<Record<BuiltInReward, TextReward>> = {
  positive: (batch) => batch.map(({ response }) => sentiment(response, 1)),
  negative: (batch) => batch.map(({ response }) => sentiment(response, -1)),
  length: lengthReward(20),
};

/** Whether a reward is named by the path of a module: anything with a slash, or ending as JavaScript and TypeScript files do. */
export const isRewardPath = (nameOrPath: string): boolean =>
  !Object.hasOwn(builtInRewards, nameOrPath) && /[/\\]|\.[cm]?[jt]s$/.test(nameOrPath);

/**
 * The built-in reward of that name, or the default export of the module at that path (anything with a slash or ending in
 * .js, .mjs, .cjs, .ts, .mts or .cts). The module is loaded and runs in this process: {@link rewardProcess} has it run elsewhere.
 *
 * Throws `usage` for an unknown name or a missing file, `reward` when the module fails to load or has no default function.
 */
export async function resolveReward(nameOrPath: string): Promise<RewardFunction> {
  if (Object.hasOwn(builtInRewards, nameOrPath)) return builtInRewards[nameOrPath as BuiltInReward];
  if (!isRewardPath(nameOrPath)) unknownName(nameOrPath);
  let module: Record<string, unknown>;
  try {
    module = await importModule(nameOrPath);
  } catch (error) {
    if (error instanceof ValueheadError) throw error;
    return fail(
      "reward",
      {
        where: nameOrPath,
        found: `an error while the module loaded (${whatWasThrown(error)})${whereAndWhy(error)}`,
        expected: "a module that loads",
        fix: `correct the module; \`node ${nameOrPath}\` shows where it fails`,
      },
      error,
    );
  }
  const reward = defaultOf(module);
  if (typeof reward === "function") return reward as RewardFunction;
  const exports = Object.keys(module);
  return fail("reward", {
    where: nameOrPath,
    found: exports.length === 0 ? "no exports" : `no default function among the exports (${exports.join(", ")})`,
    expected: "a default export (batch) => number[] or Promise<number[]>",
    fix: "write `export default (batch) => batch.map(({ response }) => ...)`",
  });
}

/** The default export; of a CommonJS module, whose whole `exports` Node calls its default, what that has under the name. */
function defaultOf({ default: value }: Record<string, unknown>): unknown {
  const isObject = typeof value === "object" && value !== null;
  return isObject && "default" in value ? value.default : value;
}

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
