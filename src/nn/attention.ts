/** @file Multi-head attention over whole sequences, the form that training differentiates. */
import { add, matmul, reshape, softmax, split, transpose } from "../graph/ops/index.ts";
import { dims, type Tensor } from "../graph/tensor.ts";

/**
 * softmax(scale q k^T + bias) v, head by head.
 * @param qkv   [N, 3C] with N = B T: queries, keys and values side by side, as GPT-2's c_attn makes them
 * @param bias  [1 or B, 1, T, T], added to the scores: 0 where row t may look at column s, a large negative number elsewhere
 * @returns     [N, C]
 */
export function attention(qkv: Tensor, bias: Tensor, size: { B: number; T: number; H: number }, scale: number): Tensor {
  const { B, T, H } = size;
  const C = qkv.shape[1].size / 3;
  const D = C / H;
  const heads = (x: Tensor) => transpose(reshape(x, dims({ B, T, H, D })), [0, 2, 1, 3]); // [N, C] -> [B, H, T, D]
  const [q, k, v] = split(qkv, 1, [C, C, C]).map(heads);
  const scores = add(matmul(q, k, { transB: true, alpha: scale }), bias); // [B, H, T, T]
  const mixed = matmul(softmax(scores), v); // [B, H, T, D]
  return reshape(transpose(mixed, [0, 2, 1, 3]), dims({ N: B * T, C })); // [B, T, H, D] -> [N, C]
}

/** What a masked score gets. exp of it is exactly 0 next to any other score. */
export const MASKED = -1e9;

/** The causal bias [1, 1, T, T]: position t looks at 0 .. t. Enough for right-padded batches too. */
export function causalBias(T: number): Float32Array {
  const bias = new Float32Array(T * T).fill(MASKED);
  for (let t = 0; t < T; t++) bias.fill(0, t * T, t * T + t + 1);
  return bias;
}
