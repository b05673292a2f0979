/** @file Operands of the plain matrix product, the same on every side. */

/** Small integers: their products and sums are exact in fp32, whatever the order. */
export function integers(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => ((i * 7) % 11) - 5);
}
