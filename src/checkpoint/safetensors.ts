/**
 * @file The safetensors file format (https://huggingface.co/docs/safetensors): 8 bytes header length, a JSON header with
 * dtype, shape and byte range of every tensor, then the tensors. Everything in the header is distrusted until checked.
 * All numbers in the file are little-endian, and so is every platform the engine runs on.
 */
import { fail, messageOf } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import type { ByteSink, ByteSource } from "../platform/files.ts";
import { type Converter, converters, halfBits } from "./dtypes.ts";

/** Bytes of one element. Types narrower than a byte are not supported. */
const DTYPE_BYTES: Record<string, number> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  I64: 8,
  U64: 8,
  F64: 8,
  C64: 8,
};

/** The reference implementation refuses longer headers too. */
const MAX_HEADER_BYTES = 100_000_000;
/** Bytes converted at a time; a multiple of every element size. */
const PIECE = 4 * 1024 * 1024;

export interface TensorInfo {
  dtype: string;
  shape: number[];
  /** Byte range in the file, `end` excluded. */
  start: number;
  end: number;
}

export interface SafetensorsFile {
  /** The path, for errors. */
  readonly name: string;
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
  /** Reads a tensor of any real type as fp32 into `target`, which has as many elements as the tensor. */
  readFloat32Into(name: string, target: Float32Array): Promise<void>;
  /** Reads a tensor as float64. 64-bit integers beyond 2^53 lose their last digits. */
  readFloat64(name: string): Promise<Float64Array>;
  /** Reads an integer or boolean tensor; values outside 32 bits are an error. */
  readInt32(name: string): Promise<Int32Array>;
  close(): Promise<void>;
}

const product = (shape: readonly number[]) => shape.reduce((size, dim) => size * dim, 1);
const isSize = (x: unknown): x is number => Number.isSafeInteger(x) && (x as number) >= 0;

function broken(where: string, found: string, expected: string): never {
  fail("checkpoint", { where, found, expected, fix: "download or save the file again" });
}

/** Opens a safetensors file and checks the whole header against the size of the file. Reads no tensor yet. */
export async function openSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const { metadata, tensors } = await readHeader(source);
  const infoOf = (name: string): TensorInfo =>
    tensors.get(name) ??
    fail("checkpoint", {
      where: `${source.name}, tensor ${name}`,
      found: "no tensor of this name",
      expected: `one of its ${tensors.size} tensors`,
      fix: "check the name",
    });

  async function convertInto(name: string, target: Float32Array | Float64Array | Int32Array): Promise<void> {
    const info = infoOf(name);
    const where = `${source.name}, tensor ${name}`;
    const count = product(info.shape);
    if (target.length !== count) {
      const found = `shape [${info.shape.join(", ")}] with ${count} elements`;
      const fix = "give an array of the tensor's size";
      fail("shape", { where, found, expected: `${target.length} elements, the length of the target`, fix });
    }
    const integers = target instanceof Int32Array;
    const convert: Converter | undefined = converters[info.dtype];
    if (convert === undefined || (integers && /^(F|BF)/.test(info.dtype))) {
      const expected = integers ? "an integer type" : "F32, F16, BF16, F64 or an integer type";
      fail("checkpoint", { where, found: `dtype ${info.dtype}`, expected, fix: "save the tensor in such a type" });
    }
    const elementBytes = DTYPE_BYTES[info.dtype];
    const piece = new ArrayBuffer(Math.min(PIECE, info.end - info.start));
    for (let done = 0; done < count; done += PIECE / elementBytes) {
      const n = Math.min(PIECE / elementBytes, count - done);
      await source.readInto(info.start + done * elementBytes, new Uint8Array(piece, 0, n * elementBytes));
      const bad = convert(piece, n, target, done);
      if (bad !== undefined) {
        const expected = "values that fit 32-bit integers";
        fail("checkpoint", { where, found: `the value ${bad}`, expected, fix: "save the tensor with smaller values" });
      }
    }
  }

  return {
    name: source.name,
    tensors,
    metadata,
    async readFloat32Into(name, target) {
      const info = infoOf(name);
      if (info.dtype === "F32" && target.byteLength === info.end - info.start) {
        await source.readInto(info.start, new Uint8Array(target.buffer, target.byteOffset, target.byteLength));
      } else {
        await convertInto(name, target);
      }
    },
    async readFloat64(name) {
      const target = new Float64Array(product(infoOf(name).shape));
      await convertInto(name, target);
      return target;
    },
    async readInt32(name) {
      const target = new Int32Array(product(infoOf(name).shape));
      await convertInto(name, target);
      return target;
    },
    close: () => source.close(),
  };
}

