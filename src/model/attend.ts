/**
 * @file How a block's queries, keys and values meet: over whole sequences, with a past, or against a cache. Families hand over
 * [..., heads D] and get [..., heads D] back; heads, rotary positions and the layout in memory are here.
 */
import { add, cachedAttention, concat, reshape, split, transpose } from "../graph/ops/index.ts";
import { constant, type Dim, dims, input, type Tensor } from "../graph/tensor.ts";
import { attention, causalBias, MASKED, sequenceBias } from "../nn/attention.ts";
import { rotaryTables, rotate } from "../nn/rotary.ts";
import type { Architecture, Attend } from "./family.ts";

/** Rotary positions as inputs of a program, named `cos` and `sin`, that broadcast against a head [.., D / 2]. */
function rotaryInputs({ family, config, sizes }: Architecture, axes: readonly Dim[]) {
  if (!family.rotary?.(config)) return (x: Tensor) => x;
  const half = [...axes, { name: "D/2", size: sizes.headSize / 2 }];
  const [cos, sin] = [input("cos", half), input("sin", half)];
  return (x: Tensor) => rotate(x, cos, sin);
}

/** What those inputs are fed for tokens at these positions, each [n, D / 2]; nothing where positions are embedded. */
export function rotaryFeeds(
  { family, config }: Architecture,
  positions: ArrayLike<number>,
): Record<string, Float32Array> {
  const frequencies = family.rotary?.(config);
  return frequencies ? { ...rotaryTables(frequencies, positions) } : {};
}

/** What a token of a row of several sequences may look at, but for those after it: places in its row. */
export interface Sight {
  /** The first token of its sequence: of those that branch off from this one they see the beginning. */
  readonly begin: number;
  /** How many tokens there are its own beginning. */
  readonly shared: number;
  /** Where its own part begins. */
  readonly own: number;
}

/**
 * What the tokens of rows see. A position of 0 begins a sequence. Any other that does not follow the one before it branches off: at
 * position p, after the first p tokens of the sequence it is in.
 * @param positions of the tokens within their sequences, [B, T]
 * @returns by place in [B, T]; undefined for the first token that branches off further than there are tokens, and all after it
 */
export function sights(positions: Int32Array, T: number): Sight[] {
  const all: Sight[] = [];
  let [begin, trunk, sight] = [0, 0, { begin: 0, shared: 0, own: 0 }];
  for (const [n, position] of positions.entries()) {
    const t = n % T;
    if (t === 0 || position !== positions[n - 1] + 1) {
      if (position === 0) begin = t;
      else if (t === 0 || position < 0 || position > trunk) return all;
      sight = { begin, shared: position, own: t };
    }
    if (sight.own === begin) trunk = t + 1 - begin;
    all.push(sight);
  }
  return all;
}

/** Whether sequences have beginnings in common. */
const branches = (positions: Int32Array, T: number): boolean =>
  positions.some((position, n) => position !== 0 && n % T > 0 && position !== positions[n - 1] + 1);

/** How rows that hold several sequences are masked: those that stand side by side by one number for each token, others pair by pair. */
export const packingOf = (positions: Int32Array | undefined, T: number): "apart" | "branching" | undefined =>
  positions && (branches(positions, T) ? "branching" : "apart");

/**
 * What blocks are fed where rows hold several sequences. Apart: `first`, the place in its row at which each token's own begins, [B T];
 * branching: `bias` [B, 1, T, T], and rotary positions.
 * @param positions of the tokens within their sequences, [B, T]
 */
export function packedFeeds(
  architecture: Architecture,
  positions: Int32Array,
  T: number,
): Record<string, Float32Array> {
  const seen = sights(positions, T);
  if (packingOf(positions, T) === "apart") return { first: Float32Array.from(seen, ({ own }) => own) };
  const bias = new Float32Array(positions.length * T).fill(MASKED);
  for (const [n, { begin, shared, own }] of seen.entries()) {
    bias.fill(0, n * T + begin, n * T + begin + shared);
    bias.fill(0, n * T + own, n * T + (n % T) + 1);
  }
  return { bias, ...rotaryFeeds(architecture, positions) };
}

export interface WholeSequences {
  B: number;
  T: number;
  /** The factor on q kᵀ. */
  scale: number;
  /** Earlier tokens: inputs `pastKeys` and `pastValues` [B, K, P, D] where there are any. */
  P?: number;
  /** Whether the rows' positions differ: `cos` and `sin` are [B, 1, T, D / 2] then, else [1, 1, T, D / 2]. */
  positionsByRow?: boolean;
  /** Whether the rows have masks: an input `bias` [B, 1, T, P + T]. Without it position t looks at 0 .. t, and P is 0. */
  biasByRow?: boolean;
  /** Whether rows hold several sequences: an input `first` [B, 1, T, 1], the place at which a token's own begins, and P is 0. */
  packed?: boolean;
  /** Whether there is an input `headMask` [H, 1, 1]. */
  headMask?: boolean;
}

