/** @file Attention against a key-value cache. Sampling only: it has no gradient, and differentiating it is an error. */
import { apply, type Op, shapeError, type Tensor } from "../tensor.ts";

interface CachedAttentionAttrs {
  heads: number;
  /** Scores are q k^T times this. */
  scale: number;
}

/**
 * Causal attention of T new tokens per row against everything the row has seen. Rows may have different lengths.
 * Inputs: q, k, v [B, T, C]; pastKeys, pastValues [B, H, M, D]; lengths int32 [B], the last valid position of each row
 * after the new tokens; total int32 [1], the largest such count.
 * Outputs: attention [B, T, C]; keys and values [B, H, M, D], written in place when fed and fetched as one buffer.
 * ONNX Runtime's GroupQueryAttention (com.microsoft), here with as many key as query heads.
 */
export const cachedAttentionOp: Op = {
  name: "cachedAttention",
  light: false,
  infer: (inputs, { heads }: CachedAttentionAttrs) => {
    const [q, k, v, pastKeys, pastValues, lengths, total] = inputs;
    const [b, , c] = q.shape;
    const fits =
      q.rank === 3 &&
      [k, v].every((t) => t.sizes.join() === q.sizes.join()) &&
      c.size % heads === 0 &&
      pastKeys.rank === 4 &&
      pastKeys.sizes.join() === pastValues.sizes.join() &&
      pastKeys.shape[0].size === b.size &&
      lengths.dtype === "int32" &&
      total.dtype === "int32";
    if (!fits)
      shapeError("cachedAttention", inputs, "q, k, v [B, T, C], two caches [B, H, M, D], lengths [B], total [1]");
    const cache = { dtype: "float32" as const, shape: pastKeys.shape };
    return [{ dtype: "float32", shape: q.shape }, cache, cache];
  },
  emit: (e, [q, k, v, pastKeys, pastValues, lengths, total], outputs, node) =>
    e.node(
      "GroupQueryAttention",
      [q, k, v, pastKeys, pastValues, lengths, total],
      outputs,
      { num_heads: node.attrs.heads, kv_num_heads: node.attrs.heads, scale: { float: node.attrs.scale } },
      "com.microsoft",
    ),
};
export const cachedAttention = (inputs: readonly Tensor[], attrs: CachedAttentionAttrs) =>
  apply(cachedAttentionOp, inputs, attrs);
