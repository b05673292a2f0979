/** @file A tokenizer from the files of a Hugging Face checkpoint directory. */
import { fail } from "../base/errors.ts";
import { exists, joinPath, readJson, readText } from "../runtime/files.ts";
import { Tokenizer, type TokenizerConfig, type TokenizerJson } from "./tokenizer.ts";

/** Everything a tokenizer may consist of; what is there is kept, and saved again with a checkpoint. */
const FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "vocab.json",
  "merges.txt",
  "added_tokens.json",
];

/**
 * The tokenizer of a directory: from `tokenizer.json`, or else from `vocab.json` and `merges.txt` (GPT-2's byte-level BPE).
 * The end and padding tokens are those of `tokenizer_config.json` or `special_tokens_map.json`; without either the end
 * token is `<|endoftext|>` if the vocabulary has it.
 * @throws checkpoint - no tokenizer files, or one that is not what its name says
 */
export async function loadTokenizer(dir: string): Promise<Tokenizer> {
  const files = new Map<string, string>();
  for (const name of FILES) {
    const path = joinPath(dir, name);
    if (await exists(path)) files.set(name, await readText(path));
  }
  const config: TokenizerConfig = {
    ...((await readObject(dir, files, "special_tokens_map.json")) as TokenizerConfig | undefined),
    ...((await readObject(dir, files, "tokenizer_config.json")) as TokenizerConfig | undefined),
  };
  const json = (await readObject(dir, files, "tokenizer.json")) as TokenizerJson | undefined;
  if (json !== undefined) return Tokenizer.fromJson(json, config, { where: joinPath(dir, "tokenizer.json"), files });
  if (files.has("vocab.json") && files.has("merges.txt")) {
    return Tokenizer.fromJson(await fromVocabulary(dir, files), config, { where: joinPath(dir, "vocab.json"), files });
  }
  return fail("checkpoint", {
    where: dir,
    found: files.size === 0 ? "no tokenizer files" : `only ${[...files.keys()].join(", ")}`,
    expected: "tokenizer.json, or vocab.json and merges.txt",
    fix: "copy the tokenizer files of the original model into the directory, or write them: `await tokenizer.save(directory)`",
  });
}

/** GPT-2's older pair of files as a `tokenizer.json`. */
async function fromVocabulary(dir: string, files: ReadonlyMap<string, string>): Promise<TokenizerJson> {
  const vocab = (await readObject(dir, files, "vocab.json")) as Record<string, number>;
  const merges: [string, string][] = [];
  files
    .get("merges.txt")!
    .split(/\r?\n/)
    .forEach((line, index) => {
      if (line === "" || line.startsWith("#version")) return;
      const pair = line.split(" ");
      if (pair.length !== 2) {
        fail("checkpoint", {
          where: `${joinPath(dir, "merges.txt")}, line ${index + 1}`,
          found: JSON.stringify(line),
          expected: "two tokens with one space between them",
          fix: "copy the file of the original model",
        });
      }
      merges.push([pair[0], pair[1]]);
    });
  const added = (await readObject(dir, files, "added_tokens.json")) as Record<string, number> | undefined;
  const special: Record<string, number> = "<|endoftext|>" in vocab ? { "<|endoftext|>": vocab["<|endoftext|>"] } : {};
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    added_tokens: Object.entries({ ...special, ...added }).map(([content, id]) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", vocab, merges },
  };
}

/** The JSON object in a file that was found, undefined for one that was not. */
async function readObject(dir: string, files: ReadonlyMap<string, string>, name: string): Promise<object | undefined> {
  if (!files.has(name)) return undefined;
  const path = joinPath(dir, name);
  const value = await readJson(path);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    fail("checkpoint", {
      where: path,
      found: `JSON of another type (${JSON.stringify(value).slice(0, 40)})`,
      expected: "a JSON object",
      fix: "copy the file of the original model",
    });
  }
  return value;
}
