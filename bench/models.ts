/** @file The checkpoints both sides load: one that is there, or random weights written once. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { RNG } from "../src/base/rng.ts";
import { type GPT2Config, makeConfig, parseConfig } from "../src/families/gpt2.ts";
import { GPT2HeadWithValueModel, loadModel } from "../src/families/index.ts";
import { exportOnnx } from "../src/ship/export.ts";
import { writeGguf } from "./peers/gguf.ts";

/** What both sides load. */
export interface Checkpoint {
  directory: string;
  name: string;
  vocabSize: number;
  /** The directory of a LoRA adapter, which is trained instead of the weights. */
  adapter?: string;
  /** Of its base, under an adapter. Default fp32. */
  basePrecision?: "int8";
  /** The same weights for transformers.js: a directory that `valuehead export` wrote. */
  exported?: string;
  /** The same for llama.cpp: PREFIX-F32.gguf and PREFIX-Q8_0.gguf. */
  gguf?: string;
}

export interface BenchModel extends Checkpoint {
  config: GPT2Config;
}

/**
 * A checkpoint of GPT-2's size with that many layers: `given` if it has that many, else random weights under `cache`.
 * @param sizes other fields of the config, for curves and trials
 */
export async function openBenchModel(
  layers: number,
  given: string | undefined,
  cache: string,
  sizes: Partial<GPT2Config> = {},
): Promise<BenchModel> {
  if (given) {
    const config = readConfig(given);
    if (config.nLayer === layers) return benchModel(given, config);
  }
  // Twice GPT-2's 0.02: with it the attention of random weights is close to uniform.
  const config = makeConfig({ nLayer: layers, initializerRange: 0.04, ...sizes });
  const directory = join(cache, `gpt2-${config.nLayer}x${config.nEmbd}-${config.vocabSize}`);
  // The last file written says that the others are whole.
  if (!existsSync(join(directory, "tokenizer.json"))) {
    const model = GPT2HeadWithValueModel.fromConfig(config, { threads: 1 });
    await model.savePretrained(directory);
    writeTokenizer(directory, config.vocabSize);
  }
  return benchModel(directory, config);
}

const benchModel = (directory: string, config: GPT2Config): BenchModel => ({
  ...{ directory, config, name: nameOf(config), vocabSize: config.vocabSize },
});

const RANK = 8;

/**
 * The same with an adapter, by default of rank 8, on every matrix of its blocks, in PEFT's layout, which is written once under `cache`. Its B is not 0 as a new
 * adapter's is, so that both sides must read it alike.
 */
export async function withAdapter(
  { directory, name }: Omit<Checkpoint, "vocabSize">,
  cache: string,
  rank = RANK,
): Promise<Checkpoint> {
  const suffix = rank === RANK ? "" : `-${rank}`;
  const adapter = resolve(cache, `lora-${name.replaceAll(/[^\w]+/g, "-")}${suffix}`);
  const model = await loadModel(directory, { threads: 1 });
  if (!existsSync(join(adapter, "adapter_model.safetensors"))) {
    model.addAdapter({ rank, alpha: 2 * rank }, 1);
    const rng = new RNG(rank);
    for (const { name: row, adapts } of model.parameters.table)
      if (adapts?.part === "B")
        for (const [i] of model.parameters.view(row).entries()) model.parameters.view(row)[i] = 0.02 * rng.normal();
    await model.savePretrained(adapter);
  }
  return { directory, adapter, name: `${name}, LoRA ${rank}`, vocabSize: model.sizes.vocabSize };
}

/** The same with its weights in the forms that peers in JavaScript read, in fp32 and in int8, written once under `cache`. */
export async function withOtherForms(model: BenchModel, cache: string): Promise<BenchModel> {
  const at = resolve(cache, `forms-${model.name.replaceAll(/[^\w]+/g, "-")}`);
  const [exported, gguf] = [join(at, "onnx"), join(at, "model")];
  if (!existsSync(`${gguf}-Q8_0.gguf`)) {
    rmSync(at, { recursive: true, force: true });
    mkdirSync(at, { recursive: true });
    const loaded = await loadModel(model.directory, { threads: 1 });
    await exportOnnx(loaded, exported, { dtype: ["fp32", "q8"] });
    for (const type of ["F32", "Q8_0"] as const)
      writeGguf(`${gguf}-${type}.gguf`, type, model.config, loaded.parameters);
  }
  return { ...model, exported, gguf };
}

function readConfig(directory: string): GPT2Config {
  const path = join(directory, "config.json");
  return parseConfig(JSON.parse(readFileSync(path, "utf8")), path);
}

function nameOf({ nLayer, nEmbd }: GPT2Config): string {
  if (nEmbd !== 768) return `${nLayer} layers of ${nEmbd}`;
  return nLayer === 12 ? "GPT-2 124M" : nLayer === 6 ? "distilgpt2's size" : `${nLayer} layers`;
}

/** A byte-level tokenizer without merges: 256 bytes, names for the other ids, the end of text last. */
function writeTokenizer(directory: string, vocabSize: number): void {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256; // GPT-2's table: bytes that are no visible character get one from U+0100 on
  const bytes = Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : next++));
  const names = Array.from({ length: vocabSize - 257 }, (_, i) => `t${256 + i}`);
  const end = "<|endoftext|>";
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: true };
  const vocab = Object.fromEntries([...bytes, ...names, end].map((token, id) => [token, id]));
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const write = (name: string, json: object) => writeFileSync(join(directory, name), JSON.stringify(json));
  write("tokenizer_config.json", { tokenizer_class: "PreTrainedTokenizerFast", eos_token: end, bos_token: end });
  write("tokenizer.json", {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [{ id: vocabSize - 1, content: end, ...flags }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges: [],
    },
  });
}
