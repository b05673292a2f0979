/** @file Asking a reward function: on a copy of the samples, and its answer as one finite number per sample. */
import { describe, isList, shorten } from "../base/describe.ts";
import { fail } from "../base/errors.ts";
import type { RewardContext, RewardFunction, RewardSample } from "./sample.ts";

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
  const { promptTokens, tokens, row } = sample;
  return { ...sample, promptTokens: [...promptTokens], tokens: [...tokens], row: copyOfRow(row) };
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
