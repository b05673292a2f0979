/** @file Multi-head attention over whole sequences, the form that training differentiates. */
import { add, concat, matmul, mul, reshape, softmax, split, transpose } from "../graph/ops/index.ts";
import { dims, type Tensor } from "../graph/tensor.ts";

export interface AttentionOptions {
  /** Keys and values of P earlier tokens, each [B, H, P, D]. */
  past?: { keys: Tensor; values: Tensor };
  /** [H, 1, 1], multiplied with the attention probabilities of each head. */
  headMask?: Tensor;
}

export interface Attention {
  /** [N, C] */
  mixed: Tensor;
  /** Of all S = P + T tokens, [B, H, S, D]. */
  keys: Tensor;
  values: Tensor;
  /** [B, H, T, S], after the head mask. */
  probabilities: Tensor;
}

/**
 * softmax(scale q k^T + bias) v, head by head.
 * @param qkv   [N, 3C] with N = B T: queries, keys and values side by side, as GPT-2's c_attn makes them
 * @param bias  [1 or B, 1, T, S], added to the scores: 0 where row t may look at column s, a large negative number elsewhere
 */
export function attention(
  qkv: Tensor,
  bias: Tensor,
  size: { B: number; T: number; H: number },
  scale: number,
  { past, headMask }: AttentionOptions = {},
): Attention {
  const { B, T, H } = size;
  const C = qkv.shape[1].size / 3;
  const D = C / H;
  const heads = (x: Tensor) => transpose(reshape(x, dims({ B, T, H, D })), [0, 2, 1, 3]); // [N, C] -> [B, H, T, D]
  const [q, k, v] = split(qkv, 1, [C, C, C]).map(heads);
  const keys = past ? concat([past.keys, k], 2) : k;
  const values = past ? concat([past.values, v], 2) : v;
  const scores = add(matmul(q, keys, { transB: true, alpha: scale }), bias); // [B, H, T, S]
  const weights = softmax(scores);
  const probabilities = headMask ? mul(weights, headMask) : weights;
  const perHead = transpose(matmul(probabilities, values), [0, 2, 1, 3]); // [B, H, T, D] -> [B, T, H, D]
  return { mixed: reshape(perHead, dims({ N: B * T, C })), keys, values, probabilities }; // [B, T, H, D] -> [N, C]
}

/** What a masked score gets. exp of it is exactly 0 next to any other score. */
export const MASKED = -1e9;

/** The causal bias [1, 1, T, T]: position t looks at 0 .. t. Enough for right-padded batches too. */
export function causalBias(T: number): Float32Array {
  const bias = new Float32Array(T * T).fill(MASKED);
  for (let t = 0; t < T; t++) bias.fill(0, t * T, t * T + t + 1);
  return bias;
}
