/**
 * @file Rotary positions (Su et al. 2021): pairs of numbers of a query or key are turned by an angle that grows with its position,
 * so that q kᵀ depends on how far apart the two stand. As transformers computes them, in float32 step by step
 * (`modeling_rope_utils.py`; `rotate_half` in `modeling_llama.py`).
 */
import { add, concat, mul, split, sub } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";

/** How fast each pair turns. Names are those of transformers' `rope_parameters`, in camelCase. */
export type Rope = { readonly ropeTheta: number } & (
  | { readonly ropeType: "default" }
  | { readonly ropeType: "linear"; readonly factor: number }
  | {
      readonly ropeType: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      /** The longest sequence before the frequencies were scaled. */
      readonly originalMaxPositionEmbeddings: number;
    }
);

const f = Math.fround;

/**
 * Radians per position of each pair, [D / 2], for i = 0 .. D / 2 - 1:
 *
 *     default  w = theta^(-2 i / D)
 *     linear   w / factor
 *     llama3   by wave length L = 2 pi / w, against the old context O: w where L < O / high; w / factor where L > O / low;
 *              between the two (1 - s) w / factor + s w  with  s = (O / L - low) / (high - low)
 *
 * @param D size of a head, even
 */
export function inverseFrequencies(D: number, rope: Rope): Float32Array {
  const plain = Float32Array.from({ length: D / 2 }, (_, i) => 1 / f(f(rope.ropeTheta) ** f((2 * i) / D)));
  if (rope.ropeType === "default") return plain;
  if (rope.ropeType === "linear") return plain.map((w) => w / rope.factor);
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalMaxPositionEmbeddings: before } = rope;
  return plain.map((w) => {
    const length = f(f(2 * Math.PI) / w);
    if (length < f(before / high)) return w;
    if (length > f(before / low)) return w / factor;
    const s = f(f(f(before / length) - low) / (high - low));
    return f(f(f(1 - s) * w) / factor) + f(s * w);
  });
}

/**
 * Cosine and sine of position times frequency, each [n, D / 2].
 * @param frequencies what {@link inverseFrequencies} gives, [D / 2]
 * @param positions   n whole numbers from 0
 */
export function rotaryTables(
  frequencies: Float32Array,
  positions: ArrayLike<number>,
): { cos: Float32Array; sin: Float32Array } {
  const half = frequencies.length;
  const angles = new Float32Array(positions.length * half);
  for (let i = 0; i < angles.length; i++) angles[i] = positions[Math.floor(i / half)] * frequencies[i % half];
  return { cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
}

/**
 * x turned: its pairs are number i and number D / 2 + i of a head, y1 = x1 cos - x2 sin and y2 = x2 cos + x1 sin.
 * @param x   [..., D]: heads apart, [B, T, H, D] or [B, H, T, D]
 * @param cos [..., D / 2], broadcast against half of x: [B or 1, T, 1, D / 2] or [B or 1, 1, T, D / 2]
 * @param sin like cos
 */
export function rotate(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  const last = x.rank - 1;
  const half = x.shape[last].size / 2;
  const [x1, x2] = split(x, last, [half, half]);
  return concat([sub(mul(x1, cos), mul(x2, sin)), add(mul(x2, cos), mul(x1, sin))], last);
}
