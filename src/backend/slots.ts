/** @file What every backend checks and reports alike: the memory that a run is given, and what the runtime throws. */
import { fail, messageOf } from "../base/errors.ts";
import { describe, elementCount, type TensorType } from "../graph/tensor.ts";
import type { HostArray } from "./backend.ts";

/** A type with the sizes of this run's free axes. */
export const withSizes = ({ dtype, shape }: TensorType, sizes: Readonly<Record<string, number>>): TensorType => ({
  dtype,
  shape: shape.map(({ name, size }) => ({ name, size: sizes[name] ?? size })),
});

/** The memory of an input or output, which has the type and as many elements as the program says. */
export function checkMemory(
  program: string,
  what: "input" | "output",
  name: string,
  type: TensorType,
  data: unknown,
): asserts data is HostArray {
  const right = type.dtype === "float32" ? data instanceof Float32Array : data instanceof Int32Array;
  if (right && (data as HostArray).length === elementCount(type)) return;
  fail("engine", {
    where: `${what} ${name} of ${program}`,
    found: data === undefined ? "nothing" : `${(data as object).constructor.name} of ${(data as HostArray).length}`,
    expected: describe(type),
    fix: "pass one buffer of that type and length for each input and output",
  });
}

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
