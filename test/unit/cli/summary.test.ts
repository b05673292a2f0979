import { expect, test } from "vitest";
import type { RunOutcome } from "../../../src/cli/run-view.ts";
import { printEnd } from "../../../src/cli/summary.ts";

const lines = (best?: RunOutcome["best"]) => {
  const said: string[] = [];
  const outcome = { step: 9, interrupted: false, directory: "r/checkpoint-9", metrics: {}, best, resumedAt: 0 };
  printEnd(outcome, [], (line) => said.push(line));
  return said.slice(3);
};

test("the best checkpoint is named where it is not the last", () => {
  const best = { step: 4, path: "r/checkpoint-4", rewardMean: 0.51234, overSteps: 2 };
  expect(lines(best)).toEqual(["Best mean reward (0.512 over 2 steps): r/checkpoint-4"]);
  expect(lines({ ...best, overSteps: 1 })).toEqual(["Best mean reward (0.512 in its step): r/checkpoint-4"]);
  expect(lines({ ...best, step: 9 })).toEqual([]);
  expect(lines()).toEqual([]);
});