/** Attention over whole sequences: differentiable. What it saw is in `seen` once it was called. */
export function wholeSequences(architecture: Architecture, form: WholeSequences) {
  const { heads: H, kvHeads: K, headSize: D } = architecture.sizes;
  const { B, T, scale, P = 0, positionsByRow, biasByRow, packed, headMask } = form;
  const causal = () =>
    packed ? add(causalBias(T), sequenceBias(input("first", dims({ B, head: 1, T, column: 1 })))) : causalBias(T);
  const bias = biasByRow ? input("bias", dims({ B, head: 1, T, S: P + T })) : causal();
  const rotated = rotaryInputs(architecture, dims({ rows: positionsByRow ? B : 1, head: 1, T }));
  const past =
    P > 0 ? { keys: input("pastKeys", { B, K, P, D }), values: input("pastValues", { B, K, P, D }) } : undefined;
  const mask = headMask ? input("headMask", { H, one: 1, two: 1 }) : undefined;
  return wholeAttention(architecture, { B, T, scale, bias, rotated, past, headMask: mask }, dims({ N: B * T }));
}

/** Where everything that attention over whole sequences needs is there, whatever it comes from. */
export interface WholeAttention {
  readonly B: number;
  readonly T: number;
  /** The factor on q kᵀ. */
  readonly scale: number;
  /** [1 or B, 1, T, P + T] */
  readonly bias: Tensor;
  /** Turns heads [B, H or K, T, D] by their positions. */
  readonly rotated: (x: Tensor) => Tensor;
  /** Each [B, K, P, D]. */
  readonly past?: { readonly keys: Tensor; readonly values: Tensor };
  /** [H, 1, 1] */
  readonly headMask?: Tensor;
}

/** @param axes of what comes out but for the last: [N] (N = B T) or [B, T] */
export function wholeAttention(architecture: Architecture, given: WholeAttention, axes: readonly Dim[]) {
  const { heads: H, kvHeads: K, headSize: D } = architecture.sizes;
  const { B, T, scale, bias, rotated, past, headMask } = given;
  const joined = (earlier: Tensor | undefined, x: Tensor) => (earlier ? concat([earlier, x], 2, "S") : x);
  const seen: { keys?: Tensor; values?: Tensor; probabilities?: Tensor } = {};
  const attend: Attend = (q, k, v) => {
    const perHead = (x: Tensor, heads: number) => transpose(reshape(x, dims({ B, T, H: heads, D })), [0, 2, 1, 3]); // [..., H D] -> [B, H, T, D]
    const keys = joined(past?.keys, rotated(perHead(k, K)));
    const values = joined(past?.values, perHead(v, K));
    const { mixed, probabilities } = attention(rotated(perHead(q, H)), keys, values, bias, scale, headMask);
    Object.assign(seen, { keys, values, probabilities });
    return reshape(transpose(mixed, [0, 2, 1, 3]), [...axes, { name: "HD", size: H * D }]); // [B, H, T, D] -> [..., H D]
  };
  return { attend, seen };
}

export interface CacheForm {
  /** T new tokens in each of B rows, a cache of M tokens. */
  readonly B: number;
  readonly T: number;
  readonly M: number;
  /** A head's size in the cache, at least the model's: the rest is zeros, which change no score. */
  readonly D: number;
  /** The factor on q kᵀ. */
  readonly scale: number;
}

/**
 * Attention of T new tokens per row against everything the row has seen. Inputs: pastKeys, pastValues [B, K, M, D], last int32 [B],
 * total int32 [1], and `cos`, `sin` [B, T, 1, D / 2] with rotary positions. The cache with the new tokens in it is in `seen`.
 * @param axes of q but for the last: [N] (N = B T) or [B, T]
 */
export function againstCache(
  architecture: Architecture,
  { B, T, M, D: cached, scale }: CacheForm,
  axes: readonly Dim[],
) {
  const { heads: H, kvHeads: K, headSize: D } = architecture.sizes;
  const rotary = architecture.family.rotary?.(architecture.config) !== undefined;
  const rotated = rotaryInputs(architecture, dims({ B, T, one: 1 }));
  const fill = cached - D;
  const flat = (x: Tensor, heads: number, rotates: boolean) => {
    if (fill === 0 && !(rotary && rotates)) return axes.length === 2 ? x : reshape(x, dims({ B, T, HD: heads * D })); // [N, H D] -> [B, T, H D]
    const perHead = reshape(x, dims({ B, T, H: heads, D })); // [..., H D] -> [B, T, H, D]
    const turned = rotates ? rotated(perHead) : perHead;
    const filled = fill === 0 ? turned : concat([turned, constant(0, dims({ B, T, H: heads, fill }))], 3);
    return reshape(filled, dims({ B, T, HD: heads * cached })); // [B, T, H, D] -> [B, T, H D]
  };
  const past = [input("pastKeys", { B, K, M, D: cached }), input("pastValues", { B, K, M, D: cached })];
  const lengths = [input("last", { B }, "int32"), input("total", { one: 1 }, "int32")];
  const seen: { keys?: Tensor; values?: Tensor } = {};
  const attend: Attend = (q, k, v) => {
    const inputs = [flat(q, H, true), flat(k, K, true), flat(v, K, false), ...past, ...lengths];
    const [mixed, keys, values] = cachedAttention(inputs, { heads: H, kvHeads: K, scale });
    Object.assign(seen, { keys, values });
    if (fill === 0) return axes.length === 2 ? mixed : reshape(mixed, [...axes, { name: "HD", size: H * D }]); // [B, T, H D] -> [N, H D]
    const perHead = reshape(mixed, dims({ B, T, H, D: cached })); // [B, T, H D] -> [B, T, H, D]
    return reshape(split(perHead, 3, [D, fill])[0], [...axes, { name: "HD", size: H * D }]); // [B, T, H, D] -> [..., H D]
  };
  return { attend, seen };
}
