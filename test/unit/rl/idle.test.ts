/** @file Every way in which a run learns nothing is named, once; a run that learns is left alone. */
import { expect, test } from "vitest";
import { IdleWatch, type StepSignals } from "../../../src/rl/idle.ts";

const learning: StepSignals = {
  logprobs: [-0.1, -2, 0, -0.5],
  differ: true,
  scores: [1, 0],
  given: [1, 0],
  advantages: [0.7, -0.7, 1.2, -1.2],
  whitened: true,
  learningRate: 1e-5,
  baseLearningRate: 1e-5,
  updateNorm: 0.1,
  gradNorm: 1,
  skipped: 0,
};
const first = (change: Partial<StepSignals>) => new IdleWatch().look({ ...learning, ...change });

test("a run that learns is not remarked upon, nor one whose schedule ends at 0", () => {
  const watch = new IdleWatch();
  for (let step = 0; step < 10; step++) expect(watch.look(learning)).toBeUndefined();
  expect(watch.look({ ...learning, learningRate: 0, updateNorm: 0 })).toBeUndefined();
});

test.each<[string, Partial<StepSignals>, RegExp]>([
  [
    "one token to choose from",
    { logprobs: [0, 0, 0, 0] },
    /^every token had probability 1.*: raise topK, topP or temp/,
  ],
  ["all but certain tokens", { logprobs: [-1e-8, 0, -1e-7, 0] }, /^every token had probability 1/],
  [
    "one token in the batch",
    { logprobs: [-1], scores: [2], given: [2], advantages: [0, 0] },
    /^all advantages are 0.*: a single number less its mean is 0: raise batchSize/,
  ],
  [
    "equal scores and nothing else",
    { scores: [3, 3], given: [3, 3], advantages: [0, 0, 0, 0] },
    /^all advantages are 0.*: all 2 scores are 3/,
  ],
  ["rounding, whitened", { advantages: [1e-3, -1e-3] }, /^all advantages are 0/],
  ["gradients of 0", { updateNorm: 0, gradNorm: 0 }, /^no weight of the policy has moved so far: all gradients are 0/],
  ["changes too small", { updateNorm: 0, learningRate: 1e-12 }, /learning rate of 1e-12 are too small for float32/],
  ["skipped minibatches", { updateNorm: 0, gradNorm: 0, skipped: 4 }, /every minibatch was skipped because of ratioTh/],
])("%s: a warning", (_, change, message) => {
  const remark = first(change);
  expect(remark?.type).toBe("warning");
  expect(remark?.message).toMatch(message);
});

test("small advantages that are not whitened are learned from", () => {
  expect(first({ whitened: false, advantages: [1e-3, -1e-3] })).toBeUndefined();
  expect(first({ whitened: false, advantages: [0, 0] })?.message).toMatch(/^all advantages are 0/);
});

test("a learning rate of 0 was asked for: a note", () => {
  expect(first({ baseLearningRate: 0, learningRate: 0, updateNorm: 0 })).toEqual({
    type: "note",
    message: "learningRate is 0: no weight will move",
  });
});

test("equal scores are remarked upon when there are many, of responses that differ, and only while all are equal", () => {
  const equal = { ...learning, scores: [0, 0, 0, 0], given: [0, 0, 0, 0] };
  const watch = new IdleWatch();
  for (let step = 0; step < 3; step++) expect(watch.look(equal)).toBeUndefined();
  expect(watch.look(equal)?.message).toMatch(/^all 16 scores so far are 0: nothing tells .*; look at what the reward/);
  expect(watch.look(equal)).toBeUndefined(); // once
  const other = new IdleWatch();
  expect(other.look({ ...equal, scores: [0, 1, 0, 0] })).toBeUndefined();
  for (let step = 0; step < 10; step++) expect(other.look(equal)).toBeUndefined();
  const same = new IdleWatch();
  for (let step = 0; step < 10; step++) expect(same.look({ ...equal, differ: false })).toBeUndefined();
  const clipped = { ...equal, scores: new Array(16).fill(1), given: Array.from({ length: 16 }, (_, i) => 5 + i) };
  expect(first(clipped)?.message).toMatch(/the reward function gave different ones: look at scoreClip/);
});

test("the first reason is said, and others only where it no longer holds", () => {
  const watch = new IdleWatch();
  const both = { ...learning, logprobs: [0, 0], advantages: [0, 0] };
  expect(watch.look(both)?.message).toMatch(/^every token/);
  expect(watch.look(both)).toBeUndefined();
  expect(watch.look({ ...both, logprobs: [-1, -1] })?.message).toMatch(/^all advantages/);
});
