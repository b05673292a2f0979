import { expect, it } from "vitest";
import { fail, type ValueheadError } from "../../../src/base/errors.ts";
import { brief, visible, visibleLines } from "../../../src/base/text.ts";

const hostile = "\u001b[31mred\u0007\r\n\u009b2J\u202e\u007f";

it("control characters are written as JSON would, whatever terminal obeys them", () => {
  expect(visible(hostile)).toBe("\\u001b[31mred\\u0007\\r\\n\\u009b2J\\u202e\\u007f");
  expect(visibleLines("a\tb\nc\u001b[2J\r")).toBe("a\tb\nc\\u001b[2J\\r");
  expect(visible("caf\u00e9 \u65e5\u672c \u{1f468}\u200d\u{1f469} \\n")).toBe(
    "caf\u00e9 \u65e5\u672c \u{1f468}\u200d\u{1f469} \\n",
  );
  expect(JSON.parse(`"${visible(hostile)}"`)).toBe(hostile);
});

it("an error shows what it quotes, in its message and in its parts", () => {
  const thrown = () => fail("checkpoint", { where: `t ${hostile}`, found: hostile, expected: hostile, fix: hostile });
  try {
    thrown();
  } catch (error) {
    const { message, problem } = error as ValueheadError;
    for (const text of [message, ...Object.values(problem)]) expect(text).toBe(visible(text));
  }
  expect(thrown).toThrow("\\u001b[31mred");
});

it("any value on one short line", () => {
  expect([Number.NaN, Number.NEGATIVE_INFINITY, [Number.NaN], 3n, undefined, null].map((x) => brief(x))).toEqual([
    "NaN",
    "-Infinity",
    '["NaN"]',
    '"3"',
    "undefined",
    "null",
  ]);
  expect(brief("x".repeat(100))).toHaveLength(60);
  expect(brief({ a: "\u001b" })).toBe('{"a":"\\u001b"}');
});
