import { describe, expect, it } from "vitest";
import { addMoments, NO_MOMENTS, runningStd, type ScoreOptions, shapeScores } from "../../../src/rl/scores.ts";

const plain: ScoreOptions = { failScore: null, missingEosPenalty: 0, scoreScaling: "none", scoreClip: 0 };
const facts = { complete: [true, false, true, false], hasEos: [true, true, false, false] };

describe("shapeScores", () => {
  it("replaces, then subtracts, then clips", () => {
    const scores = [5, 6, 7, 8];
    expect(shapeScores(scores, facts, plain).scores).toEqual([5, 6, 7, 8]);
    expect(shapeScores(scores, facts, { ...plain, failScore: -1 }).scores).toEqual([5, -1, 7, -1]);
    expect(shapeScores(scores, facts, { ...plain, missingEosPenalty: 2 }).scores).toEqual([5, 6, 5, 6]);
    const both = { ...plain, failScore: -1, missingEosPenalty: 2 };
    expect(shapeScores(scores, facts, both).scores).toEqual([5, -1, 5, -3]);
    expect(shapeScores(scores, facts, { ...both, scoreClip: 2.5 }).scores).toEqual([2.5, -1, 2.5, -2.5]);
    expect(scores).toEqual([5, 6, 7, 8]);
  });

  it("scales what is left after failScore and the penalty, and counts it", () => {
    const options: ScoreOptions = { ...plain, failScore: 0, missingEosPenalty: 1, scoreScaling: "normalize" };
    const { scores, moments } = shapeScores([4, 9, 5, 9], facts, options); // 4, 0, 4, -1
    expect(moments).toEqual({ mean: 1.75, variance: 5.1875, count: 4 });
    const std = Math.sqrt((5.1875 * 4) / 3);
    expect(scores[0]).toBeCloseTo(2.25 / std, 6);
    expect(scores[3]).toBeCloseTo(-2.75 / std, 6);
  });

  it("equal scores are not divided by their deviation of 0", () => {
    const yes = { complete: [true, true, true], hasEos: [true, true, true] };
    for (const score of [0, 1, 0.1, -3e7]) {
      const batch = [score, score, score];
      expect(shapeScores(batch, yes, { ...plain, scoreScaling: "scale" }).scores).toEqual(batch);
      for (const s of shapeScores(batch, yes, { ...plain, scoreScaling: "normalize" }).scores)
        expect(Math.abs(s)).toBeLessThan(1e-8);
    }
  });

  it("facts of another batch are refused", () => {
    expect(() => shapeScores([1, 2], facts, plain)).toThrow(
      "shapeScores, complete: found 4 responses, expected 2, one for each score. Fix: pass what belongs to the same batch",
    );
  });
});

it("moments of parts are those of the whole", () => {
  const all = [3, -1, 4, 1, -5, 9, 2, 6];
  const whole = addMoments(NO_MOMENTS, all);
  const parts = addMoments(addMoments(addMoments(NO_MOMENTS, all.slice(0, 1)), all.slice(1, 3)), all.slice(3));
  expect(whole.mean).toBeCloseTo(19 / 8, 12);
  expect(runningStd(whole)).toBeCloseTo(Math.sqrt((173 - 8 * (19 / 8) ** 2) / 7), 12);
  expect(parts.mean).toBeCloseTo(whole.mean, 12);
  expect(parts.variance).toBeCloseTo(whole.variance, 12);
  expect(addMoments(whole, [])).toBe(whole);
  expect([runningStd(NO_MOMENTS), runningStd(addMoments(NO_MOMENTS, [7]))]).toEqual([0, 0]);
});
