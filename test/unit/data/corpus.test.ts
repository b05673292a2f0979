import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Corpus, corpusBytes, heldOut, readCorpus, tokenizeCorpus } from "../../../src/data/corpus.ts";
import { packagePath } from "../../../src/platform/files.ts";
import { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "corpus-"));
});
afterAll(() => rm(dir, { recursive: true }));

async function put(name: string, contents: string | Uint8Array): Promise<string> {
  await writeFile(join(dir, name), contents);
  return join(dir, name);
}

async function read(paths: string[], column?: string): Promise<string[]> {
  const documents: string[] = [];
  for await (const text of readCorpus(paths, { column })) documents.push(text);
  return documents;
}

/** a = 0, b = 1, end = 2. */
function tokenizer(end: string | null = "e"): Tokenizer {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  const model = { type: "BPE", vocab: { a: 0, b: 1, e: 2, Ã: 3, "©": 4 }, merges: [] };
  return Tokenizer.fromJson({ model, pre_tokenizer: byteLevel, decoder: byteLevel }, { eos_token: end });
}

describe("readCorpus", () => {
  it("splits a .txt where blank lines are", async () => {
    const path = await put("a.txt", "\n \none\ntwo  \n\n\t\n  three\r\n\r\nfour");
    expect(await read([path])).toEqual(["one\ntwo  ", "  three", "four"]);
  });

  it("reads the column of a .jsonl, gzipped or not, and JSON strings", async () => {
    const lines = '{"text": "one\\n\\ntwo", "t": "x"}\n\n{"text": "  ", "t": "y"}\n"three"\n';
    const plain = await put("a.jsonl", lines);
    const zipped = await put("a.jsonl.gz", gzipSync(lines));
    expect(await read([plain, zipped])).toEqual(["one\n\ntwo", "three", "one\n\ntwo", "three"]);
    expect(await read([await put("b.jsonl", '{"text": "one", "t": "x"}')], "t")).toEqual(["x"]);
  });

  it("reads a column of .csv and .parquet", async () => {
    const csv = await put("a.csv", 'text,label\n"one, two",1\n,0\nthree,1\n');
    const parquet = packagePath("test", "golden", "parquet", "zstd-dictionary.parquet");
    const rows = JSON.parse(readFileSync(packagePath("test", "golden", "parquet", "rows.json"), "utf8"));
    const texts = rows.map((row: { text: string | null }) => row.text).filter((text: string | null) => text);
    expect(await read([csv, parquet])).toEqual(["one, two", "three", ...texts]);
  });

  it.each([
    ["c.xml", "a,b", "found an unknown kind of file, expected a name ending in .txt, .json, .jsonl, .csv or .tsv"],
    ["c.jsonl", '{"text": "a"}\n{"text": \n', ", line 2: found broken JSON ("],
    ["d.jsonl", '{"body": "a", "n": 1}\n', ", line 1: found the columns body, n, expected a column text"],
    ["e.jsonl", '{"text": 5}\n', ", line 1, column text: found 5, expected text"],
    ["f.jsonl", "[1]\n", ", line 1: found [1], expected one JSON object or string"],
    ["g.jsonl", "null\n", ", line 1: found null, expected one JSON object or string"],
  ])("refuses %s", async (name, contents, message) => {
    await expect(read([await put(name, contents)])).rejects.toThrow(message);
    await expect(read([join(dir, name)])).rejects.toThrow(join(dir, name));
  });

  it("names a file that is missing or cut off", async () => {
    await expect(read([join(dir, "none.txt")])).rejects.toThrow(`${join(dir, "none.txt")}: found nothing at this path`);
    const whole = gzipSync("text ".repeat(1000));
    await expect(read([await put("cut.txt.gz", whole.subarray(0, whole.length - 12))])).rejects.toThrow("cut.txt.gz");
  });
});

describe("tokenizeCorpus", () => {
  it("puts the end token after each document", async () => {
    const corpus = await tokenizeCorpus(["ab", "é", "b"], tokenizer());
    expect(corpus).toEqual({
      ids: Uint16Array.of(0, 1, 2, 3, 4, 2, 1, 2),
      documentEnds: [3, 6, 8],
      documentBytes: [2, 2, 1],
    });
    expect(corpusBytes(corpus)).toBe(5);
  });

  it("grows, and reports progress", async () => {
    const seen: { documents: number; tokens: number; bytes: number }[] = [];
    const documents = Array.from({ length: 600 }, () => "ab".repeat(100));
    const { ids } = await tokenizeCorpus(documents, tokenizer(), (progress) => seen.push(progress));
    expect(ids.length).toBe(600 * 201);
    expect(ids.filter((id) => id === 2).length).toBe(600);
    expect(ids.lastIndexOf(2)).toBe(ids.length - 1);
    expect(seen.map((progress) => progress.documents)).toEqual([256, 512, 600]);
    expect(seen[2]).toEqual({ documents: 600, tokens: 120600, bytes: 120000 });
  });

  it("refuses a corpus without text and a tokenizer without an end token", async () => {
    await expect(tokenizeCorpus([], tokenizer())).rejects.toThrow(
      "corpus: found no text, expected at least one document",
    );
    await expect(tokenizeCorpus(["a"], tokenizer(null))).rejects.toThrow(
      "tokenizer: found no end-of-text token, expected one to put between documents",
    );
  });
});

describe("heldOut", () => {
  /** Document i is i % 3 + 1 times the number i, then 999. */
  function numbered(count: number): Corpus {
    const ids: number[] = [];
    const documentEnds: number[] = [];
    for (let i = 0; i < count; i++) {
      ids.push(...new Array(1 + (i % 3)).fill(i), 999);
      documentEnds.push(ids.length);
    }
    return { ids: Uint16Array.from(ids), documentEnds, documentBytes: documentEnds.map((_, i) => i) };
  }
  const documents = ({ ids, documentEnds }: Corpus) =>
    documentEnds.map((end, i) => Array.from(ids.subarray(documentEnds[i - 1] ?? 0, end)).join(" "));

  it("divides the documents, whole and in order", () => {
    const corpus = numbered(100);
    const { train, heldOut: aside } = heldOut(corpus, 0.1, 7);
    expect(aside.ids.length).toBeGreaterThanOrEqual(0.1 * corpus.ids.length);
    expect(aside.ids.length).toBeLessThan(0.1 * corpus.ids.length + 4);
    expect(train.ids.length + aside.ids.length).toBe(corpus.ids.length);
    expect([...documents(train), ...documents(aside)].sort()).toEqual(documents(corpus).sort());
    for (const part of [train, aside]) {
      expect(part.documentBytes).toEqual([...part.documentBytes].sort((a, b) => a - b));
      expect(documents(part).map((text) => Number(text.split(" ")[0]))).toEqual(part.documentBytes);
    }
  });

  it("depends on the seed alone", () => {
    const corpus = numbered(100);
    expect(heldOut(corpus, 0.1, 7)).toEqual(heldOut(corpus, 0.1, 7));
    expect(heldOut(corpus, 0.1, 8)).not.toEqual(heldOut(corpus, 0.1, 7));
  });

  it("refuses a fraction or a corpus that leaves a part empty", () => {
    for (const fraction of [0, 1, -0.5, Number.NaN]) {
      expect(() => heldOut(numbered(10), fraction, 1)).toThrow(
        `held-out fraction: found ${fraction}, expected a number above 0`,
      );
    }
    expect(() => heldOut(numbered(1), 0.1, 1)).toThrow("corpus: found 1 document, all of which would be held out");
  });
});
