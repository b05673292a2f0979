/** @file Matrices in int8: each output has one scale, and the weights that lead to it are whole multiples of it, -127 to 127. */

/** w[k, n] is about data[k, n] scales[n]. */
export interface QuantizedMatrix {
  /** int8 [K, N] */
  readonly data: Int8Array;
  /** [N]; 1 for a column of zeros. */
  readonly scales: Float32Array;
  readonly K: number;
  readonly N: number;
}

const LARGEST = 127;

/** Math.round for -127.5 <= x < 127.5, five times as fast. */
const round = (x: number) => ((x + 128.5) | 0) - 128;

/** Of a matrix [K, N]: scales[n] = max |w[:, n]| / 127, so that no weight is more than half a scale off. */
export function quantize(w: Float32Array, K: number, N: number): QuantizedMatrix {
  const largest = new Float32Array(N);
  for (let k = 0; k < K; k++)
    for (let n = 0; n < N; n++) {
      const size = Math.abs(w[k * N + n]);
      if (size > largest[n]) largest[n] = size;
    }
  const { scales, inverse } = scalesOf(largest);
  const data = new Int8Array(K * N);
  for (let k = 0, i = 0; k < K; k++) for (let n = 0; n < N; n++, i++) data[i] = round(w[i] * inverse[n]);
  return { data, scales, K, N };
}

/** Edge of the squares that are transposed one after another, so that both sides stay in the cache. */
const SQUARE = 64;

/** The same of a matrix that is stored [N, K], as embeddings are. */
export function quantizeTransposed(w: Float32Array, N: number, K: number): QuantizedMatrix {
  const largest = new Float32Array(N);
  for (let n = 0; n < N; n++) {
    let max = 0;
    for (let i = n * K; i < (n + 1) * K; i++) {
      const size = Math.abs(w[i]);
      if (size > max) max = size;
    }
    largest[n] = max;
  }
  const { scales, inverse } = scalesOf(largest);
  const data = new Int8Array(K * N);
  for (let n0 = 0; n0 < N; n0 += SQUARE) {
    const n1 = Math.min(N, n0 + SQUARE);
    for (let k0 = 0; k0 < K; k0 += SQUARE) {
      const k1 = Math.min(K, k0 + SQUARE);
      for (let k = k0; k < k1; k++) for (let n = n0; n < n1; n++) data[k * N + n] = round(w[n * K + k] * inverse[n]);
    }
  }
  return { data, scales, K, N };
}

function scalesOf(largest: Float32Array): { scales: Float32Array; inverse: Float64Array } {
  const scales = largest.map((x) => (x > 0 ? x / LARGEST : 1));
  return { scales, inverse: Float64Array.from(scales, (s) => 1 / s) };
}

/** The matrix that whole numbers and scales stand for, as [K, N] or, with `kept` false, the other way round. */
export function dequantized({ data, scales, K, N }: QuantizedMatrix, kept: boolean, to: Float32Array): void {
  const [ofK, ofN] = kept ? [N, 1] : [1, K];
  for (let k0 = 0; k0 < K; k0 += SQUARE)
    for (let n0 = 0; n0 < N; n0 += SQUARE) {
      const [k1, n1] = [Math.min(K, k0 + SQUARE), Math.min(N, n0 + SQUARE)];
      for (let n = n0; n < n1; n++) for (let k = k0; k < k1; k++) to[k * ofK + n * ofN] = data[k * N + n] * scales[n];
    }
}
