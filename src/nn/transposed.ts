/** @file Matrices the other way round. */

/** Edge of the squares that are transposed one after another, so that both sides stay in the cache. */
const SQUARE = 64;

/**
 * [K, N] -> [N, K]
 * @param to where it goes; default: memory of its own
 */
export function transposed(
  from: Float32Array,
  K: number,
  N: number,
  to: Float32Array = new Float32Array(from.length),
): Float32Array {
  for (let k0 = 0; k0 < K; k0 += SQUARE) {
    const k1 = Math.min(K, k0 + SQUARE);
    for (let n0 = 0; n0 < N; n0 += SQUARE) {
      const n1 = Math.min(N, n0 + SQUARE);
      for (let n = n0; n < n1; n++) for (let k = k0; k < k1; k++) to[n * K + k] = from[k * N + n];
    }
  }
  return to;
}
