/** @file Rewards that check what a response says: a pattern, JSON, the answer of the prompt's row; and several of them together. */
import { describe } from "../../base/describe.ts";
import { fail, messageOf } from "../../base/errors.ts";
import { shorten } from "../../base/text.ts";
import type { RewardFunction, RewardSample } from "../sample.ts";

/** A reward that looks at a sample by itself, and answers at once. */
export type CheckReward = (batch: readonly RewardSample[]) => number[];

/**
 * 1 for a response in which the pattern is found, 0 for any other. Anchor it (`^...$`) for the whole response.
 * @param pattern a RegExp, or the text of one, which is read with the flag u
 * @throws config - a text that is no regular expression
 */
export function regexReward(pattern: RegExp | string): CheckReward {
  let expression: RegExp;
  try {
    expression =
      typeof pattern === "string"
        ? new RegExp(pattern, "u")
        : new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ""));
  } catch (error) {
    return fail("config", {
      where: "regexReward, pattern",
      found: `${JSON.stringify(pattern)} (${messageOf(error)})`,
      expected: "a regular expression of JavaScript",
      fix: "correct it; a backslash stands before ( ) [ ] { } . * + ? ^ $ | / where they mean themselves",
    });
  }
  return (batch) => batch.map(({ response }) => Number(expression.test(response)));
}

/**
 * 1 for a response that is JSON and nothing else, a Markdown fence around it aside; 0 for any other. With `keys` it is an object that has
 * all of them.
 */
export function jsonReward(keys: readonly string[] = []): CheckReward {
  return (batch) =>
    batch.map(({ response }) => {
      const text = /^\s*```(?:json)?\s*\n([\s\S]*?)\n?\s*```\s*$/i.exec(response)?.[1] ?? response;
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch {
        return 0;
      }
      if (keys.length === 0) return 1;
      const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
      return Number(isObject && keys.every((key) => Object.hasOwn(value as object, key)));
    });
}

/**
 * 1 for a response that is what a column of its prompt's row says, spaces at their ends aside; 0 for any other.
 * @param column of the answers. Default: answer
 * @throws reward - a row without that column, or with something in it that is no text, number or boolean
 */
export function exactReward(column = "answer"): CheckReward {
  return (batch) => batch.map((sample) => Number(sample.response.trim() === answerIn(sample, column)));
}

function answerIn({ prompt, row }: RewardSample, column: string): string {
  const answer = row[column];
  if (["string", "number", "bigint", "boolean"].includes(typeof answer)) return String(answer).trim();
  const columns = Object.keys(row);
  const missing = `no column ${column} (there are ${columns.length > 0 ? columns.join(", ") : "none"})`;
  return fail("reward", {
    where: `reward exact, the row of the prompt ${shorten(JSON.stringify(prompt), 60)}`,
    found: answer === undefined ? missing : `${describe(answer)} in the column ${column}`,
    expected: "the answer, as text",
    fix: "give prompts with a column of answers, and name it: exact:COLUMN",
  });
}

/**
 * A weighted sum of rewards.
 * @param parts reward and weight, each
 * @throws config - none, or a weight that is not finite
 */
export function combineRewards(parts: readonly (readonly [reward: RewardFunction, weight: number])[]): RewardFunction {
  const bad = parts.findIndex(([, weight]) => !Number.isFinite(weight));
  if (parts.length === 0 || bad >= 0)
    fail("config", {
      where: "combineRewards",
      found: parts.length === 0 ? "no rewards" : `a weight of ${parts[bad][1]}`,
      expected: "rewards, each with a finite weight",
      fix: "write [[reward, weight], ...]",
    });
  return async (batch, context) => {
    const scores = await Promise.all(
      parts.map(async ([reward]) => Promise.all(Array.from(await reward(batch, context)))),
    );
    return batch.map((_, i) => parts.reduce((sum, [, weight], p) => sum + weight * Number(scores[p][i]), 0));
  };
}

/** The kinds of checks that a name may begin with; what comes after the colon is what they check. */
const KINDS = /^(regex|json|exact|combine)(?::([\s\S]*))?$/;

/** How the checks are written, for errors and help. */
export const CHECKS = 'regex:PATTERN, json or json:KEY,KEY, exact or exact:COLUMN, combine:{"exact": 1, "json": 0.2}';

/** Whether a reward's name is that of a check. */
export const isCheck = (name: string): boolean => KINDS.test(name);

/**
 * The check of that name; undefined: it is no such name.
 * @param named what other rewards are called, for combine
 * @throws usage - a check that cannot be read
 */
export function checkNamed(name: string, named: (name: string) => RewardFunction): RewardFunction | undefined {
  const [, kind, what] = KINDS.exec(name) ?? [];
  const wrong = (found: string, fix: string): never =>
    fail("usage", { where: `reward ${shorten(name, 60)}`, found, expected: CHECKS, fix });
  try {
    if (kind === "regex") return regexReward(what || wrong("no pattern", "write regex:PATTERN"));
    if (kind === "exact") return exactReward(what || undefined);
    if (kind === "json")
      return jsonReward(
        (what ?? "")
          .split(",")
          .map((key) => key.trim())
          .filter(Boolean),
      );
    if (kind === "combine") return combined(what ?? "", named, wrong);
  } catch (error) {
    const problem = (error as { problem?: { found: string; fix: string }; kind?: string }).problem;
    if (problem && (error as { kind?: string }).kind === "config") wrong(problem.found, problem.fix);
    throw error;
  }
  return undefined;
}

function combined(
  text: string,
  named: (name: string) => RewardFunction,
  wrong: (found: string, fix: string) => never,
): RewardFunction {
  const example = 'write combine:{"exact": 1, "json": 0.2}, in quotes of the shell';
  let weights: unknown;
  try {
    weights = JSON.parse(text);
  } catch (error) {
    return wrong(messageOf(error), example);
  }
  if (typeof weights !== "object" || weights === null || Array.isArray(weights))
    return wrong(describe(weights), example);
  const parts = Object.entries(weights).map(([name, weight]) => {
    if (typeof weight !== "number") return wrong(`${describe(weight)} as the weight of ${name}`, example);
    return [named(name), weight] as const;
  });
  return combineRewards(parts);
}
