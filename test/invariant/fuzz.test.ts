/** @file Damaged files: a short form of `npm run fuzz`, and what the long form found. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { ppoConfig } from "../../src/algorithms/options/config.ts";
import { ValueheadError } from "../../src/base/errors.ts";
import { openSafetensors } from "../../src/checkpoint/safetensors.ts";
import { readPrompts } from "../../src/data/prompts.ts";
import { parseConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { packagePath, readJson } from "../../src/platform/files.ts";
import { readRunConfig } from "../../src/run/spec.ts";
import { Tokenizer, type TokenizerJSON } from "../../src/tokenizer/tokenizer.ts";
import { fuzz } from "../../tools/fuzz.ts";
import { memorySource } from "../../tools/memory-source.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-damaged-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string, contents: string | Uint8Array) => {
  writeFileSync(join(directory, name), contents);
  return join(directory, name);
};

test("3,000 damaged files: typed errors only, in time, without much memory", async () => {
  const { targets, failures } = await fuzz(3000, 2);
  expect(failures).toEqual([]);
  // Damage that is never noticed, or always, would test nothing.
  for (const [name, { accepted, refused }] of Object.entries(targets)) {
    expect(accepted, name).toBeGreaterThan(5);
    expect(refused, name).toBeGreaterThan(50);
  }
});

describe("found by it", () => {
  const deep = "[".repeat(20_000) + "]".repeat(20_000);
  const TOO_DEEP = /more than 200 arrays or objects inside each other/;

  test("JSON nested too deeply to be shown in an error", async () => {
    await expect(readJson(file("deep.json", `{"n_head": ${deep}}`))).rejects.toThrow(TOO_DEEP);
    await expect(readPrompts(file("deep.jsonl", `{"prompt": ${deep}}\n`))).rejects.toThrow(TOO_DEEP);
    const header = new TextEncoder().encode(`{"a": ${deep}}`);
    const bytes = new Uint8Array(8 + header.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
    bytes.set(header, 8);
    await expect(openSafetensors(memorySource("deep.safetensors", bytes))).rejects.toThrow(TOO_DEEP);
    expect(await readJson(file("wide.json", `[${"[0],".repeat(10_000)}0]`))).toHaveLength(10_001);
  });

  test.each([
    ["no list", 5],
    ["a list of nothing", [null]],
    ["no content", [{ id: 1 }]],
  ])("added_tokens: %s", (_, added) => {
    const json = {
      model: { type: "BPE", vocab: { a: 0 }, merges: [] },
      added_tokens: added,
    } as unknown as TokenizerJSON;
    expect(() => Tokenizer.fromJson(json)).toThrow(
      "tokenizer: found added_tokens that are no tokens, expected a list of objects with id and content",
    );
  });

  test.each(["null", "[1]", "3"])("a run's config.json whose options are %s", async (options) => {
    file("config.json", `{"model": "tiny", "reward": "length", "options": ${options}}`);
    await expect(readRunConfig(directory)).rejects.toThrow(
      "found another kind of file, expected the config.json of a run, with model, reward (of PPO) and options",
    );
  });

  test("a vocabulary that lists no pieces", () => {
    const json = { model: { type: "Unigram", vocab: [null] } } as unknown as TokenizerJSON;
    expect(() => Tokenizer.fromJson(json)).toThrow("tokenizer: found a model.vocab that lists no pieces");
  });
});

describe("sizes that files claim", () => {
  test("a config for a model of terabytes is refused by its weights, before memory is taken for it", async () => {
    const tiny = (await readJson(packagePath("models", "tiny", "config.json"))) as Record<string, unknown>;
    const config = { ...tiny, n_embd: 98_304, n_positions: 1_000_000, n_layer: 900, n_inner: null };
    expect(parseConfig(config, "config").nEmbd).toBe(98_304); // nothing is wrong with it but its size
    const model = join(directory, "model");
    await (await GPT2HeadWithValueModel.fromPretrained(packagePath("models", "tiny"), { threads: 1 })).savePretrained(
      model,
    );
    writeFileSync(join(model, "config.json"), JSON.stringify(config));
    await expect(GPT2HeadWithValueModel.fromPretrained(model, { threads: 1 })).rejects.toThrow(
      /tensor transformer\.wte\.weight: found shape \[\d+, \d+\], expected shape \[\d+, 98304\]/,
    );
  });

  test("a header length of 2^60", async () => {
    const bytes = new Uint8Array(64);
    new DataView(bytes.buffer).setBigUint64(0, 2n ** 60n, true);
    await expect(openSafetensors(memorySource("f", bytes))).rejects.toThrow(
      /found a header length of 1152921504606847000 bytes/,
    );
  });

  test("a line of 100 million characters in 100 kB of gzip", async () => {
    const path = file("bomb.jsonl.gz", gzipSync(Buffer.alloc(100_000_000, "a")));
    const error = await readPrompts(path).catch((e) => e);
    expect(error).toBeInstanceOf(ValueheadError);
    expect(error.message).toBe(
      `${path}, line 1: found more than 67108864 characters, expected lines of text. Fix: put line breaks between texts`,
    );
  });

  test("an unknown option of a million characters", () => {
    const started = performance.now();
    expect(() => ppoConfig({ [`batchSiz${"x".repeat(1_000_000)}`]: 1 })).toThrow(/found an unknown option/);
    expect(performance.now() - started).toBeLessThan(1000);
  });
});
