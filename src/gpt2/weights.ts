/**
 * @file The tensors of a model directory in Hugging Face layout: one model.safetensors, or shards named by
 * model.safetensors.index.json. Names count with or without their `transformer.` prefix.
 */
import { fail } from "../base/errors.ts";
import { isDirectory, joinPath, listDirectory, openFile, readJson, writeAtomic } from "../runtime/files.ts";
import { openSafetensors, type SafetensorsFile, type TensorInfo, writeSafetensors } from "./safetensors.ts";

export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** A tensor, its name in the file and the file. */
export interface StoredTensor {
  name: string;
  info: TensorInfo;
  file: SafetensorsFile;
}

export interface Weights {
  readonly dir: string;
  /** The path of model.safetensors or of the index. */
  readonly name: string;
  /** Every tensor by its name in the checkpoint. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  close(): Promise<void>;
}

/** A tensor to load: its name in transformers' GPT2LMHeadModel, or `v_head.summary.*`. */
export interface WantedTensor {
  name: string;
  shape: readonly number[];
  /** As many elements as the shape. */
  target: Float32Array;
  /** Absence is reported, not an error. */
  optional?: boolean;
}

export interface LoadReport {
  /** Optional tensors the checkpoint does not have; their targets are untouched. */
  missing: string[];
  /** Tensors of the checkpoint nobody asked for, besides the usual causal masks and a tied lm_head.weight. */
  ignored: string[];
}

/** The shards of a sharded checkpoint: file names by tensor name. */
export async function readShardIndex(path: string): Promise<Map<string, string>> {
  const json = await readJson(path);
  const map = (json as { weight_map?: unknown } | null)?.weight_map;
  const entries = typeof map === "object" && map !== null && !Array.isArray(map) ? Object.entries(map) : [];
  // A shard is a file beside the index: a name that leads elsewhere is not followed.
  const wrong = entries.find(([, file]) => typeof file !== "string" || !/^[\w.-]+\.safetensors$/.test(file));
  if (entries.length === 0 || wrong !== undefined) {
    const found = wrong === undefined ? "no weight_map with tensors in it" : `shard ${JSON.stringify(wrong[1])}`;
    const expected = "weight_map: tensor names to the names of .safetensors files beside the index";
    fail("checkpoint", { where: path, found, expected, fix: "download or save the checkpoint again" });
  }
  return new Map(entries as [string, string][]);
}

/** How to turn PyTorch weight files into safetensors, for error messages. */
export function conversionAdvice(dir: string, names: readonly string[]): string | null {
  if (names.includes("pytorch_model.bin")) {
    // On the tensors themselves, not through a model class: that would drop a value head.
    const python =
      "import torch, sys; from safetensors.torch import save_file; d = sys.argv[1]; " +
      "s = torch.load(d + '/pytorch_model.bin', map_location='cpu', weights_only=True); " +
      "save_file({k: v.clone().contiguous() for k, v in s.items()}, d + '/model.safetensors', metadata={'format': 'pt'})";
    return `convert it once: python -c "${python}" "${dir}"`;
  }
  if (names.some((name) => name.startsWith("pytorch_model") && name.includes(".bin"))) {
    const python =
      "import sys; from transformers import AutoModelForCausalLM as M; d = sys.argv[1]; " +
      "M.from_pretrained(d).save_pretrained(d, safe_serialization=True)";
    return `convert it once: python -c "${python}" "${dir}"`;
  }
  return null;
}

async function noWeights(dir: string): Promise<never> {
  if (!(await isDirectory(dir))) {
    const fix = "check the path";
    fail("checkpoint", { where: dir, found: "no such directory", expected: "a model directory", fix });
  }
  const names = await listDirectory(dir);
  const expected = `${WEIGHTS_FILE} or ${INDEX_FILE}`;
  // Before pytorch_model.bin: beside an adapter TRL saves the value head, and nothing else, under that name.
  if (names.some((name) => name.startsWith("adapter_"))) {
    const head = names.includes("pytorch_model.bin")
      ? ", and a pytorch_model.bin, where TRL puts its value head alone"
      : "";
    fail("checkpoint", {
      where: dir,
      found: `a PEFT adapter without its base model${head}`,
      expected,
      fix: "merge the adapter first: peft's merge_and_unload(), then save_pretrained(), the value head's tensors included",
    });
  }
  const conversion = conversionAdvice(dir, names);
  if (conversion !== null) {
    fail("checkpoint", {
      where: dir,
      found: "only PyTorch's pytorch_model*.bin, which is not read",
      expected,
      fix: conversion,
    });
  }
  const found = names.length === 0 ? "an empty directory" : `only ${names.slice(0, 8).join(", ")}`;
  fail("checkpoint", { where: dir, found, expected, fix: "give a directory that a GPT-2 was saved to" });
}

/** Opens the weights of a model directory and checks their headers. Close them when loaded. */
export async function openWeights(dir: string): Promise<Weights> {
  const names = (await isDirectory(dir)) ? await listDirectory(dir) : [];
  const files = new Map<string, SafetensorsFile>();
  const close = async () => {
    for (const file of files.values()) await file.close();
  };
  const openShard = async (name: string): Promise<SafetensorsFile> => {
    const source = await openFile(joinPath(dir, name));
    try {
      const file = await openSafetensors(source);
      files.set(name, file);
      return file;
    } catch (error) {
      await source.close();
      throw error;
    }
  };

  const tensors = new Map<string, StoredTensor>();
  try {
    if (names.includes(WEIGHTS_FILE)) {
      const file = await openShard(WEIGHTS_FILE);
      for (const [name, info] of file.tensors) tensors.set(name, { name, info, file });
    } else if (names.includes(INDEX_FILE)) {
      const where = joinPath(dir, INDEX_FILE);
      for (const [name, shard] of await readShardIndex(where)) {
        if (!names.includes(shard)) {
          const found = `no file ${shard}, which it names for ${name}`;
          const fix = "download the missing file, or the whole checkpoint again";
          fail("checkpoint", { where, found, expected: "every shard beside the index", fix });
        }
        const file = files.get(shard) ?? (await openShard(shard));
        const info = file.tensors.get(name);
        if (info === undefined) {
          const expected = `tensor ${name}, which ${INDEX_FILE} places there`;
          const fix = "download or save the checkpoint again";
          fail("checkpoint", { where: file.name, found: "no such tensor", expected, fix });
        }
        tensors.set(name, { name, info, file });
      }
    } else {
      await noWeights(dir);
    }
  } catch (error) {
    await close();
    throw error;
  }
  const name = joinPath(dir, names.includes(WEIGHTS_FILE) ? WEIGHTS_FILE : INDEX_FILE);
  return { dir, name, tensors, close };
}

const PREFIX = "transformer.";
const withoutPrefix = (name: string) => (name.startsWith(PREFIX) ? name.slice(PREFIX.length) : name);

/** Causal masks that old versions of transformers saved beside the weights. */
const isMask = (name: string) => /^h\.\d+\.attn\.(masked_)?bias$/.test(withoutPrefix(name));

function checkTensor(wanted: Omit<WantedTensor, "target">, stored: StoredTensor): void {
  const { info, file } = stored;
  const where = `${file.name}, tensor ${wanted.name}`;
  const expected = `[${wanted.shape.join(", ")}]`;
  if (`[${info.shape.join(", ")}]` !== expected) {
    const fix = "use the config.json and the weights of one and the same model";
    fail("checkpoint", { where, found: `shape [${info.shape.join(", ")}]`, expected: `shape ${expected}`, fix });
  }
  if (!["F32", "F16", "BF16", "F64"].includes(info.dtype)) {
    const fix = "save the model in one of these types; quantised weights are not supported";
    fail("checkpoint", { where, found: `dtype ${info.dtype}`, expected: "F32, F16, BF16 or F64", fix });
  }
}

function missingTensors(weights: Weights, missing: readonly string[]): never {
  const names = [...weights.tensors.keys()];
  if (names.length > 0 && names.every((name) => name.startsWith("v_head."))) {
    const fix = "merge the adapter into its base model (peft's merge_and_unload()) and save both together";
    const found = "only a value head (v_head.*), as TRL saves it beside a PEFT adapter";
    fail("checkpoint", { where: weights.name, found, expected: "the language model's tensors too", fix });
  }
  const rest = missing.length > 5 ? ` and ${missing.length - 5} more` : "";
  fail("checkpoint", {
    where: weights.name,
    found: `${names.length} tensors without ${missing.slice(0, 5).join(", ")}${rest}`,
    expected: "every tensor of a GPT-2 of this config",
    fix: "use the config.json and the weights of one and the same model, saved with transformers' GPT-2 names",
  });
}

/** Where each wanted tensor is stored, and what is left over. Reads nothing: throws unless names, shapes and types are right. */
export function findParameters<W extends Omit<WantedTensor, "target">>(
  weights: Weights,
  wanted: readonly W[],
): LoadReport & { found: [W, StoredTensor][] } {
  const found: [W, StoredTensor][] = [];
  const missing: W[] = [];
  const used = new Set<StoredTensor>();
  for (const want of wanted) {
    const bare = withoutPrefix(want.name);
    const stored = weights.tensors.get(PREFIX + bare) ?? weights.tensors.get(bare);
    if (stored === undefined) missing.push(want);
    else {
      checkTensor(want, stored);
      found.push([want, stored]);
      used.add(stored);
    }
  }
  const required = missing.filter((want) => !want.optional).map((want) => want.name);
  if (required.length > 0) missingTensors(weights, required);
  const unused = [...weights.tensors].filter(([, stored]) => !used.has(stored)).map(([name]) => name);
  return {
    found,
    missing: missing.map((want) => want.name),
    ignored: unused.filter((name) => !isMask(name) && name !== "lm_head.weight"),
  };
}

/**
 * Reads the wanted tensors as fp32 into their targets. Nothing is read before every name, shape and type is right.
 */
export async function loadParameters(weights: Weights, wanted: readonly WantedTensor[]): Promise<LoadReport> {
  const { found, missing, ignored } = findParameters(weights, wanted);
  for (const [want, { file, name }] of found) await file.readFloat32Into(name, want.target);
  return { missing, ignored };
}

/** Writes `model.safetensors` in fp32 into an existing directory, atomically. */
export async function saveParameters(
  dir: string,
  entries: readonly { name: string; shape: readonly number[]; data: Float32Array }[],
): Promise<void> {
  const tensors = entries.map((entry) => ({ ...entry, dtype: "F32" as const }));
  await writeAtomic(joinPath(dir, WEIGHTS_FILE), (sink) => writeSafetensors(sink, tensors));
}
