import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";

const tiny = fileURLToPath(new URL("../../../models/tiny", import.meta.url));
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "tokenizer-"));
});
afterEach(() => rm(dir, { recursive: true }));
const put = (name: string, contents: unknown) =>
  writeFile(join(dir, name), typeof contents === "string" ? contents : JSON.stringify(contents));

describe("loadTokenizer", () => {
  it("says what it looked for", async () => {
    await expect(loadTokenizer(dir)).rejects.toThrow(
      `${dir}: found no tokenizer files, expected tokenizer.json, or vocab.json and merges.txt. Fix: copy the tokenizer files`,
    );
    await put("vocab.json", { a: 0 });
    await expect(loadTokenizer(dir)).rejects.toThrow(`${dir}: found only vocab.json, expected tokenizer.json, or`);
  });

  it("keeps what stands beside a tokenizer: it is saved with it, byte for byte", async () => {
    await put("tokenizer.json", await readFile(join(tiny, "tokenizer.json"), "utf8"));
    await put("chat_template.jinja", "{{ messages }}\r\n");
    await put("LICENSE", "Apache-2.0");
    await put("README.md", "# another model's card");
    await writeFile(join(dir, "spiece.model"), Uint8Array.of(0, 255, 10, 128));
    await mkdir(join(dir, "additional_chat_templates"));
    await put("additional_chat_templates/tools.jinja", "{{ tools }}");
    const out = join(dir, "out");
    await mkdir(out);
    await (await loadTokenizer(dir)).save(out);
    const names = ["LICENSE", "additional_chat_templates", "chat_template.jinja", "spiece.model", "tokenizer.json"];
    expect((await readdir(out)).sort()).toEqual(names);
    for (const name of ["LICENSE", "additional_chat_templates/tools.jinja", "chat_template.jinja", "spiece.model"])
      expect(await readFile(join(out, name))).toEqual(await readFile(join(dir, name)));
  });

  it("names a file that is not JSON, or not an object", async () => {
    await put("tokenizer.json", '{"model": {');
    await expect(loadTokenizer(dir)).rejects.toThrow(join(dir, "tokenizer.json"));
    await put("tokenizer.json", "[1, 2]");
    await expect(loadTokenizer(dir)).rejects.toThrow(
      `${join(dir, "tokenizer.json")}: found JSON of another type ([1,2]), expected a JSON object`,
    );
  });

  it("names the line of a broken merges.txt", async () => {
    await put("vocab.json", { a: 0, b: 1, ab: 2 });
    await put("merges.txt", "#version: 0.2\na b\nab\n");
    await expect(loadTokenizer(dir)).rejects.toThrow(
      `${join(dir, "merges.txt")}, line 3: found "ab", expected two tokens with one space between them`,
    );
  });

  it("reads vocab.json with merges.txt, added_tokens.json and special_tokens_map.json", async () => {
    await put("vocab.json", { a: 0, b: 1, ab: 2, "<|endoftext|>": 3 });
    await put("merges.txt", "#version: 0.2\r\na b\r\n");
    await put("added_tokens.json", { "[PAD]": 4 });
    await put("special_tokens_map.json", { pad_token: { content: "[PAD]", lstrip: false } });
    const tokenizer = await loadTokenizer(dir);
    expect(tokenizer).toMatchObject({ vocabSize: 5, eosTokenId: 3, padTokenId: 4 });
    expect(Array.from(tokenizer.encode("aab[PAD]b<|endoftext|>"))).toEqual([0, 2, 4, 1, 3]);
    expect(Array.from(tokenizer.encode("aab[PAD]b"))).toEqual([0, 2, 4, 1]);
    expect(tokenizer.decode([2, 4, 3], { skipSpecialTokens: true })).toBe("ab");
  });

  it("puts a start token before a text where add_bos_token says so and no tokenizer.json says otherwise", async () => {
    // transformers 5.24 and 4.45.2: [1, 0] from the older files, [0] from a tokenizer.json.
    await put("vocab.json", { a: 0, "<|endoftext|>": 1 });
    await put("merges.txt", "#version: 0.2\n");
    await put("tokenizer_config.json", { tokenizer_class: "GPT2Tokenizer", add_bos_token: true });
    expect(Array.from((await loadTokenizer(dir)).encode("a"))).toEqual([1, 0]);
    const byteLevel = { type: "ByteLevel", add_prefix_space: false };
    const model = { vocab: { a: 0, "<|endoftext|>": 1 }, merges: [] };
    await put("tokenizer.json", { model, pre_tokenizer: byteLevel, decoder: byteLevel });
    expect(Array.from((await loadTokenizer(dir)).encode("a"))).toEqual([0]);
  });

  it("lets special_tokens_map.json overrule tokenizer_config.json, unless that has added_tokens_decoder", async () => {
    // transformers 5.24: from_pretrained(dir).eos_token_id is 0, then 1 (and so in 4.45).
    await put("vocab.json", { a: 0, b: 1 });
    await put("merges.txt", "");
    await put("special_tokens_map.json", { eos_token: "a" });
    await put("tokenizer_config.json", { eos_token: "b" });
    expect((await loadTokenizer(dir)).eosTokenId).toBe(0);
    await put("tokenizer_config.json", {
      eos_token: "b",
      added_tokens_decoder: { 1: { content: "b", special: true } },
    });
    expect((await loadTokenizer(dir)).eosTokenId).toBe(1);
  });
});

describe("save", () => {
  it("writes the files it read, byte for byte, and nothing else", async () => {
    const out = join(dir, "out");
    await mkdir(out);
    const tokenizer = await loadTokenizer(tiny);
    await tokenizer.save(out);
    expect((await readdir(out)).sort()).toEqual(["tokenizer.json", "tokenizer_config.json"]);
    for (const name of await readdir(out)) {
      expect(await readFile(join(out, name)), name).toEqual(await readFile(join(tiny, name)));
    }
    expect(Array.from((await loadTokenizer(out)).encode("a film"))).toEqual(Array.from(tokenizer.encode("a film")));
  });

  it("keeps the older pair of files", async () => {
    await put("vocab.json", { a: 0, b: 1, ab: 2 });
    await put("merges.txt", "#version: 0.2\na b\n");
    const out = join(dir, "out");
    await mkdir(out);
    await (await loadTokenizer(dir)).save(out);
    expect((await readdir(out)).sort()).toEqual(["merges.txt", "vocab.json"]);
    expect(Array.from((await loadTokenizer(out)).encode("ab"))).toEqual([2]);
  });
});
