/** @file A GPT-2 as GGUF files, for llama.cpp: the same weights in fp32, and rounded to its Q8_0. Tokens have no texts but names: ids are given. */
import { closeSync, openSync, writeSync } from "node:fs";
import type { GPT2Config } from "../../src/families/gpt2.ts";
import type { ParameterBuffer } from "../../src/model/parameters.ts";

export type GgufType = "F32" | "Q8_0";

/** ggml's numbers of the types of tensors, and llama.cpp's of whole files. */
const TENSOR_TYPE = { F32: 0, Q8_0: 8 } as const;
const FILE_TYPE = { F32: 0, Q8_0: 7 } as const;
const ALIGNMENT = 32;
/** Numbers of a row that share a scale in Q8_0. */
const BLOCK = 32;

const OUTSIDE = { wte: "token_embd", wpe: "position_embd", ln_f: "output_norm" };
const OF_BLOCK = {
  ...{ ln_1: "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output" },
  ...{ ln_2: "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down" },
};

/** Writes one file. Source of names and layout: ggml-org/ggml docs/gguf.md. */
export function writeGguf(path: string, type: GgufType, config: GPT2Config, parameters: ParameterBuffer): void {
  const tensors = [...namedTensors(config, parameters)].map((tensor) => {
    const rounded = type === "Q8_0" && tensor.shape.length === 2 && tensor.name !== "position_embd.weight";
    return { ...tensor, type: rounded ? ("Q8_0" as const) : ("F32" as const) };
  });
  const out = openSync(path, "w");
  try {
    let written = 0;
    const write = (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length; ) at += writeSync(out, bytes, at);
      written += bytes.length;
    };
    const pad = () => write(new Uint8Array(-written & (ALIGNMENT - 1)));
    write(header(metadata(config, type), tensors));
    pad();
    for (const { data, shape, type } of tensors) {
      write(encode(data(), shape, type));
      pad();
    }
  } finally {
    closeSync(out);
  }
}

interface NamedTensor {
  name: string;
  /** Rows, columns; or the length of a vector. */
  shape: number[];
  data(): Float32Array;
}

/** Matrices as [out, in], where GPT-2 has [in, out]. */
function* namedTensors({ nLayer }: GPT2Config, parameters: ParameterBuffer): Generator<NamedTensor> {
  const shapes = new Map(parameters.table.map(({ name, shape }) => [name, shape]));
  const find = function* (from: string, name: string, transposed: boolean): Generator<NamedTensor> {
    for (const kind of ["weight", "bias"]) {
      const shape = shapes.get(`${from}.${kind}`);
      if (!shape) continue;
      const view = () => parameters.view(`${from}.${kind}`);
      const turn = transposed && shape.length === 2;
      yield {
        name: `${name}.${kind}`,
        shape: turn ? [shape[1], shape[0]] : [...shape],
        data: turn ? () => transpose(view(), shape[0], shape[1]) : view,
      };
    }
  };
  for (const [from, name] of Object.entries(OUTSIDE)) yield* find(`transformer.${from}`, name, false);
  for (let layer = 0; layer < nLayer; layer++)
    for (const [from, name] of Object.entries(OF_BLOCK))
      yield* find(`transformer.h.${layer}.${from}`, `blk.${layer}.${name}`, true);
}

type Metadata = Readonly<Record<string, string | number | readonly string[]>>;

function metadata(config: GPT2Config, type: GgufType): Metadata {
  return {
    "general.architecture": "gpt2",
    "general.file_type": FILE_TYPE[type],
    "gpt2.block_count": config.nLayer,
    "gpt2.context_length": config.nPositions,
    "gpt2.embedding_length": config.nEmbd,
    "gpt2.feed_forward_length": config.nInner,
    "gpt2.attention.head_count": config.nHead,
    "gpt2.attention.layer_norm_epsilon": config.layerNormEpsilon,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": Array.from({ length: config.vocabSize }, (_, id) => `t${id}`),
    "tokenizer.ggml.merges": ["t 0"],
  };
}

function header(metadata: Metadata, tensors: readonly (NamedTensor & { type: GgufType })[]): Uint8Array {
  const parts: Buffer[] = [];
  const u32 = (n: number) => {
    const b = Buffer.alloc(4);
    b.writeUInt32LE(n);
    parts.push(b);
  };
  const u64 = (n: number) => {
    const b = Buffer.alloc(8);
    b.writeBigUInt64LE(BigInt(n));
    parts.push(b);
  };
  const text = (s: string) => {
    u64(Buffer.byteLength(s));
    parts.push(Buffer.from(s));
  };
  const [UINT32, FLOAT32, STRING, ARRAY] = [4, 6, 8, 9];
  parts.push(Buffer.from("GGUF"));
  u32(3);
  u64(tensors.length);
  u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) {
    text(key);
    if (typeof value === "string") {
      u32(STRING);
      text(value);
    } else if (typeof value === "object") {
      u32(ARRAY);
      u32(STRING);
      u64(value.length);
      value.forEach(text);
    } else if (Number.isInteger(value)) {
      u32(UINT32);
      u32(value);
    } else {
      u32(FLOAT32);
      parts.push(Buffer.from(Float32Array.of(value as number).buffer));
    }
  }
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    text(name);
    u32(shape.length);
    for (const size of shape.toReversed()) u64(size); // the fastest first
    u32(TENSOR_TYPE[type]);
    u64(offset);
    const elements = shape.reduce((a, b) => a * b, 1);
    const bytes = type === "F32" ? 4 * elements : (elements / BLOCK) * (2 + BLOCK);
    offset += bytes + (-bytes & (ALIGNMENT - 1));
  }
  return Buffer.concat(parts);
}

function encode(data: Float32Array, shape: readonly number[], type: GgufType): Uint8Array {
  if (type === "F32") return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (shape[1] % BLOCK !== 0) throw new Error(`Q8_0: found rows of ${shape[1]}, expected a multiple of ${BLOCK}`);
  const out = Buffer.alloc((data.length / BLOCK) * (2 + BLOCK));
  for (let block = 0, at = 0; block < data.length; block += BLOCK, at += 2 + BLOCK) {
    let largest = 0;
    for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(data[block + i]));
    const scale = largest / 127;
    out.writeUInt16LE(half(scale), at);
    for (let i = 0; i < BLOCK; i++) out.writeInt8(scale === 0 ? 0 : Math.round(data[block + i] / scale), at + 2 + i);
  }
  return out;
}

/** A number that is not negative and below 65504, as the bits of an fp16. */
function half(x: number): number {
  if (x < 2 ** -14) return Math.round(x * 2 ** 24); // subnormal
  const exponent = Math.floor(Math.log2(x));
  return ((exponent + 15) << 10) + Math.round((x / 2 ** exponent - 1) * 1024); // a carry is the next exponent
}

function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c];
  return out;
}
