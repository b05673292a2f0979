/** @file A tokenizer from the files of a Hugging Face checkpoint directory. */
import { fail } from "../base/errors.ts";
import { jsonOf } from "../base/json.ts";
import { shellQuote } from "../base/shell.ts";
import { exists, isDirectory, joinPath, listDirectory, readBytes, readJson, readText } from "../platform/files.ts";
import { Tokenizer, type TokenizerConfig, type TokenizerJSON } from "./tokenizer.ts";

/** What a tokenizer is read from. */
const FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "vocab.json",
  "merges.txt",
  "vocab.txt",
  "added_tokens.json",
];

/** SentencePiece's files, which are not read here. */
const BINARY = ["spiece.model", "tokenizer.model", "sentencepiece.bpe.model"];

/** What stands beside a tokenizer, is not read here, and must not be lost: it is saved again with a checkpoint, unchanged. */
const COMPANIONS = [
  ...BINARY,
  "chat_template.jinja",
  "chat_template.json",
  "LICENSE",
  "LICENSE.txt",
  "LICENSE.md",
  "NOTICE",
];
const MORE_TEMPLATES = "additional_chat_templates";

/** The files of a repository that {@link loadTokenizer} wants, of those it has. */
export function tokenizerFiles(available: readonly string[]): string[] {
  return available.filter(
    (name) =>
      FILES.includes(name) || COMPANIONS.includes(name) || /^additional_chat_templates\/[\w.-]+\.jinja$/.test(name),
  );
}

async function readCompanions(dir: string, there: readonly string[]): Promise<Map<string, Uint8Array>> {
  const templates = joinPath(dir, MORE_TEMPLATES);
  const more = (await isDirectory(templates)) ? await listDirectory(templates) : [];
  const beside = COMPANIONS.filter((name) => there.includes(name));
  const companions = new Map<string, Uint8Array>();
  for (const name of tokenizerFiles([...beside, ...more.map((template) => `${MORE_TEMPLATES}/${template}`)])) {
    const path = joinPath(dir, name);
    if ((await exists(path)) && !(await isDirectory(path))) companions.set(name, await readBytes(path));
  }
  return companions;
}

/** The class of a model type without a tokenizer class of its own. */
const MODEL_CLASSES: Record<string, string> = { gpt2: "GPT2Tokenizer" };

/**
 * The tokenizer of a directory: from `tokenizer.json`, or else from `vocab.json` and `merges.txt` (GPT-2's byte-level BPE) or
 * `vocab.txt` (BERT's WordPiece). Special and added tokens come from all files that name some, as in transformers:
 * `tokenizer_config.json` with its `added_tokens_decoder`; without one, `special_tokens_map.json` overrules it and
 * `added_tokens.json` is read. A token that is configured but not in the vocabulary is added, see `notes`.
 * @throws checkpoint - no tokenizer files, or one that is not what its name says
 */
