/**
 * @file Operations without a gradient: attention against a key-value cache and products in int8, which only sampling uses, and matrices
 * held in int8, which are not trained. Differentiating by their inputs is an error.
 */
import { apply, type Op, shapeError, type Tensor, type TensorType } from "../tensor.ts";

interface CachedAttentionAttrs {
  /** H: query heads. */
  heads: number;
  /** K: key and value heads, each for H / K query heads. Default H. */
  kvHeads?: number;
  /** Scores are q k^T times this. */
  scale: number;
}

/**
 * Causal attention of T new tokens per row against everything the row has seen. Rows may have different lengths.
 * Inputs: q [B, T, H D]; k, v [B, T, K D]; pastKeys, pastValues [B, K, M, D]; lengths int32 [B], the last valid position of each
 * row after the new tokens; total int32 [1], the largest such count.
 * Outputs: attention [B, T, H D]; keys and values [B, K, M, D], written in place when fed and fetched as one buffer.
 * ONNX Runtime's GroupQueryAttention (com.microsoft).
 */
export const cachedAttentionOp: Op = {
  name: "cachedAttention",
  light: false,
  infer: (inputs, { heads, kvHeads = heads }: CachedAttentionAttrs) => {
    const [q, k, v, pastKeys, pastValues, lengths, total] = inputs;
    const [b, t, width] = q.shape;
    const kvSizes = [b?.size, t?.size, (width?.size / heads) * kvHeads].join();
    const fits =
      q.rank === 3 &&
      [k, v].every((x) => x.sizes.join() === kvSizes) &&
      width.size % heads === 0 &&
      heads % kvHeads === 0 &&
      pastKeys.rank === 4 &&
      pastKeys.sizes.join() === pastValues.sizes.join() &&
      pastKeys.shape[0].size === b.size &&
      lengths.dtype === "int32" &&
      total.dtype === "int32";
    if (!fits)
      shapeError(
        "cachedAttention",
        inputs,
        "q [B, T, H D], k and v [B, T, K D], two caches [B, K, M, D], lengths [B], total [1]",
      );
    const cache = { dtype: "float32" as const, shape: pastKeys.shape };
    return [{ dtype: "float32", shape: q.shape }, cache, cache];
  },
  emit: (e, [q, k, v, pastKeys, pastValues, lengths, total], outputs, node) =>
    e.node(
      "GroupQueryAttention",
      [q, k, v, pastKeys, pastValues, lengths, total],
      outputs,
      {
        num_heads: node.attrs.heads,
        kv_num_heads: node.attrs.kvHeads ?? node.attrs.heads,
        scale: { float: node.attrs.scale },
      },
      "com.microsoft",
    ),
};
export const cachedAttention = (inputs: readonly Tensor[], attrs: CachedAttentionAttrs) =>
  apply(cachedAttentionOp, inputs, attrs);

/** The type of a product in int8, of the operation `name`. */
export function quantizedProduct(name: string, inputs: readonly Tensor[]): TensorType[] {
  const [x, w, scales, bias] = inputs;
  const fits =
    x.rank >= 1 &&
    x.dtype === "float32" &&
    w.dtype === "int8" &&
    w.rank === 2 &&
    w.shape[0].size === x.shape[x.rank - 1].size &&
    [scales, bias ?? scales].every((t) => t.rank === 1 && t.shape[0].size === w.shape[1].size);
  if (!fits) shapeError(name, inputs, "x [..., K], w int8 [K, N], scales [N] and maybe a bias [N]");
  return [{ dtype: "float32", shape: [...x.shape.slice(0, -1), w.shape[1]] }];
}

/**
 * y = (sx q(x)) (w scales) + bias, in integers: x [..., K], w int8 [K, N], scales [N] (one for each column), bias [N] or none.
 * Each row of x is rounded to -127 .. 127 times a scale of its own, sx = max |x| / 127, so that no row changes another: a
 * sequence is sampled alike in any batch. (DynamicQuantizeMatMul takes one scale for all rows.)
 * ONNX Runtime's MatMulIntegerToFloat (com.microsoft).
 */
export const quantizedLinearOp: Op = {
  name: "quantizedLinear",
  light: false,
  infer: (inputs) => quantizedProduct("quantizedLinear", inputs),
  emit: (e, [x, w, scales, bias], [y]) => {
    const [size, largest, step, positive, steps, q, product] = Array.from({ length: 7 }, () => e.temp());
    e.node("Abs", [x], [size]);
    e.node("ReduceMax", [size, e.int64([-1])], [largest], { keepdims: 1 });
    e.node("Mul", [largest, e.float(1 / 127)], [step]);
    e.node("Max", [step, e.float(SMALLEST_STEP)], [positive]);
    e.node("Div", [x, positive], [steps]);
    e.node("QuantizeLinear", [steps, e.float(1), e.uint8(ZERO)], [q]);
    e.node("MatMulIntegerToFloat", [q, w, e.float(1), scales, e.uint8(ZERO)], [product], {}, "com.microsoft");
    const scaled = bias ? e.temp() : y;
    e.node("Mul", [product, positive], [scaled]);
    if (bias) e.node("Add", [scaled, bias], [y]);
  },
};
/** What 0 is among the unsigned numbers that stand for x. */
const ZERO = 128;
/** A row of zeros has a step too. */
const SMALLEST_STEP = 1e-30;
export const quantizedLinear = (x: Tensor, w: Tensor, scales: Tensor, bias?: Tensor) =>
  apply(quantizedLinearOp, bias ? [x, w, scales, bias] : [x, w, scales])[0];

/**
 * w[k, n] = data[k, n] scales[n]: a matrix held in int8 [K, N], one scale for each of its outputs [N]. Products by it are in float32.
 * ONNX's DequantizeLinear.
 */
export const dequantizeOp: Op = {
  name: "dequantize",
  light: true, // made anew where it is needed: that it takes no room is the point
  infer: (inputs) => {
    const [data, scales] = inputs;
    if (data.dtype !== "int8" || data.rank !== 2 || scales.rank !== 1 || scales.shape[0].size !== data.shape[1].size)
      shapeError("dequantize", inputs, "data int8 [K, N], scales [N]");
    return [{ dtype: "float32", shape: data.shape }];
  },
  emit: (e, inputs, outputs) => e.node("DequantizeLinear", inputs, outputs, { axis: 1 }),
};
export const dequantize = (data: Tensor, scales: Tensor) => apply(dequantizeOp, [data, scales])[0];
