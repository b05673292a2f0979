/** @file Golden files: the tiny random GPT-2 and what torch and transformers computed with it. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

export const goldenPath = (name: string) => fileURLToPath(new URL(`../golden/${name}`, import.meta.url));

/** All tensors of a safetensors file, read without the library under test. */
export function readTensors(path: string): Map<string, { shape: number[]; data: Float32Array | Int32Array }> {
  const bytes = readFileSync(path);
  const headerLength = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength)));
  const tensors = new Map();
  for (const [name, info] of Object.entries<{ dtype: string; shape: number[]; data_offsets: [number, number] }>(
    header,
  )) {
    if (name === "__metadata__") continue;
    const [start, end] = info.data_offsets;
    const copy = new Uint8Array(bytes.subarray(8 + headerLength + start, 8 + headerLength + end)).buffer;
    tensors.set(name, {
      shape: info.shape,
      data: info.dtype === "I32" ? new Int32Array(copy) : new Float32Array(copy),
    });
  }
  return tensors;
}

export interface TinyGolden {
  lengths: number[];
  queryLengths: number[];
  parameters: string[];
  losses: Record<string, Record<string, number>>;
  /** A tensor of golden.safetensors. */
  floats(name: string): Float32Array;
  ints(name: string): Int32Array;
}

export const tinyDir = goldenPath("gpt2-tiny");

export function tinyGolden(directory = tinyDir): TinyGolden {
  const json = JSON.parse(readFileSync(`${directory}/golden.json`, "utf8"));
  const tensors = readTensors(`${directory}/golden.safetensors`);
  const get = (name: string) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`golden.safetensors has no ${name}`);
    return tensor.data;
  };
  return { ...json, floats: (n) => get(n) as Float32Array, ints: (n) => get(n) as Int32Array };
}

/** The largest |got - want|. NaN counts as infinite. */
export function maxDifference(got: ArrayLike<number>, want: ArrayLike<number>): number {
  expect(got.length).toBe(want.length);
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    const gap = Math.abs(got[i] - want[i]);
    worst = Math.max(worst, Number.isNaN(gap) ? Number.POSITIVE_INFINITY : gap);
  }
  return worst;
}

/** |got - want| / |want|, both as Euclidean norms. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  expect(got.length).toBe(want.length);
  let gap = 0;
  let size = 0;
  for (let i = 0; i < want.length; i++) {
    gap += (got[i] - want[i]) ** 2;
    size += want[i] ** 2;
  }
  return Math.sqrt(gap) / Math.max(Math.sqrt(size), 1e-12);
}
