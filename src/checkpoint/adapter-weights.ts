/**
 * @file The tensors of an adapter's directory: A and B by PEFT's names, with an adapter's name in them or without, and the value head
 * beside them.
 */
import { fail } from "../base/errors.ts";
import { absolutePath, exists, joinPath, listDirectory, openFile, writeAtomic } from "../platform/files.ts";
import { type AdapterToWrite, requireAdapterWeights, writeAdapterConfig } from "./peft.ts";
import { openSafetensors, type SafetensorsFile, writeSafetensors } from "./safetensors.ts";
import { isValueHead, type StoredTensor, TensorNames } from "./tensor-names.ts";
import {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  isWhole,
  VALUE_HEAD_FILE,
  type WantedTensor,
  WEIGHTS_FILE,
} from "./weights.ts";

/** What PEFT puts in front of the names of a model's tensors. */
const PEFT = "base_model.model.";

/** Opened files of an adapter; close them when they are read. */
export interface AdapterWeights {
  /** The path of adapter_model.safetensors. */
  readonly where: string;
  /** A and B by their names in the model, without the family's prefix. */
  readonly parts: ReadonlyMap<string, StoredTensor>;
  /** The other tensors beside them. */
  readonly others: readonly string[];
  /** The value head, by its names in its file; empty: there is none. */
  readonly valueHead: ReadonlyMap<string, StoredTensor>;
  close(): Promise<void>;
}

/**
 * Opens the weights of an adapter's directory and checks their headers.
 * @param prefix the family's, which may be left out of the names
 * @throws checkpoint - no weights, or files that cannot be read
 */
