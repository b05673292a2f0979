import { describe, expect, it } from "vitest";
import { rewardsFromScores } from "../../../src/rl/rewards.ts";

const batch = { rows: 2, width: 3, mask: Uint8Array.of(1, 1, 0, 1, 1, 1) };
const inputs = {
  scores: [10, 20],
  logprobs: [-1, -2, 99, -1, -1, -2],
  refLogprobs: [-2, -1, -99, -1, -3, -4],
  klCoef: 0.5,
  batch,
};

describe("rewardsFromScores", () => {
  it("−β·KL on every token, the score on each row's last existing token, 0 on padding", () => {
    const { rewards, nonScoreRewards } = rewardsFromScores(inputs);
    expect([...nonScoreRewards].map((x) => x + 0)).toEqual([-0.5, 0.5, 0, 0, -1, -1]);
    expect([...rewards].map((x) => x + 0)).toEqual([-0.5, 10.5, 0, 0, -1, 19]);
  });

  it("charges the exact KL where that is the penalty", () => {
    const exactKl = [0.5, 1, 9, 2, 0, 0.25];
    const { nonScoreRewards } = rewardsFromScores({ ...inputs, penalty: "exact", exactKl });
    expect([...nonScoreRewards].map((x) => x + 0)).toEqual([-0.25, -0.5, 0, -1, 0, -0.125]);
    expect(() => rewardsFromScores({ ...inputs, penalty: "exact" })).toThrow('found "exact" without the exact KL');
  });

  it("finds the last token when the row's first positions are masked", () => {
    const mask = Uint8Array.of(0, 1, 0, 0, 0, 1);
    const { rewards } = rewardsFromScores({ ...inputs, klCoef: 0, batch: { ...batch, mask } });
    expect([...rewards].map((x) => x + 0)).toEqual([0, 10, 0, 0, 0, 20]);
  });

  it("rejects a row without a token", () => {
    const mask = Uint8Array.of(1, 0, 0, 0, 0, 0);
    expect(() => rewardsFromScores({ ...inputs, batch: { ...batch, mask } })).toThrow(
      "rewardsFromScores, row 1: found a response without a token, expected at least one, to carry the score. " +
        "Fix: drop the row or sample with minNewTokens 1",
    );
  });

  it("names the token whose KL is not finite", () => {
    const refLogprobs = [-2, -1, 0, -1, Number.NEGATIVE_INFINITY, -4];
    expect(() => rewardsFromScores({ ...inputs, refLogprobs })).toThrow(
      "rewardsFromScores, row 1, token 1: found a KL reward of -Infinity " +
        "(log-prob -1, reference -Infinity, klCoef 0.5), expected a finite number",
    );
  });

  it("rejects a score that is not finite and a wrong number of scores", () => {
    expect(() => rewardsFromScores({ ...inputs, scores: [1, Number.NaN] })).toThrow(
      "rewardsFromScores, row 1: found the score NaN, expected a finite number",
    );
    expect(() => rewardsFromScores({ ...inputs, scores: [1] })).toThrow(
      "rewardsFromScores, scores: found 1 elements, expected 2 for [2]",
    );
  });
});
