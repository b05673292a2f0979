/** @file Multi-head attention over whole sequences, the form that training differentiates. */
import { add, clamp, matmul, mul, reshape, softmax, sub, scale as times } from "../graph/ops/index.ts";
import { dims, stored, type Tensor } from "../graph/tensor.ts";

export interface Attention {
  /** [B, H, T, D] */
  mixed: Tensor;
  /** [B, H, T, S], after the head mask. */
  probabilities: Tensor;
}

/**
 * softmax(scale q kᵀ + bias) v, head by head. Each key and value head serves H / K query heads that stand side by side
 * (grouped-query attention, Ainslie et al. 2023, arXiv 2305.13245; K = H is multi-head attention).
 * @param q        [B, H, T, D]
 * @param keys     [B, K, S, D]
 * @param values   [B, K, S, D]
 * @param bias     [1 or B, 1, T, S], added to the scores: 0 where row t may look at column s, a large negative number elsewhere
 * @param headMask [H, 1, 1], multiplied with the attention probabilities of each head
 */
export function attention(
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  bias: Tensor,
  scale: number,
  headMask?: Tensor,
): Attention {
  const [B, H, T, D] = q.sizes;
  const [, K, S] = keys.sizes;
  const grouped = (x: Tensor, name: string, last: number) =>
    K === H ? x : reshape(x, dims({ B, K, GT: (H / K) * T, [name]: last })); // [B, H, T, last] -> [B, K, G T, last], G = H / K
  const perHead = (x: Tensor, name: string, last: number) =>
    K === H ? x : reshape(x, dims({ B, H, T, [name]: last })); // [B, K, G T, last] -> [B, H, T, last]
  const products = matmul(grouped(q, "D", D), keys, { transB: true, alpha: scale });
  const weights = softmax(add(perHead(products, "S", S), bias)); // [B, H, T, S]
  const probabilities = headMask ? mul(weights, headMask) : weights;
  return { mixed: perHead(matmul(grouped(probabilities, "S", S), values), "D", D), probabilities };
}

/** What a masked score gets. exp of it is exactly 0 next to any other score. */
export const MASKED = -1e9;

/**
 * The causal bias [1, 1, T, T]: position t looks at 0 .. t. Enough for right-padded batches too. It follows from numbers in
 * the program, so that it is computed once, when that is compiled.
 */
export function causalBias(T: number): Tensor {
  const positions = Float32Array.from({ length: T }, (_, t) => t);
  const t = stored(positions, { one: 1, head: 1, T, column: 1 });
  const s = stored(positions, { one: 1, head: 1, row: 1, S: T });
  return clamp(times(sub(t, s), -MASKED), MASKED, 0); // 0 where s <= t; where s > t at most MASKED, cut off there
}

/**
 * What is added to the causal bias where a row holds several sequences: position t looks at `first[t]` and after.
 * @param first [B, 1, T, 1]
 * @returns [B, 1, T, T]
 */
export function sequenceBias(first: Tensor): Tensor {
  const T = first.sizes[2];
  const s = stored(
    Float32Array.from({ length: T }, (_, n) => n),
    { one: 1, head: 1, row: 1, S: T },
  );
  return clamp(times(sub(s, first), -MASKED), MASKED, 0); // 0 where s >= first[t]; else at most MASKED, cut off there
}
