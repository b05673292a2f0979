/** @file Every part of a tokenizer.json against Python's `tokenizers` (tools/reference/tokenizer_parts.py), ids and text. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Tokenizer, type TokenizerJSON } from "../../src/tokenizer/tokenizer.ts";
import { goldenPath } from "../support/golden.ts";

interface Entry {
  name: string;
  json: TokenizerJSON;
  cases: [text: string, ids: number[], decoded: string, skipped: string][];
  decodes: [ids: number[], decoded: string, skipped: string][];
}

const golden: { shared: unknown[]; tokenizers_and_cases: Entry[] } = JSON.parse(
  readFileSync(goldenPath("tokenizer-parts.json"), "utf8"),
);

/** Long models and normalizers are written once and named by number. */
function complete(json: TokenizerJSON): TokenizerJSON {
  const part = (value: unknown) => {
    const shared = (value as { shared?: number } | null)?.shared;
    return shared === undefined ? value : golden.shared[shared];
  };
  return { ...json, model: part(json.model), normalizer: part(json.normalizer) } as TokenizerJSON;
}

describe.each(golden.tokenizers_and_cases)("$name", ({ json, cases, decodes }) => {
  const tokenizer = Tokenizer.fromJson(complete(json));

  it("encodes and decodes as the reference does", () => {
    for (const [text, ids, decoded, skipped] of cases) {
      expect(Array.from(tokenizer.encode(text)), JSON.stringify(text)).toEqual(ids);
      expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true }), JSON.stringify(text)).toBe(skipped);
    }
    for (const [ids, decoded, skipped] of decodes) {
      expect(tokenizer.decode(ids), String(ids)).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true }), String(ids)).toBe(skipped);
    }
  });
});