async function readHeader(source: ByteSource) {
  const where = source.name;
  if (source.size < 8) broken(where, `${source.size} bytes`, "a safetensors file, which has at least 8");
  const prefix = await source.read(0, 8);
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const headerBytes = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (headerBytes > MAX_HEADER_BYTES) {
    broken(
      where,
      `a header length of ${headerBytes} bytes`,
      `at most ${MAX_HEADER_BYTES}: is this a safetensors file?`,
    );
  }
  if (8 + headerBytes > source.size) {
    const missing = 8 + headerBytes - source.size;
    broken(where, `${source.size} bytes`, `a header of ${headerBytes} bytes (${missing} bytes are missing)`);
  }
  let header: unknown;
  try {
    const bytes = await source.read(8, headerBytes);
    header = parseJson(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    broken(where, `a header that is not JSON (${messageOf(error)})`, "a JSON object");
  }
  if (!isObject(header)) broken(where, "a header that is not a JSON object", "a JSON object");

  let metadata: Record<string, string> = {};
  const entries: [string, TensorInfo][] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = checkMetadata(value, where);
    else entries.push([name, checkEntry(value, `${where}, tensor ${name}`)]);
  }
  // Tensors fill the data part without holes or overlaps; an empty tensor may sit anywhere in between.
  entries.sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  let next = 0;
  for (const [name, info] of entries) {
    if (info.start !== next) {
      const what = info.start < next ? "overlap with" : "a hole after";
      broken(`${where}, tensor ${name}`, `data from byte ${info.start}, ${what} the tensor before it`, `byte ${next}`);
    }
    next = info.end;
  }
  const dataBytes = source.size - 8 - headerBytes;
  if (next !== dataBytes) {
    const difference =
      next > dataBytes ? `${next - dataBytes} bytes are missing` : `${dataBytes - next} bytes too many`;
    broken(where, `${dataBytes} bytes of tensor data (${difference})`, `${next} bytes, as the header says`);
  }
  for (const [, info] of entries) {
    info.start += 8 + headerBytes;
    info.end += 8 + headerBytes;
  }
  return { metadata, tensors: new Map(entries) };
}

const isObject = (x: unknown): x is Record<string, unknown> => typeof x === "object" && x !== null && !Array.isArray(x);

function checkMetadata(value: unknown, where: string): Record<string, string> {
  if (!isObject(value) || !Object.values(value).every((text) => typeof text === "string")) {
    broken(`${where}, __metadata__`, JSON.stringify(value).slice(0, 80), "an object of strings");
  }
  return value as Record<string, string>;
}

/** One entry of the header; `start` and `end` still count from the end of the header. */
function checkEntry(value: unknown, where: string): TensorInfo {
  if (!isObject(value))
    broken(where, JSON.stringify(value).slice(0, 80), "an object with dtype, shape and data_offsets");
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    broken(where, `dtype ${JSON.stringify(dtype)?.slice(0, 80)}`, `one of ${Object.keys(DTYPE_BYTES).join(", ")}`);
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    broken(where, `shape ${JSON.stringify(shape)?.slice(0, 80)}`, "an array of whole numbers from 0");
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1]) {
    broken(where, `data_offsets ${JSON.stringify(offsets)?.slice(0, 80)}`, "two whole numbers, begin <= end");
  }
  // A product beyond 2^53 is not exact, but then it is not the size of any range of offsets either.
  const bytes = product(shape) * DTYPE_BYTES[dtype];
  if (bytes !== offsets[1] - offsets[0]) {
    const found = `${offsets[1] - offsets[0]} bytes of data`;
    broken(where, found, `${bytes} bytes for ${dtype} [${shape.slice(0, 8).join(", ")}]`);
  }
  return { dtype, shape, start: offsets[0], end: offsets[1] };
}

/** A tensor to write. F16 is rounded from fp32 to the nearest, ties to even. */
export type TensorToWrite = { name: string; shape: readonly number[] } & (
  | { dtype: "F32"; data: Float32Array }
  | { dtype: "F16"; data: Float32Array }
  | { dtype: "I32"; data: Int32Array }
  | { dtype: "F64"; data: Float64Array }
);

/**
 * Writes a safetensors file. Wider types come first, so that every tensor is aligned to its element size.
 * @param metadata strings for `__metadata__`, besides `format: "pt"`, without which older transformers refuse the file
 */
export async function writeSafetensors(
  sink: ByteSink,
  entries: readonly TensorToWrite[],
  metadata: Record<string, string> = {},
): Promise<void> {
  const sorted = [...entries].sort((a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype]);
  const header = new Map<string, unknown>([["__metadata__", { format: "pt", ...metadata }]]);
  let offset = 0;
  for (const { name, shape, dtype, data } of sorted) {
    const where = `safetensors writer, tensor ${name}`;
    if (header.has(name)) {
      fail("checkpoint", { where, found: "a second one", expected: "names used once", fix: "rename one of them" });
    }
    if (product(shape) !== data.length) {
      const expected = `${product(shape)} for shape [${shape.join(", ")}]`;
      fail("shape", { where, found: `${data.length} elements`, expected, fix: "correct the shape or the data" });
    }
    const end = offset + data.length * DTYPE_BYTES[dtype];
    header.set(name, { dtype, shape, data_offsets: [offset, end] });
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const headerBytes = Math.ceil(json.length / 8) * 8;
  const head = new Uint8Array(8 + headerBytes).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(headerBytes), true);
  head.set(json, 8);
  await sink.write(head);

  for (const { dtype, data } of sorted) {
    if (dtype !== "F16") {
      await sink.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      continue;
    }
    const piece = new Uint16Array(Math.min(data.length, PIECE / 2));
    for (let done = 0; done < data.length; done += piece.length) {
      const n = Math.min(piece.length, data.length - done);
      for (let i = 0; i < n; i++) piece[i] = halfBits(data[done + i]);
      await sink.write(new Uint8Array(piece.buffer, 0, 2 * n));
    }
  }
}
