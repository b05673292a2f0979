/** @file Reward functions: the built-in ones, and the user's own by path. */
import { fail, ValueheadError } from "../base/errors.ts";
import { editDistance, nearest } from "../base/nearest.ts";
import { whatWasThrown, whereAndWhy } from "../base/thrown.ts";
import { importModule } from "../platform/modules.ts";
import { CHECKS, checkNamed, isCheck } from "./rewards/checkable.ts";
import { isModelReward, modelReward, namedModel } from "./rewards/model-reward.ts";
import { onnxReward } from "./rewards/onnx-reward.ts";
import { sentiment, wordsOf } from "./rewards/sentiment.ts";
import type { RewardFunction, RewardSample } from "./sample.ts";

export type { RewardContext, RewardFunction, RewardSample, RewardScores } from "./sample.ts";

/** A reward that judges the text of responses alone, and answers at once. */
export type TextReward = (batch: readonly (Partial<RewardSample> & Pick<RewardSample, "response">)[]) => number[];

/**
 * A reward for a response length in words: 1 − |words − target| / target. 1 at the target, 0 for an empty response or twice
 * the target, negative beyond.
 * @param target words, above 0
 * @throws config - it is not
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

/** Names of {@link builtInRewards}. */
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

/** Whether a reward is named by the path of a module: anything with a slash, or ending as JavaScript and TypeScript files do, but checks and models. */
export const isRewardPath = (nameOrPath: string): boolean =>
  !Object.hasOwn(builtInRewards, nameOrPath) &&
  !isCheck(nameOrPath) &&
  !isModelReward(nameOrPath) &&
  /[/\\]|\.[cm]?[jt]s$/.test(nameOrPath);

/**
 * The built-in reward of that name, a check (`regex:PATTERN`, `json`, `exact:COLUMN`, `combine:{...}`), a reward model (`model:DIR`,
 * `model:DIR#LABEL`; in ONNX form `onnx:DIR`), or the default export of the module at that path (anything with a slash or ending in
 * .js, .mjs, .cjs, .ts, .mts or .cts). The module is loaded and runs in this process: {@link rewardProcess} has it run elsewhere.
 *
 * Throws `usage` for an unknown name or a missing file, `reward` when the module fails to load or has no default function.
 */
export async function resolveReward(nameOrPath: string): Promise<RewardFunction> {
  if (isModelReward(nameOrPath)) {
    const { form, id, label } = namedModel(nameOrPath);
    return form === "onnx" ? onnxReward(id, { label }) : modelReward(id, { label });
  }
  if (!isRewardPath(nameOrPath)) return rewardNamed(nameOrPath);
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

/** A reward of this library by its name, or a check. @throws usage - an unknown name, a check that cannot be read */
function rewardNamed(name: string): RewardFunction {
  if (Object.hasOwn(builtInRewards, name)) return builtInRewards[name as BuiltInReward];
  if (isModelReward(name)) return loadedLater(name);
  return checkNamed(name, rewardNamed) ?? unknownName(name);
}

/** A reward model among others that are combined: it is loaded when it is first asked. */
function loadedLater(name: string): RewardFunction {
  namedModel(name); // report a wrong name at once
  let loading: Promise<RewardFunction> | undefined;
  return async (batch, context) => {
    loading ??= resolveReward(name);
    return (await loading)(batch, context);
  };
}

/** The default export; of a CommonJS module, whose whole `exports` Node calls its default, what that has under the name. */
function defaultOf({ default: value }: Record<string, unknown>): unknown {
  const isObject = typeof value === "object" && value !== null;
  return isObject && "default" in value ? value.default : value;
}

function unknownName(name: string): never {
  const names = Object.keys(builtInRewards);
  const closest = nearest(name, names);
  return fail("usage", {
    where: "reward",
    found: JSON.stringify(name),
    expected: `${names.join(", ")}, a reward model (model:DIR), the path of a module (./reward.mjs), or ${CHECKS}`,
    fix: editDistance(name, closest) <= 3 ? `did you mean ${closest}?` : "choose one of the names or give a path",
  });
}
