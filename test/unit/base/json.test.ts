/** @file JSON that would take the memory of the machine is refused before it is parsed. */
import { expect, test } from "vitest";
import { parseJson } from "../../../src/base/json.ts";

test("nesting is counted before anything is built, outside strings only", () => {
  const began = performance.now();
  expect(() => parseJson("[".repeat(50_000_000))).toThrow(/more than 200 arrays or objects inside each other/);
  expect(() => parseJson('{"a":'.repeat(1_000_000))).toThrow(/more than 200 arrays or objects inside each other/);
  expect(performance.now() - began).toBeLessThan(5000); // 20 s and 5 GB when the parser had to find out
  const text = `${"[{".repeat(1_000_000)}\\"[`;
  expect(parseJson(JSON.stringify({ text, after: 1 }))).toEqual({ text, after: 1 });
  const backslashes = "\\".repeat(1_000_001);
  expect(parseJson(JSON.stringify([backslashes, "[[["]))).toEqual([backslashes, "[[["]);
});

test("so is the number of values", () => {
  expect(() => parseJson(`[${"{},".repeat(10_000_000)}0]`)).toThrow(/more than 10 million values/);
  expect(() => parseJson(`[${"0,".repeat(10_000_000)}0]`)).toThrow(/more than 10 million values/);
  const many = `[${"1,".repeat(1_999_999)}1]`;
  expect(parseJson(many)).toHaveLength(2_000_000);
});

test("what is broken is told by the parser", () => {
  expect(() => parseJson(`["${"x".repeat(2_000_000)}`)).toThrow(SyntaxError);
  expect(() => parseJson(`${" ".repeat(2_000_000)}]`)).toThrow(SyntaxError);
});
