import { describe, expect, it } from "vitest";
import { encodePrompts, type PromptOptions } from "../../../src/data/encode.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { packagePath } from "../../../src/platform/files.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";
import { pValue } from "../../support/chi-squared.ts";

const tokenizer = await loadTokenizer(packagePath("models", "tiny"));
const config = makeConfig({ nPositions: 16 });
const encode = (prompts: Parameters<typeof encodePrompts>[0], options: Partial<PromptOptions> = {}) =>
  encodePrompts(prompts, tokenizer, config, { maxNewTokens: 6, ...options });
const long = "The film was long. ".repeat(5);

it("encodes texts and rows; an empty text is the end-of-text token", () => {
  const row = { prompt: "The film", label: 1 };
  const { prompts, ids, notes } = encode(["A good", { prompt: "The film", row }, ""]);
  expect(prompts).toEqual([
    { prompt: "A good", row: {} },
    { prompt: "The film", row },
    { prompt: "", row: {} },
  ]);
  expect(ids).toEqual([tokenizer.encode("A good"), tokenizer.encode("The film"), Int32Array.of(tokenizer.eosTokenId!)]);
  expect(notes).toEqual([]);
});

describe("prompts too long for the context", () => {
  const texts = ["short", long, "also short", long];

  it("are an error that counts them", () => {
    const { length } = tokenizer.encode(long);
    expect(() => encode(texts)).toThrow(
      `prompt 2 ("The film was long. The film was long. Th"...): found ${length} tokens, and 1 more prompts that are too long, ` +
        "expected at most 10: the context of 16 less 6 for the response. " +
        "Fix: shorten the prompt, lower maxNewTokens, or set longPrompts to truncate or drop",
    );
    expect(() => encode([long])).toThrow(`found ${length} tokens, expected at most 10`);
    expect(() => encode(["a"], { maxNewTokens: 16 })).toThrow(
      "maxNewTokens: found 16, expected less than the model's context of 16 tokens",
    );
  });

  it("are left out, with a count", () => {
    const { prompts, ids, notes } = encode(texts, { longPrompts: "drop" });
    expect(prompts.map((p) => p.prompt)).toEqual(["short", "also short"]);
    expect(ids).toHaveLength(2);
    expect(notes).toEqual(["2 of 4 prompts left out: longer than 10: the context of 16 less 6 for the response"]);
    expect(() => encode([long], { longPrompts: "drop" })).toThrow("prompt 1");
  });

  it("are cut to their first tokens, text and all, with a count", () => {
    const { prompts, ids, notes } = encode(texts, { longPrompts: "truncate" });
    expect(ids.map((x) => x.length)).toEqual([
      tokenizer.encode("short").length,
      10,
      tokenizer.encode("also short").length,
      10,
    ]);
    expect(ids[1]).toEqual(tokenizer.encode(long).slice(0, 10));
    expect(prompts[1].prompt).toBe(tokenizer.decode(ids[1]));
    expect(notes).toEqual([
      "2 of 4 prompts cut to their first tokens: longer than 10: the context of 16 less 6 for the response",
    ]);
  });

  it("are none where they just fit, and where cutting made them fit", () => {
    const exact = tokenizer.decode(tokenizer.encode(long).slice(0, 10));
    expect(encode([exact]).ids[0]).toHaveLength(10);
    expect(encode([long], { promptMinTokens: 10, promptMaxTokens: 10 }).ids[0]).toHaveLength(10);
    expect(() => encode([long], { promptMinTokens: 11, promptMaxTokens: 11 })).toThrow("prompt 1");
  });
});

describe("prompt length sampling", () => {
  const cut = { promptMinTokens: 2, promptMaxTokens: 7 };
  const whole = tokenizer.encode(long);

  it("draws every length from min to max equally often, and keeps the first tokens", () => {
    const { prompts, ids } = encode(new Array(3000).fill(long), cut);
    const counts = [2, 3, 4, 5, 6, 7].map((n) => ids.filter((x) => x.length === n).length);
    expect(counts.reduce((a, b) => a + b)).toBe(3000);
    expect(pValue(counts, new Array(6).fill(1 / 6))).toBeGreaterThan(1e-3);
    ids.forEach((x, i) => {
      expect(x).toEqual(whole.slice(0, x.length));
      expect(prompts[i].prompt).toBe(tokenizer.decode(x));
    });
  });

  it("depends on seed and place alone, leaves shorter prompts whole and rows as they are", () => {
    const lengths = (n: number, seed: number) =>
      encode(new Array(n).fill(long), { ...cut, seed }).ids.map((x) => x.length);
    expect(lengths(20, 5)).toEqual(lengths(20, 5));
    expect(lengths(40, 5).slice(0, 20)).toEqual(lengths(20, 5));
    expect(lengths(20, 6)).not.toEqual(lengths(20, 5));
    const row = { text: long };
    const { prompts, ids } = encode(
      [
        { prompt: "The", row: { id: 3 } },
        { prompt: long, row },
      ],
      cut,
    );
    expect(prompts[0]).toEqual({ prompt: "The", row: { id: 3 } });
    expect(ids[0]).toEqual(tokenizer.encode("The"));
    expect(prompts[1].row).toBe(row);
  });

  it("needs no minimum", () => {
    const lengths = encode(new Array(200).fill(long), { promptMaxTokens: 3 }).ids.map((x) => x.length);
    expect(new Set(lengths)).toEqual(new Set([1, 2, 3]));
  });
});

it("an empty prompt needs an end-of-text token", () => {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  const model = { type: "BPE", vocab: { a: 0 }, merges: [] };
  const without = Tokenizer.fromJson({ model, pre_tokenizer: byteLevel, decoder: byteLevel }, {});
  expect(() => encodePrompts(["a", ""], without, config, { maxNewTokens: 6 })).toThrow(
    "prompt 2: found no tokens, expected at least one, and this tokenizer has no end-of-text token to start from",
  );
});