export async function loadTokenizer(dir: string): Promise<Tokenizer> {
  const there = (await isDirectory(dir)) ? await listDirectory(dir) : [];
  const found = FILES.filter((name) => there.includes(name)).map(async (name): Promise<[string, string][]> => {
    const path = joinPath(dir, name);
    return (await exists(path)) ? [[name, await readText(path)]] : []; // a link may lead nowhere
  });
  const files = new Map((await Promise.all(found)).flat());
  const companions = await readCompanions(dir, there);
  const object = (name: string) => readObject(dir, files, name);
  const config = (object("tokenizer_config.json") ?? {}) as TokenizerConfig;
  const specialTokensMap = object("special_tokens_map.json") as TokenizerConfig | undefined;
  const addedTokens = object("added_tokens.json") as Record<string, number> | undefined;
  const modelClass = config.tokenizer_class ? undefined : await classOfModel(dir);
  const json = object("tokenizer.json") as TokenizerJSON | undefined;
  if (json !== undefined) {
    const sources = { specialTokensMap, addedTokens, modelClass };
    return Tokenizer.fromJson(json, config, { where: joinPath(dir, "tokenizer.json"), files, companions, sources });
  }
  const older = (where: string, parts: TokenizerJSON, fallback: string) => {
    const named = config.tokenizer_class ?? modelClass;
    const known = named !== undefined && named.replace(/Fast$/, "") === fallback;
    const sources = { specialTokensMap, addedTokens, modelClass: fallback, isFast: false };
    const origin = { where: joinPath(dir, where), files, companions, sources };
    return Tokenizer.fromJson(parts, known ? config : { ...config, tokenizer_class: fallback }, origin);
  };
  if (files.has("vocab.json") && files.has("merges.txt")) {
    return older("vocab.json", bytePairs(dir, files), "GPT2Tokenizer");
  }
  if (files.has("vocab.txt")) return older("vocab.txt", wordPieces(files.get("vocab.txt") as string), "BertTokenizer");
  const binary: string[] = [];
  for (const name of BINARY) if (await exists(joinPath(dir, name))) binary.push(name);
  if (binary.length > 0) {
    return fail("checkpoint", {
      where: dir,
      found: `only ${[...binary, ...files.keys()].join(", ")}`,
      expected: "tokenizer.json, which transformers makes of a SentencePiece model",
      fix: `python -c "import sys; from transformers import AutoTokenizer as T; d = sys.argv[1]; T.from_pretrained(d).save_pretrained(d)" ${shellQuote(dir)}`,
    });
  }
  return fail("checkpoint", {
    where: dir,
    found: files.size === 0 ? "no tokenizer files" : `only ${[...files.keys()].join(", ")}`,
    expected: "tokenizer.json, or vocab.json and merges.txt",
    fix: "copy the tokenizer files of the original model into the directory, or write them: `await tokenizer.save(directory)`",
  });
}

/** The tokenizer class that the directory's config.json asks for. */
async function classOfModel(dir: string): Promise<string | undefined> {
  const path = joinPath(dir, "config.json");
  if (!(await exists(path))) return undefined;
  const config = (await readJson(path)) as { tokenizer_class?: string | null; model_type?: string } | null;
  return config?.tokenizer_class ?? MODEL_CLASSES[config?.model_type ?? ""];
}

/** BERT's vocabulary: a token per line, its id the number of the line. */
function wordPieces(text: string): TokenizerJSON {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return {
    decoder: { type: "WordPiece" },
    model: { type: "WordPiece", vocab: Object.fromEntries(lines.map((token, id) => [token, id])) },
  };
}

/** GPT-2's older pair of files as parts of a `tokenizer.json`. */
function bytePairs(dir: string, files: ReadonlyMap<string, string>): TokenizerJSON {
  const vocab = readObject(dir, files, "vocab.json") as Record<string, number>;
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
  return { decoder: { type: "ByteLevel" }, model: { type: "BPE", vocab, merges } };
}

/** The JSON object in a file that was found, undefined for one that was not. */
function readObject(dir: string, files: ReadonlyMap<string, string>, name: string): object | undefined {
  const text = files.get(name);
  if (text === undefined) return undefined;
  const path = joinPath(dir, name);
  const value = jsonOf(text, path, "checkpoint");
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

/**
 * Fails unless every id of the tokenizer has an embedding in the model. (More embeddings than ids are fine: some models
 * round their number up.)
 * @param vocabSize the model's `vocab_size`
 * @param where the model, for the message
 */
export function checkVocabulary(tokenizer: Tokenizer, vocabSize: number, where: string): void {
  if (tokenizer.rows > vocabSize) {
    fail("checkpoint", {
      where,
      found: `a vocabulary of ${vocabSize} in the model and ${tokenizer.rows} in the tokenizer (${tokenizer.where})`,
      expected: "a tokenizer whose ids all have an embedding",
      fix: "use the tokenizer the model was trained with",
    });
  }
}
