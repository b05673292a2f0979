/** @file What every backend checks and reports alike: the memory that a run is given, and what the runtime throws. */
import { fail, messageOf } from "../base/errors.ts";
import type { ONNXModel } from "../graph/onnx.ts";
import { describe, elementCount, type TensorType } from "../graph/tensor.ts";
import type { Backend, HostArray, Slot, Slots } from "./backend.ts";

/** onnxruntime-common's Tensor. */
export type TensorClass<T> = new (type: string, data: HostArray, dims: readonly number[]) => T;

/**
 * The runtime's tensors around the memory of one run.
 * @param memoryOf what lies behind a slot; of another backend's buffer, the buffer itself
 * @param free     sizes of the program's free axes, by name
 * @throws engine - a slot that is missing, or of another type or length than the program says
 */
export function tensorsOf<T>(
  Tensor: TensorClass<T>,
  model: Omit<ONNXModel, "bytes">,
  what: "inputs" | "outputs",
  given: Slots,
  memoryOf: (slot: Slot | undefined) => unknown,
  free: Readonly<Record<string, number>>,
): Record<string, T> {
  const tensors: Record<string, T> = {};
  for (const [name, type] of sized(model, what, free)) {
    const data = memoryOf(given[name]);
    checkMemory(`${what.slice(0, -1)} ${name} of ${model.name}`, type, data);
    const sizes = type.shape.map((d) => d.size);
    tensors[name] = new Tensor(type.dtype, data, sizes);
  }
  return tensors;
}

/** A program's inputs or outputs, with the sizes that its free axes have in this run. */
export function sized(
  model: Omit<ONNXModel, "bytes">,
  what: "inputs" | "outputs",
  free: Readonly<Record<string, number>>,
): Iterable<[string, TensorType]> {
  const withSizes = ({ dtype, shape }: TensorType): TensorType => ({
    dtype,
    shape: shape.map(({ name, size }) => ({ name, size: free[name] ?? size })),
  });
  if (model.free.length === 0) return model[what];
  return Array.from(model[what], ([name, type]) => [name, withSizes(type)]);
}

/** @throws engine - anything but memory of the host of that type and length */
export function checkMemory(where: string, type: TensorType, data: unknown): asserts data is HostArray {
  const kind = { float32: Float32Array, int32: Int32Array, int8: Int8Array, int64: BigInt64Array }[type.dtype];
  if (data instanceof kind && (data as HostArray).length === elementCount(type)) return;
  fail("engine", {
    where,
    found: data === undefined ? "nothing" : `${(data as object).constructor.name} of ${(data as HostArray).length}`,
    expected: describe(type),
    fix: "pass one buffer of that type and length for each input and output",
  });
}

/** The memory of a slot where the host can see it. */
export const hostMemory = (backend: Backend, slot: Slot): HostArray | undefined =>
  ArrayBuffer.isView(slot) ? slot : backend.host(slot);

/** What the runtime threw, as an error of this library. */
export function engineError(where: string, cause: unknown): never {
  return fail(
    "engine",
    {
      where,
      found: messageOf(cause),
      expected: "ONNX Runtime to accept it",
      fix: "report this with the command that led here",
    },
    cause,
  );
}
