import { describe, expect, it } from "vitest";
import { packagePath } from "../../../src/platform/files.ts";
import { checkStop, StopWatch } from "../../../src/sample/stop.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";

const tokenizer = await loadTokenizer(packagePath("models", "tiny"));

describe("StopWatch", () => {
  it.each([
    ["The acting was fine. The plot was not.", ["."]],
    ["The acting was fine.\n\nThe plot was not.", ["\n\n"]],
    ["Nothing but the best acting", ["best act", "nowhere"]],
    ["a 日本語 movie, 10/10 🎬🎬 great", ["本", "🎬🎬"]],
    ["a 日本語 movie, 10/10 🎬🎬 great", ["🎬🎬 g"]],
    ["no such thing here", ["zebra"]],
    ["aab aabaac", ["aac"]],
  ])("%j stops at %j with the token that completes it", (text, strings) => {
    const ids = Array.from(tokenizer.encode(text));
    const watch = new StopWatch({ strings, tokenizer });
    const stopped = ids.findIndex((id) => watch.push(id));
    // The first prefix of the tokens whose text has one of the strings.
    const want = ids.findIndex((_, n) => {
      const prefix = tokenizer.decode(ids.slice(0, n + 1));
      return strings.some((s) => prefix.includes(s));
    });
    expect(stopped).toBe(want);
  });

  it("never stops without strings", () => {
    const watch = new StopWatch({ strings: [], tokenizer });
    expect(Array.from(tokenizer.encode("some text")).some((id) => watch.push(id))).toBe(false);
  });
});

it("an empty stop string is refused", () => {
  expect(() => checkStop({ strings: ["a", ""], tokenizer })).toThrow(
    "stop string 2: found an empty string, expected some text. Fix: remove it: every response contains it",
  );
});
