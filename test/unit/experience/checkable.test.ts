/** @file Rewards that check: what passes, what does not, and what cannot be a check. */
import { describe, expect, test } from "vitest";
import { builtInRewards, isRewardPath, resolveReward } from "../../../src/experience/reward-functions.ts";
import { combineRewards, exactReward, jsonReward, regexReward } from "../../../src/experience/rewards/checkable.ts";
import { testSample } from "../../support/samples.ts";

const say = (...responses: string[]) => responses.map((response) => testSample({ response }));

test("regex: found in the response, whatever the flags; each response anew", () => {
  expect(regexReward("^\\d+$")(say("42", "4 2", "", "x42"))).toEqual([1, 0, 0, 0]);
  const sticky = regexReward(/yes/giy);
  expect(sticky(say("oh yes", "YES", "yes", "no"))).toEqual([1, 1, 1, 0]);
  expect(regexReward("\\p{Lu}")(say("É", "é"))).toEqual([1, 0]);
  expect(() => regexReward("(")).toThrow(/^regexReward, pattern: found "\(" \(Invalid regular expression/);
});

test("json: all of the response, with the keys it must have", () => {
  const texts = ['{"a": 1}', " [1]\n", '```json\n{"a": {}}\n```', '{"a": 1} and more', "{'a': 1}", "", "nul", "null"];
  expect(jsonReward()(say(...texts))).toEqual([1, 1, 1, 0, 0, 0, 0, 1]);
  expect(jsonReward(["a"])(say(...texts))).toEqual([1, 0, 1, 0, 0, 0, 0, 0]);
  expect(jsonReward(["a", "toString"])(say('{"a": 1}'))).toEqual([0]);
});

test("exact: what the row says", () => {
  const answered = (response: string, row: object) => testSample({ response, row: { ...row } });
  expect(
    exactReward()([
      answered(" 7 \n", { answer: 7 }),
      answered("8", { answer: "7" }),
      answered("true", { answer: true }),
    ]),
  ).toEqual([1, 0, 1]);
  expect(exactReward("label")([answered("a", { label: " a" })])).toEqual([1]);
  expect(() => exactReward()([answered("a", { label: "a" })])).toThrow(
    'reward exact, the row of the prompt "": found no column answer (there are label), expected the answer, as text. Fix: give prompts ' +
      "with a column of answers, and name it: exact:COLUMN",
  );
  expect(() => exactReward()([answered("a", { answer: ["a"] })])).toThrow("in the column answer, expected the answer");
});

test("combine: a weighted sum, of answers that take their time too", async () => {
  const slow = async (batch: readonly unknown[]) => batch.map(async (_, i) => i > 0);
  const reward = combineRewards([
    [jsonReward(), 0.5],
    [slow as never, 2],
  ]);
  expect(await reward(say("[]", "x", "1"))).toEqual([0.5, 2, 2.5]);
  expect(() => combineRewards([])).toThrow("combineRewards: found no rewards");
  expect(() => combineRewards([[jsonReward(), Number.NaN]])).toThrow("found a weight of NaN");
});

describe("by name", () => {
  const scores = async (name: string, ...responses: string[]) =>
    Array.from((await (await resolveReward(name))(say(...responses))) as ArrayLike<number>);

  test.each<[string, string[], number[]]>([
    ["regex:^a/b$", ["a/b", "a"], [1, 0]],
    ["json", ["{}", "x"], [1, 0]],
    ["json:a, b", ['{"b":1,"a":2}', '{"a":1}'], [1, 0]],
    ['combine:{"json": 2, "regex:^.{2}$": -1}', ["{}", "12", "x"], [1, 1, 0]],
  ])("%s", async (name, responses, expected) => {
    expect(isRewardPath(name)).toBe(false);
    expect(await scores(name, ...responses)).toEqual(expected);
  });

  test("a built-in one within", async () => {
    const [long] = builtInRewards.length(say("one two three"));
    expect(await scores('combine:{"length": 3}', "one two three")).toEqual([3 * long]);
  });

  test.each([
    ["regex:", "reward regex:: found no pattern"],
    ["regex:(", 'reward regex:(: found "(" (Invalid regular expression'],
    ["combine:", "reward combine:: found "],
    ["combine:[1]", "found an Array"],
    ['combine:{"json": "1"}', "as the weight of json"],
    [
      'combine:{"jsn": 1}',
      'reward: found "jsn", expected positive, negative, length, a reward model (model:DIR), the path',
    ],
    ["combine:{}", "found no rewards"],
  ])("%s is refused", async (name, message) => {
    await expect(resolveReward(name)).rejects.toThrow(message);
  });
});
