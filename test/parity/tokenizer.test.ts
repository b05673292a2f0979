/** The embedded tokenizer against Python's `tokenizers` (tools/reference/tokenizer.py), ids and text. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/tokenizer/load.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

interface Golden {
  cases: { text: string; ids: number[]; decoded: string; decoded_skip: string; each: string[] }[];
  decodes: { ids: number[]; decoded: string; decoded_skip: string }[];
}

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const golden: Golden = JSON.parse(await readFile(path("test/golden/tokenizer.json"), "utf8"));

let fromJson: Tokenizer;
let fromVocabulary: Tokenizer;
let directory: string;

beforeAll(async () => {
  fromJson = await loadTokenizer(path("models/tiny"));
  // The same tokenizer as GPT-2's older pair of files.
  directory = await mkdtemp(join(tmpdir(), "tokenizer-"));
  const { model } = JSON.parse(await readFile(path("models/tiny/tokenizer.json"), "utf8"));
  await writeFile(join(directory, "vocab.json"), JSON.stringify(model.vocab));
  const merges = model.merges.map((pair: string[]) => pair.join(" "));
  await writeFile(join(directory, "merges.txt"), `#version: 0.2\n${merges.join("\n")}\n`);
  fromVocabulary = await loadTokenizer(directory);
});
afterAll(() => rm(directory, { recursive: true }));

describe.each([
  ["tokenizer.json", () => fromJson],
  ["vocab.json and merges.txt", () => fromVocabulary],
])("%s", (_, tokenizer) => {
  it("has 8192 tokens, the last of which ends a text", () => {
    expect(tokenizer().vocabSize).toBe(8192);
    expect(tokenizer().eosTokenId).toBe(8191);
    expect(tokenizer().padTokenId).toBe(null);
  });

  it("encodes as Python does", () => {
    for (const { text, ids } of golden.cases) {
      expect(Array.from(tokenizer().encode(text)), JSON.stringify(text)).toEqual(ids);
      // A second time, now from the cache of words.
      expect(Array.from(tokenizer().encode(text)), JSON.stringify(text)).toEqual(ids);
    }
  });

  it("decodes as Python does, whole and token by token", () => {
    for (const { text, ids, decoded, decoded_skip, each } of golden.cases) {
      expect(tokenizer().decode(ids)).toBe(decoded);
      expect(tokenizer().decode(ids)).toBe(text);
      expect(tokenizer().decode(ids, { skipSpecialTokens: true })).toBe(decoded_skip);
      expect(tokenizer().decodeEach(ids)).toEqual(each);
    }
  });

  it("decodes ids that are no text as Python does", () => {
    for (const { ids, decoded, decoded_skip } of golden.decodes) {
      expect(tokenizer().decode(Int32Array.from(ids)), String(ids)).toBe(decoded);
      expect(tokenizer().decode(ids, { skipSpecialTokens: true }), String(ids)).toBe(decoded_skip);
    }
  });

  it.each([false, true])("streams the same text, skipSpecialTokens %s", (skipSpecialTokens) => {
    for (const { ids, decoded, decoded_skip } of [...golden.cases, ...golden.decodes]) {
      const stream = tokenizer().createStream({ skipSpecialTokens });
      const pieces = ids.map((id) => stream.push(id));
      expect([...pieces, stream.end()].join(""), String(ids)).toBe(skipSpecialTokens ? decoded_skip : decoded);
    }
  });
});
