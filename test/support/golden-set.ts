/** @file The tensors of any golden safetensors file, by name. */
import { goldenPath, readTensors } from "./golden.ts";

export interface GoldenSet {
  has(name: string): boolean;
  floats(name: string): Float32Array;
  ints(name: string): Int32Array;
  shape(name: string): number[];
}

export function goldenSet(file: string): GoldenSet {
  const tensors = readTensors(goldenPath(file));
  const get = (name: string) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`${file} has no ${name}`);
    return tensor;
  };
  return {
    has: (name) => tensors.has(name),
    floats: (name) => get(name).data as Float32Array,
    ints: (name) => get(name).data as Int32Array,
    shape: (name) => get(name).shape,
  };
}
