/**
 * @file The tensors of a model directory in Hugging Face layout: one model.safetensors, or shards named by
 * model.safetensors.index.json. What its tensors may be called: tensor-names.ts.
 */
import { fail } from "../base/errors.ts";
import { isDirectory, joinPath, listDirectory, openFile, readJson, writeAtomic } from "../platform/files.ts";
import { openSafetensors, type SafetensorsFile, type TensorInfo, writeSafetensors } from "./safetensors.ts";
import { type FamilyNames, isBuffer, type StoredTensor, TensorNames } from "./tensor-names.ts";

export const WEIGHTS_FILE = "model.safetensors";
/** Of a LoRA adapter in PEFT's layout. */
export const ADAPTER_CONFIG = "adapter_config.json";
export const ADAPTER_WEIGHTS = "adapter_model.safetensors";
/** Of the value head beside an adapter. */
export const VALUE_HEAD_FILE = "v_head.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** Whether the files of a directory are a whole model. */
export const isWhole = (names: readonly string[]): boolean =>
  names.includes("config.json") && (names.includes(WEIGHTS_FILE) || names.includes(INDEX_FILE));

export interface Weights {
  readonly dir: string;
  /** The path of model.safetensors or of the index. */
  readonly name: string;
  /** Every tensor by its name in the checkpoint. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  close(): Promise<void>;
}

/** A tensor to load: its name in transformers' model with a language-model head, or `v_head.summary.*`. */
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
  /** Tensors of the checkpoint nobody asked for, besides the usual causal masks and copies of what was read. */
  ignored: string[];
}

const LM_HEAD = "lm_head.weight";

/** Tensors read at a time: while the numbers of one are converted, the others come from the disk. */
const READERS = 4;

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
      // transformers reads whole shards, whatever the index lists.
      for (const file of files.values())
        for (const [name, info] of file.tensors) if (!tensors.has(name)) tensors.set(name, { name, info, file });
    } else {
      await (await import("./no-weights.ts")).noWeights(dir);
    }
    // safetensors.torch.save_model writes a tensor with several names once, and the other names into the metadata.
    for (const file of files.values())
      for (const [alias, name] of Object.entries(file.metadata)) {
        const info = file.tensors.get(name);
        if (info !== undefined && !tensors.has(alias)) tensors.set(alias, { name, info, file });
      }
  } catch (error) {
    await close();
    throw error;
  }
  const name = joinPath(dir, names.includes(WEIGHTS_FILE) ? WEIGHTS_FILE : INDEX_FILE);
  return { dir, name, tensors, close };
}

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
    const fix =
      "put it beside its adapter: adapter_config.json and adapter_model.safetensors in the same directory, no config.json";
    const found = "only a value head (v_head.*), as TRL saves it beside a PEFT adapter";
    fail("checkpoint", { where: weights.name, found, expected: "the language model's tensors too", fix });
  }
  if (names.some((name) => /lora_/.test(name))) {
    const fix = "name it adapter_model.safetensors, put its adapter_config.json beside it, and remove config.json";
    const found = "the tensors of a PEFT adapter (lora_*)";
    fail("checkpoint", { where: weights.name, found, expected: "those of a model of this config", fix });
  }
  if (missing.length === 1 && missing[0] === LM_HEAD && names.some((name) => /(^|\.)score\.weight$/.test(name))) {
    const found = `score.weight and no ${LM_HEAD}: a classifier or reward model, which writes nothing`;
    const fix = "judge with it: --reward model:DIR in train, or valuehead score";
    fail("checkpoint", { where: weights.name, found, expected: "a language model", fix });
  }
  if (missing.length === 1 && missing[0] === LM_HEAD) {
    const found = `no ${LM_HEAD}, and tie_word_embeddings = false in config.json`;
    const fix = "if the head is the token embedding, set tie_word_embeddings to true; otherwise save the model again";
    fail("checkpoint", { where: weights.name, found, expected: "a language-model head", fix });
  }
  const rest = missing.length > 5 ? ` and ${missing.length - 5} more` : "";
  fail("checkpoint", {
    where: weights.name,
    found: `${names.length} tensors without ${missing.slice(0, 5).join(", ")}${rest}`,
    expected: "every tensor of a model of this config",
    fix: "use the config.json and the weights of one and the same model, saved with transformers' names",
  });
}

/** Where each wanted tensor is stored, and what is left over. Reads nothing: throws unless names, shapes and types are right. */
export function findParameters<W extends Omit<WantedTensor, "target">>(
  weights: Weights,
  wanted: readonly W[],
  family: FamilyNames,
): LoadReport & { found: [W, StoredTensor][] } {
  const found: [W, StoredTensor][] = [];
  const missing: W[] = [];
  const used = new Set<TensorInfo>();
  const names = new TensorNames(weights.tensors, family);
  const tied = !wanted.some((want) => want.name === LM_HEAD);
  for (const want of wanted) {
    const stored =
      names.find(want.name, want.shape) ??
      (want.name === family.embedding && tied ? names.find(LM_HEAD, want.shape) : undefined); // either name may be left out
    if (stored === undefined) missing.push(want);
    else {
      checkTensor(want, stored);
      found.push([want, stored]);
      used.add(stored.info);
    }
  }
  const required = missing.filter((want) => !want.optional).map((want) => want.name);
  if (required.length > 0) missingTensors(weights, required);
  const unused = [...weights.tensors].filter(([, { info }]) => !used.has(info)).map(([name]) => name);
  const head = names.find(LM_HEAD, []);
  return {
    found,
    missing: missing.map((want) => want.name),
    ignored: unused.filter((name) => !isBuffer(name) && weights.tensors.get(name)?.info !== head?.info),
  };
}

/** Whether the checkpoint has a language-model head of its own that differs from its token embedding. Reads both. */
export async function hasOwnHead(weights: Weights, family: FamilyNames): Promise<boolean> {
  const names = new TensorNames(weights.tensors, family);
  const [embedding, head] = [names.find(family.embedding, []), names.find(LM_HEAD, [])];
  if (embedding === undefined || head === undefined || embedding.info === head.info) return false;
  const shape = embedding.info.shape;
  checkTensor({ name: family.embedding, shape }, embedding);
  checkTensor({ name: LM_HEAD, shape }, head);
  const [a, b] = [embedding, head].map(({ info }) => new Float32Array(info.shape.reduce((n, size) => n * size, 1)));
  await embedding.file.readFloat32Into(embedding.name, a);
  await head.file.readFloat32Into(head.name, b);
  return a.some((x, i) => x !== b[i] && !(Number.isNaN(x) && Number.isNaN(b[i])));
}

/**
 * Reads the wanted tensors as fp32 into their targets. Nothing is read before every name, shape and type is right.
 */
export async function loadParameters(
  weights: Weights,
  wanted: readonly WantedTensor[],
  family: FamilyNames,
): Promise<LoadReport> {
  const { found, missing, ignored } = findParameters(weights, wanted, family);
  const rest = found.values(); // each reader takes the next
  const reader = async () => {
    for (const [want, { file, name }] of rest) await file.readFloat32Into(name, want.target);
  };
  await Promise.all(Array.from({ length: READERS }, reader));
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
