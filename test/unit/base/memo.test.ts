/** @file Remembered results: one call for equal arguments, never more results than allowed. */
import { expect, test } from "vitest";
import { Memo } from "../../../src/base/memo.ts";

test("equal arguments share a result, whatever object they are in; others do not", () => {
  let calls = 0;
  const memo = new Memo(({ n, wanted }: { n: number; wanted: readonly string[] }) => {
    calls++;
    return [n, ...wanted].join();
  });
  expect(memo.get({ n: 1, wanted: ["a"] })).toBe("1,a");
  expect(memo.get({ n: 1, wanted: ["a"] })).toBe("1,a");
  expect(calls).toBe(1);
  expect(memo.get({ n: 1, wanted: ["a", "b"] })).toBe("1,a,b");
  expect(memo.get({ n: 2, wanted: ["a"] })).toBe("2,a");
  expect(calls).toBe(3);
});

test("the result not used for longest is dropped", () => {
  const built: number[] = [];
  const memo = new Memo((n: number) => {
    built.push(n);
    return { n };
  }, 2);
  for (const n of [1, 2, 1, 3]) memo.get(n);
  expect(memo.size).toBe(2);
  built.length = 0;
  for (const n of [1, 3, 2]) memo.get(n);
  expect(built).toEqual([2]);
});
