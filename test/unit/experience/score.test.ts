/** @file Whatever a reward function does to its samples stays with it, and whatever it answers is numbers or a clear error. */
import { describe, expect, it } from "vitest";
import type { ValueheadError } from "../../../src/base/errors.ts";
import type { RewardFunction, RewardSample } from "../../../src/experience/sample.ts";
import { askReward, computeScores } from "../../../src/experience/score.ts";
import { testSample } from "../../support/samples.ts";

const two = (): RewardSample[] => [
  testSample({ response: "good", row: { tags: ["a"] } }),
  testSample({ response: "bad", row: { tags: ["b"] } }),
];
const ask = (answer: unknown) => askReward((() => answer) as unknown as RewardFunction, two(), "mine");
const problemOf = async (answer: unknown) => {
  const error = await ask(answer).catch((error: ValueheadError) => error);
  expect(error).toMatchObject({ name: "ValueheadError", kind: "reward" });
  return (error as ValueheadError).problem;
};

describe("what a reward function does to its input", () => {
  const vandals: [string, (batch: RewardSample[]) => void][] = [
    ["empties the array", (batch) => batch.splice(0)],
    ["turns it round", (batch) => batch.reverse()],
    ["adds samples", (batch) => batch.push(batch[0])],
    ["changes a text", (batch) => Object.assign(batch[0], { response: "?", prompt: 1, text: null })],
    ["changes a row in depth", (batch) => (batch[0].row.tags as string[]).push("c")],
    ["deletes what it has read", (batch) => Reflect.deleteProperty(batch[0], "response")],
    ["changes the ids", (batch) => batch[0].tokens.fill(0)],
    ["empties the ids", (batch) => batch[0].promptTokens.splice(0)],
  ];
  it.each(vandals)("%s", async (_, change) => {
    const batch = two();
    const reward: RewardFunction = (given) => {
      change(given);
      return [1, 2];
    };
    expect(await askReward(reward, batch, "mine")).toEqual([1, 2]);
    expect(batch).toEqual(two());
  });

  it("a second call after one that failed sees the samples as they were", async () => {
    const seen: RewardSample[][] = [];
    const reward: RewardFunction = (batch) => {
      seen.push(structuredClone(batch));
      batch.splice(0);
      if (seen.length === 1) throw new Error("busy");
      return [1, 2];
    };
    expect(await computeScores(reward, two(), "mine", { rewardRetries: 1 })).toEqual([1, 2]);
    expect(seen).toEqual([two(), two()]);
  });

  it("a row that cannot be cloned arrives whole", async () => {
    const judge = () => 5;
    const reward: RewardFunction = (batch) => batch.map(({ row }) => (row.judge as () => number)());
    expect(await askReward(reward, [testSample({ row: { judge } })], "mine")).toEqual([5]);
  });

  it("an array that it uses again for the next answer is not ours", async () => {
    const answer = [1, 2];
    const scores = await ask(answer);
    answer.fill(9);
    expect(scores).toEqual([1, 2]);
  });
});

describe("what a reward function may answer", () => {
  it.each([
    ["numbers", [1, -2]],
    ["a Float32Array", Float32Array.of(1, -2)],
    ["a Float64Array", Float64Array.of(1, -2)],
    ["an Int8Array", Int8Array.of(1, -2)],
    ["Promises, as async functions in map make them", [Promise.resolve(1), Promise.resolve(-2)]],
    ["some Promises", [1, Promise.resolve(-2)]],
    ["a Promise of Promises", Promise.resolve([Promise.resolve(1), -2])],
  ])("%s", async (_, answer) => {
    expect(await ask(answer)).toEqual([1, -2]);
  });

  it("booleans are 1 and 0", async () => {
    expect(await ask([true, false])).toEqual([1, 0]);
    expect(await ask([true, -2])).toEqual([1, -2]);
    expect(await ask([Promise.resolve(true), Promise.resolve(false)])).toEqual([1, 0]);
  });

  it("a Promise that is rejected is an exception, and so called again", async () => {
    let calls = 0;
    const reward: RewardFunction = (batch) => {
      calls++;
      return batch.map(async () => {
        if (calls === 1) throw new Error("busy");
        return 3;
      });
    };
    expect(await computeScores(reward, two(), "mine", { rewardRetries: 1 })).toEqual([3, 3]);
  });
});

describe("what it may not, with advice that fits", () => {
  it.each([
    [new Set([1, 2]), "a Set", "return an array: Array.from makes one of this"],
    [[1, 2].values(), /./, "return an array: Array.from makes one of this"],
    [{ data: Float32Array.of(1, 2), dims: [2] }, "an Object", "return its numbers: Array.from(result.data)"],
    [new DataView(new ArrayBuffer(2)), "a DataView", "return one number per sample, in order, as an array"],
    [[1, "2"], 'the string "2"', "convert it: Number(score)"],
    [[1, 2n], "the BigInt 2n", "convert it: Number(score)"],
    [BigInt64Array.of(1n, 2n), "the BigInt 1n", "convert it: Number(score)"],
    [[[1], [2]], "an Array", "return one number per sample, not a list of them: [score], not [[score]]"],
    [[1, 1e39], "1e+39", "scale the reward down: differences between scores count, not their size"],
    [[1, "high"], 'the string "high"', /look for a division by zero/],
    [[1, undefined], "undefined", /missing return/],
    [new Array(2), "undefined", /missing return/],
    [Float32Array.of(1, Number.NaN), "NaN", /division by zero/],
    [Promise.resolve(undefined), "undefined", "return one number per sample, in order, as an array"],
  ])("%o", async (answer, found, fix) => {
    const problem = await problemOf(answer);
    expect(problem.found).toMatch(found);
    expect(problem.fix).toMatch(fix);
  });

  it("is final: a wrong answer is not asked for again", async () => {
    let calls = 0;
    const reward = (() => [++calls, "2"]) as unknown as RewardFunction;
    await expect(computeScores(reward, two(), "mine", { rewardRetries: 3 })).rejects.toThrow("Number(score)");
    expect(calls).toBe(1);
  });
});
