/**
 * @file The one layout of ragged responses: rows padded to one width, [B, T] row-major, with a mask where 1 = the token exists.
 *
 * Per-token arrays of a batch have `rows * width` elements in the same order. A position with mask 0 does not exist: whatever
 * it holds is never read, and every function of this folder writes 0 there.
 */
import { fail } from "../base/errors.ts";

/** The shape of a ragged batch: `rows` = B sequences, `width` = T positions each, `mask` [B * T] with 1 = the token exists. */
export interface Padded {
  /** B: sequences. */
  rows: number;
  /** T: positions of each. */
  width: number;
  /** [B * T], 1 = the token exists. */
  mask: Uint8Array;
}

/** Throws a `shape` error unless `batch.mask` and every named array have `rows * width` elements. */
export function checkPadded(where: string, batch: Padded, arrays: Record<string, ArrayLike<number>>): void {
  const size = batch.rows * batch.width;
  for (const [name, array] of [["mask", batch.mask] as const, ...Object.entries(arrays)]) {
    checkLength(where, name, array, size, `[${batch.rows}, ${batch.width}]`);
  }
}

/** Throws a `shape` error unless `array` has `size` elements; `shape` is how the message writes that size. */
export function checkLength(where: string, name: string, array: ArrayLike<number>, size: number, shape: string): void {
  if (array.length === size) return;
  fail("shape", {
    where: `${where}, ${name}`,
    found: `${array.length} elements`,
    expected: `${size} for ${shape}`,
    fix: `pass ${name} in the same layout as the mask`,
  });
}

/** Sums each row over its existing tokens: `values` [B * T] -> [B]. */
export function rowSums(values: ArrayLike<number>, batch: Padded): Float32Array {
  const sums = new Float32Array(batch.rows);
  for (let row = 0; row < batch.rows; row++) {
    let sum = 0;
    for (let i = row * batch.width; i < (row + 1) * batch.width; i++) if (batch.mask[i] === 1) sum += values[i];
    sums[row] = sum;
  }
  return sums;
}
