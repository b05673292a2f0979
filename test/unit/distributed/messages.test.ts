/** @file What trainer and workers send each other: whole or refused. */
import { expect, test } from "vitest";
import {
  type Result,
  resultFromBytes,
  resultToBytes,
  type Task,
  taskFromBytes,
  taskToBytes,
} from "../../../src/distributed/messages.ts";
import { type Experience, experience } from "../../../src/experience/experience.ts";
import { joinExperience, joinReference } from "../../../src/experience/parts/parts.ts";
import { KeptSet, keptAt } from "../../../src/model/kept-set.ts";

const V = 100;
const set = KeptSet.of(Int32Array.of(1, 5, 7), V);
const large = KeptSet.of(
  Int32Array.from({ length: 60 }, (_, i) => i + 2),
  V,
);

/** Responses with numbers that say where they are from. */
const rollout = (lengths: readonly number[], base: number) => ({
  queries: lengths.map((_, b) => Int32Array.of(base, b)),
  responses: lengths.map((n, b) => ({
    tokens: Int32Array.from({ length: n }, (_, t) => 5 + t),
    logprobs: Float32Array.from({ length: n }, (_, t) => -(base + b + t / 10)),
    rawLogprobs: new Float32Array(n),
    values: Float32Array.from({ length: n }, (_, t) => base + 10 * b + t),
    kept: Array.from({ length: n }, (_, t) => [undefined, set, large][(b + t) % 3]),
    keptMass: Float64Array.from({ length: n }, (_, t) => 1 / (1 + t)),
    finished: true,
  })),
});

const plain = (data: Experience) => ({
  ...data,
  kept: Array.from({ length: data.logprobs.length }, (_, i) => keptAt(data.kept, i)?.ids()),
});

test("parts joined are the batch that they are parts of, whichever of them has the longest response", () => {
  const parts = [rollout([2, 5], 1), rollout([1], 2), rollout([3, 7, 1], 3)];
  const joined = joinExperience(parts.map((part) => experience([part])));
  expect(plain(joined)).toEqual(plain(experience(parts)));
});

test("what the reference says is put where its tokens are", () => {
  const parts = [rollout([2, 1], 1), rollout([3], 2)].map((part) => {
    const data = experience([part]);
    return { data, reference: { refLogprobs: data.values, exactKl: data.logprobs } };
  });
  const whole = joinExperience(parts.map(({ data }) => data));
  expect(joinReference(parts)).toEqual({ refLogprobs: whole.values, exactKl: whole.logprobs });
  expect(joinReference(parts.map(({ data }) => ({ data })))).toBeUndefined();
});

const result = (): Result => {
  const data = experience([rollout([2, 4], 1)]);
  return {
    ...{ session: "s1", step: 3, version: "a".repeat(64), index: 1, worker: "w1", seconds: 1.5, busy: 0.25 },
    scores: [0.1, -2],
    answer: { data, reference: { refLogprobs: data.values, exactKl: data.logprobs } },
  };
};

test("a result is read as it was written, from a Buffer that is part of another too", () => {
  const bytes = Buffer.concat([Buffer.alloc(3), resultToBytes(result())]).subarray(3);
  expect(resultFromBytes(bytes)).toEqual(result());
  const { data } = result().answer as NonNullable<Result["answer"]>;
  const unmeasured = { ...result(), answer: { data } };
  expect(resultFromBytes(resultToBytes(unmeasured))).toEqual(unmeasured);
});

test("a task is read as it was written; rows that are judged elsewhere stay at home", () => {
  const part = {
    ...{ index: 2, start: 4, copies: 2, streams: [4, [11, 5]] },
    prompts: [
      { prompt: "a", row: { label: "x" } },
      { prompt: "b", row: {}, messages: [{ role: "user" as const, content: "b" }] },
    ],
    queries: [Int32Array.of(1, 2), Int32Array.of(3)],
  };
  const task: Task = { session: "s", step: 1, version: "0".repeat(64), rows: 2, judge: true, part };
  expect(taskFromBytes(taskToBytes(task))).toEqual(task);
  expect(taskFromBytes(taskToBytes({ ...task, judge: false })).part.prompts[0].row).toEqual({});
});

test("every shortened or lengthened result, and every flipped byte of a header, is an error or another result, never a crash", () => {
  const bytes = resultToBytes(result());
  for (let n = 0; n < bytes.length; n++) expect(() => resultFromBytes(bytes.subarray(0, n)), `${n} bytes`).toThrow();
  expect(() => resultFromBytes(Buffer.concat([bytes, Buffer.alloc(1)]))).toThrow("bytes of data");
  for (let i = 0; i < 600; i++) {
    const broken = bytes.slice();
    broken[i] ^= 1 + (i % 255);
    try {
      resultFromBytes(broken);
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
  }
});
