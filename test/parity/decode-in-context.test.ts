/** @file Responses decoded after their prompts, against transformers (tools/reference/decode_in_context.py). */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { readSample } from "../../src/experience/sample.ts";
import { StopWatch } from "../../src/sample/stop.ts";
import { Tokenizer, type TokenizerJSON } from "../../src/tokenizer/tokenizer.ts";

interface Case {
  prompt: number[];
  response: number[];
  before: string;
  text: string;
  before_skip: string;
  text_skip: string;
}
const path = new URL("../golden/decode-in-context.json", import.meta.url);
const golden: { name: string; json: TokenizerJSON; cases: Case[] }[] = JSON.parse(readFileSync(path, "utf8"));

/** What a text has after another, where the other is its beginning but for an unfinished character. */
function rest(before: string, text: string): string | undefined {
  if (text.startsWith(before)) return text.slice(before.length);
  const whole = before.replace(/\uFFFD+$/, "");
  return text.startsWith(whole) ? text.slice(whole.length) : undefined;
}

describe.each(golden)("$name", ({ json, cases }) => {
  const tokenizer = Tokenizer.fromJson(json, { eos_token: "<|endoftext|>" });

  test("a sample has the text that transformers decodes, and of the response what is not in the prompt", () => {
    const reader = { tokenizer, truncation: { truncateToken: null, truncateAfter: 0 } };
    let compared = 0;
    for (const { prompt, response, ...want } of cases) {
      const sample = readSample(reader, { prompt: "", row: {} }, Int32Array.from(prompt), Int32Array.from(response));
      expect(sample.text).toBe(want.text_skip);
      expect(sample.textWithSpecialTokens).toBe(want.text);
      expect([sample.promptTokens, sample.tokens]).toEqual([prompt, response]);
      const added = rest(want.before_skip, want.text_skip);
      if (added === undefined) continue;
      // An unfinished character at the end of the prompt may end in two ways: it stays, or the response finishes it.
      if (!want.before_skip.endsWith("\uFFFD")) expect(sample.response).toBe(added);
      compared++;
    }
    expect(compared).toBe(cases.length);
  });

  test("a stream after the prompt gives what the response adds", () => {
    for (const { prompt, response } of cases) {
      const stream = tokenizer.createStream({ before: prompt });
      const pieces = response.map((id) => stream.push(id));
      expect(pieces.join("") + stream.end()).toBe(tokenizer.decodeAfter(prompt, response));
    }
  });
});

test("the space between prompt and response is in the response, and a stop string may begin with it", () => {
  for (const { name, json } of golden.slice(0, 3)) {
    const tokenizer = Tokenizer.fromJson(json);
    const all = tokenizer.encode("The movie was great");
    const text = tokenizer.decode(all);
    const cut = Array.from(all, (_, n) => n).filter((n) => tokenizer.decode(all.slice(0, n)) === "The movie");
    expect(cut.length, name).toBeGreaterThan(0);
    const [prompt, response] = [all.slice(0, cut[0]), all.slice(cut[0])];
    expect(tokenizer.decode(prompt) + tokenizer.decode(response), name).not.toBe(text);
    expect(tokenizer.decodeAfter(prompt, response)).toBe(" was great");
    const watch = new StopWatch({ strings: [" was"], tokenizer }, prompt);
    expect(Array.from(response, (id) => watch.push(id))).toContain(true);
  }
});

test("a character that begins in the prompt is in the response, whole", () => {
  const { json } = golden[3];
  const tokenizer = Tokenizer.fromJson(json);
  const ids = tokenizer.encode("x\u{1F601}y");
  const cut = ids.length - 2;
  expect(tokenizer.decode(ids.slice(0, cut))).toBe("x\uFFFD");
  expect(tokenizer.decodeAfter(ids.slice(0, cut), ids.slice(cut))).toBe("\u{1F601}y");
});