export async function openAdapter(directory: string, prefix: string): Promise<AdapterWeights> {
  const where = await requireAdapterWeights(directory);
  const files: SafetensorsFile[] = [];
  const close = async () => {
    for (const file of files) await file.close();
  };
  const open = async (path: string): Promise<StoredTensor[]> => {
    const source = await openFile(path);
    try {
      const file = await openSafetensors(source);
      files.push(file);
      return Array.from(file.tensors, ([name, info]) => ({ name, info, file }));
    } catch (error) {
      await source.close();
      throw error;
    }
  };
  try {
    const stored = await open(where);
    const heads = [stored.filter(({ name }) => isValueHead(bare(name, "")))];
    // In model.safetensors it is what TRL writes as pytorch_model.bin, converted.
    for (const name of [VALUE_HEAD_FILE, WEIGHTS_FILE]) {
      const path = joinPath(directory, name);
      const tensors = (await exists(path)) ? await open(path) : [];
      if (tensors.every((tensor) => isValueHead(tensor.name))) heads.push(tensors);
    }
    const valueHead = new Map(heads.find((tensors) => tensors.length > 0)?.map((tensor) => [tensor.name, tensor]));
    const parts = new Map<string, StoredTensor>();
    const others: string[] = [];
    for (const tensor of stored) {
      const name = bare(tensor.name, prefix);
      if (/\.lora_[AB]\.weight$/.test(name)) parts.set(name, tensor);
      else if (!isValueHead(bare(tensor.name, ""))) others.push(tensor.name);
    }
    return { where, parts, others, valueHead, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** `h.0.attn.c_attn.lora_A.weight` for `base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight`. */
function bare(stored: string, prefix: string): string {
  const wrapped = stored.replace(/^(module\.|_orig_mod\.|pretrained_model\.)+/, "");
  const name = wrapped.startsWith(PEFT) ? wrapped.slice(PEFT.length) : wrapped;
  const plain = name.replace(/\.lora_([AB])\.(?:[^.]+\.)?weight$/, ".lora_$1.weight");
  return prefix !== "" && plain.startsWith(prefix) ? plain.slice(prefix.length) : plain;
}

/** Names of the modules that the tensors adapt, without the family's prefix. */
export const modulesIn = ({ parts }: AdapterWeights): string[] => [
  ...new Set(Array.from(parts.keys(), (name) => name.replace(/\.lora_[AB]\.weight$/, ""))),
];

/** What an adapter's tensors are compared with. */
export interface AdapterOf {
  /** The family's prefix. */
  readonly prefix: string;
  /** What errors call the base model. */
  readonly base: string;
  /** What adapter_config.json calls it. */
  readonly named?: string;
  /** Whole names of the matrices that the base has in its blocks, without `.weight`. */
  readonly matrices: readonly string[];
}

/**
 * Where each part is stored. Reads nothing.
 * @throws checkpoint - tensors that are missing, of another shape or type, or more than those of the adapter that the config describes
 */
export function findAdapter<W extends Omit<WantedTensor, "target">>(
  weights: AdapterWeights,
  wanted: readonly W[],
  of: AdapterOf,
): [W, StoredTensor][] {
  const { where, parts, others } = weights;
  const anotherBase =
    of.named === undefined || of.named === of.base
      ? "give the base model that the adapter was trained on"
      : `give the base model that the adapter was trained on: its ${ADAPTER_CONFIG} names ${of.named}`;
  const unknown = modulesIn(weights).find(
    (name) => !of.matrices.includes(of.prefix + name) && !of.matrices.includes(name),
  );
  if (unknown !== undefined)
    fail("checkpoint", {
      where,
      found: `an adapter for ${unknown}`,
      expected: `adapters for matrices of the blocks of ${of.base}, such as ${of.matrices[0]}`,
      fix: /(^|\.)(lm_head|embed_tokens|wte|wpe)$/.test(unknown)
        ? "adapters of embeddings and heads are not supported: merge the adapter in PEFT (merge_and_unload()) and give the merged model"
        : anotherBase,
    });
  if (others.length > 0)
    fail("checkpoint", {
      where,
      found: `${others.slice(0, 3).join(", ")}${others.length > 3 ? `, and ${others.length - 3} more` : ""}`,
      expected: "lora_A and lora_B of linear layers, and nothing else that was trained",
      fix: "merge the adapter in PEFT (merge_and_unload()) and give the merged model",
    });
  const found = wanted.map((want): [W, StoredTensor] => {
    const name = want.name.startsWith(of.prefix) ? want.name.slice(of.prefix.length) : want.name;
    const stored = parts.get(name);
    if (stored === undefined)
      return fail("checkpoint", {
        where,
        found: `no ${want.name}`,
        expected: `A and B of everything that ${ADAPTER_CONFIG} names in ${of.base}`,
        fix: `use the ${ADAPTER_CONFIG} and the weights of one and the same adapter, and the base it was trained on`,
      });
    checkPart(want, stored, anotherBase);
    return [want, stored];
  });
  const used = new Set(found.map(([, stored]) => stored));
  const unused = [...parts.values()].find((stored) => !used.has(stored));
  if (unused !== undefined)
    fail("checkpoint", {
      where,
      found: unused.name,
      expected: `A and B of what ${ADAPTER_CONFIG} names, and no more`,
      fix: `use the ${ADAPTER_CONFIG} and the weights of one and the same adapter`,
    });
  return found;
}

function checkPart(
  { name, shape }: Omit<WantedTensor, "target">,
  { info, file, name: stored }: StoredTensor,
  fix: string,
) {
  const where = `${file.name}, tensor ${stored}`;
  if (info.shape.join() !== shape.join()) {
    const rank = name.includes(".lora_A.") ? [0, info.shape[0]] : [1, info.shape[1]];
    const other = info.shape.length === 2 && rank[1] !== shape[rank[0]];
    fail("checkpoint", {
      where,
      found: `shape [${info.shape.join(", ")}]`,
      expected: `shape [${shape.join(", ")}]`,
      fix: other ? `use the ${ADAPTER_CONFIG} and the weights of one and the same adapter: they differ in rank` : fix,
    });
  }
  if (!["F32", "F16", "BF16", "F64"].includes(info.dtype))
    fail("checkpoint", {
      where,
      found: `dtype ${info.dtype}`,
      expected: "F32, F16, BF16 or F64",
      fix: "save the adapter in one of these types",
    });
}

/** Where the parts of a value head of this shape are stored; undefined: there is none like it. */
export function findValueHead(
  { valueHead }: AdapterWeights,
  wanted: readonly Omit<WantedTensor, "target">[],
): StoredTensor[] | undefined {
  const plain = new Map(Array.from(valueHead, ([name, tensor]) => [bare(name, ""), tensor]));
  const names = new TensorNames(plain, { prefix: "" });
  const found = wanted.map(({ name, shape }) => names.find(name, shape));
  return found.every((tensor, i) => tensor?.info.shape.join() === wanted[i].shape.join())
    ? (found as StoredTensor[])
    : undefined;
}

/** A parameter of a model with an adapter. */
export interface AdaptedRow {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
  /** Of a matrix of a block: how it is stored. */
  readonly matrix?: "in,out" | "out,in";
  /** It is A or B. */
  readonly adapts?: unknown;
}

/**
 * Write an adapter as PEFT does, in fp32, and the value head beside it. Each file is replaced whole.
 * @param rows     all parameters of the model
 * @param baseName how the base can be found again; undefined: unknown
 * @throws checkpoint - a directory with a model of its own, which would be loaded in place of the adapter
 */
export async function saveAdapter(
  directory: string,
  adapter: AdapterToWrite,
  rows: readonly AdaptedRow[],
  baseName: string | undefined,
): Promise<void> {
  const isOther = baseName !== absolutePath(directory) && isWhole(await listDirectory(directory));
  if (isOther)
    fail("checkpoint", {
      where: directory,
      found: "a model's own weights",
      expected: "a directory for the adapter alone",
      fix: "save the adapter to another directory, or save merge() of the model there",
    });
  const write = (file: string, part: readonly AdaptedRow[], prefix: string) =>
    writeAtomic(joinPath(directory, file), (sink) =>
      writeSafetensors(
        sink,
        part.map(({ name, shape, data }) => ({ name: prefix + name, shape, data, dtype: "F32" as const })),
      ),
    );
  const parts = rows.filter(({ adapts }) => adapts);
  await write(ADAPTER_WEIGHTS, parts, PEFT);
  const heads = rows.filter(({ name }) => isValueHead(name));
  if (heads.length > 0) await write(VALUE_HEAD_FILE, heads, "");
  const moduleOf = (name: string) => name.replace(/\.(lora_[AB]\.)?weight$/, "");
  const matrices = rows.filter(({ matrix }) => matrix);
  await writeAdapterConfig(directory, adapter, {
    base: baseName,
    modules: [...new Set(parts.map(({ name }) => moduleOf(name)))],
    all: matrices.map(({ name }) => moduleOf(name)),
    byInput: matrices.some(({ matrix }) => matrix === "in,out"),
  });
}
