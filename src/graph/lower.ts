/**
 * @file What a backend lacks, written with what it has. A rule stands for one ONNX operator and acts while a program is written,
 * so that whatever emits the operator is served; a rule may emit operators that have rules themselves. Programs, gradients and
 * what is saved between them know nothing of it.
 */
import { fail } from "../base/errors.ts";
import type { AttributeValue, Emitter, Node } from "./tensor.ts";

/** One ONNX node that is to be written otherwise. */
interface Call {
  readonly inputs: readonly string[];
  /** At least one; those at the end may be missing. */
  readonly outputs: readonly string[];
  readonly attrs: Readonly<Record<string, AttributeValue>>;
  /** The operation that emits it: sizes of its inputs. */
  readonly node: Node;
  /** Names of the axes whose sizes are told at each run. */
  readonly free: readonly string[];
}

type Rule = (e: Emitter, call: Call) => void;

/**
 * An emitter for what one operation emits, that obeys the rules.
 * @param lacks   ONNX operators that are not there; those outside ONNX itself with their domain: `com.microsoft.FusedMatMul`
 * @param program its name, for errors, and its free axes
 * @throws shape - of `node()`: an operator that is lacking and has no rule
 */
export function lowering(
  plain: Emitter,
  node: Node,
  lacks: ReadonlySet<string>,
  program: { readonly name: string; readonly free?: readonly string[] },
): Emitter {
  if (lacks.size === 0) return plain;
  const lowered: Emitter = {
    ...plain,
    node(opType, inputs, outputs, attrs = {}, domain = "") {
      const name = domain ? `${domain}.${opType}` : opType;
      if (!lacks.has(name)) return plain.node(opType, inputs, outputs, attrs, domain);
      const rule = LOWERINGS.get(name);
      if (rule === undefined)
        fail("shape", {
          where: `program ${program.name}`,
          found: `${name}, which this backend lacks`,
          expected: "operators that it has, or that can be written with those",
          fix: "add a rule to src/graph/lower.ts, or take another backend",
        });
      rule(lowered, { inputs, outputs, attrs, node, free: program.free ?? [] });
    },
  };
  return lowered;
}

/** Emits an operator with one result, and returns the name of that. */
function call(e: Emitter, opType: string, inputs: string[], attrs: Record<string, AttributeValue> = {}, to = e.temp()) {
  e.node(opType, inputs, [to], attrs);
  return to;
}

const FLOAT = { to: 1 };
const UINT8 = { to: 2 };
const INT32 = { to: 6 };

/** FusedMatMul: alpha op(a) op(b), op the transpose of the last two axes where asked. */
const fusedMatMul: Rule = (e, { inputs: [a, b], outputs: [y], attrs, node }) => {
  const { rank } = node.inputs[0];
  const perm = [...Array(rank - 2).keys(), rank - 1, rank - 2];
  const turned = (x: string, turn: AttributeValue) => (turn === 1 ? call(e, "Transpose", [x], { perm }) : x);
  const { float: alpha } = attrs.alpha as { float: number };
  const factors = [turned(a, attrs.transA), turned(b, attrs.transB)];
  if (alpha === 1) call(e, "MatMul", factors, {}, y);
  else call(e, "Mul", [call(e, "MatMul", factors), e.float(alpha)], {}, y);
};

/** LogSoftmax over the last axis: z - log(sum(exp(z))) with z = x - max(x). */
const logSoftmax: Rule = (e, { inputs: [x], outputs: [y] }) => {
  const last = e.int64([-1]);
  const z = call(e, "Sub", [x, call(e, "ReduceMax", [x, last], { keepdims: 1 })]);
  const sum = call(e, "ReduceSum", [call(e, "Exp", [z]), last], { keepdims: 1 });
  call(e, "Sub", [z, call(e, "Log", [sum])], {}, y);
};

/** Gelu: x (1 + erf(x / sqrt 2)) / 2; with approximate "tanh" x s(2 sqrt(2/pi) (x + 0.044715 x^3)), s the logistic function. */
const gelu: Rule = (e, { inputs: [x], outputs: [y], attrs }) => {
  if (attrs.approximate === "tanh") {
    const c = 2 * Math.sqrt(2 / Math.PI);
    const slope = call(e, "Add", [call(e, "Mul", [call(e, "Mul", [x, x]), e.float(c * 0.044715)]), e.float(c)]);
    call(e, "Mul", [x, call(e, "Sigmoid", [call(e, "Mul", [x, slope])])], {}, y);
  } else {
    const erf = call(e, "Erf", [call(e, "Mul", [x, e.float(Math.SQRT1_2)])]);
    const half = call(e, "Mul", [x, e.float(0.5)]);
    call(e, "Mul", [half, call(e, "Add", [erf, e.float(1)])], {}, y);
  }
};

/** r = 1 / sqrt(mean(x^2) + epsilon) over the last axis, [..., 1]. */
function inverseRoot(e: Emitter, x: string, attrs: Call["attrs"], r = e.temp()): string {
  const { float: epsilon } = attrs.epsilon as { float: number };
  const square = call(e, "ReduceMean", [call(e, "Mul", [x, x]), e.int64([-1])], { keepdims: 1 });
  const root = call(e, "Sqrt", [call(e, "Add", [square, e.float(epsilon)])]);
  return call(e, "Div", [e.float(1), root], {}, r);
}

/** LayerNormalization over the last axis: gamma (x - mean) r + beta, and mean and r. */
const layerNormalization: Rule = (e, { inputs: [x, gamma, beta], outputs: [y, mean, r], attrs }) => {
  const centred = call(e, "Sub", [x, call(e, "ReduceMean", [x, e.int64([-1])], { keepdims: 1 }, mean)]);
  const normed = call(e, "Mul", [centred, inverseRoot(e, centred, attrs, r)]);
  call(e, "Add", [call(e, "Mul", [normed, gamma]), beta], {}, y);
};

/** SimplifiedLayerNormalization over the last axis: gamma x r, and r. */
const simplifiedLayerNormalization: Rule = (e, { inputs: [x, gamma], outputs: [y, r], attrs }) => {
  call(e, "Mul", [call(e, "Mul", [x, inverseRoot(e, x, attrs, r)]), gamma], {}, y);
};

/** Round to the nearest whole number, halves to the even one. */
const round: Rule = (e, { inputs: [x], outputs: [y] }) => {
  const floor = call(e, "Floor", [x]);
  const pairs = call(e, "Floor", [call(e, "Mul", [floor, e.float(0.5)])]);
  const odd = call(e, "Sub", [floor, call(e, "Mul", [pairs, e.float(2)])]);
  // Above an odd number a half goes up too. Of float32 numbers from 1/2 on none is nearer to a half than this without being one.
  const bound = call(e, "Sub", [e.float(0.5), call(e, "Mul", [odd, e.float(2 ** -24)])]);
  const up = call(e, "Cast", [call(e, "Greater", [call(e, "Sub", [x, floor]), bound])], FLOAT);
  call(e, "Add", [floor, up], {}, y);
};

/** QuantizeLinear to uint8 with one scale: round(x / scale) + zero, 0 .. 255. */
const quantizeLinear: Rule = (e, { inputs: [x, scale, zero], outputs: [y] }) => {
  const rounded = call(e, "Round", [call(e, "Div", [x, scale])]);
  const shifted = call(e, "Add", [rounded, call(e, "Cast", [zero], FLOAT)]);
  call(e, "Cast", [call(e, "Clip", [shifted, e.float(0), e.float(255)])], UINT8, y);
};

/** MatMulIntegerToFloat: ((a - aZero) aScale) (b bScale), a uint8 [..., K], b int8 [K, N], bScale [N]. */
const matMulIntegerToFloat: Rule = (e, { inputs: [a, b, aScale, bScale, aZero], outputs: [y] }) => {
  const left = call(e, "DequantizeLinear", [a, aScale, aZero]);
  call(e, "MatMul", [left, call(e, "DequantizeLinear", [b, bScale], { axis: 1 })], {}, y);
};

/** A score that must not count: exp of it is exactly 0 next to any other score. */
const MASKED = -1e9;

/**
 * GroupQueryAttention with a cache: the new keys and values are put into the cache where each row stands, and the queries see the
 * slots up to their own. What a cache holds behind that may be anything. H query heads in K groups of G. B, T and M may be free:
 * no constant holds them, but counts of axes that are not free.
 */
const groupQueryAttention: Rule = (e, { inputs, outputs: [y, ...caches], attrs, node, free }) => {
  const [q, k, v, pastKeys, pastValues, last] = inputs;
  const [, K, , D] = node.inputs[3].sizes;
  const G = (attrs.num_heads as number) / K;
  const { float: scale } = attrs.scale as { float: number };
  /** In a shape 0 is the size that is there, -1 what is left. */
  const reshape = (x: string, shape: number[], to?: string) => call(e, "Reshape", [x, e.int64(shape)], {}, to);
  const unsqueeze = (x: string, ...axes: number[]) => call(e, "Unsqueeze", [x, e.int64(axes)]);
  const transpose = (x: string, perm: number[], to?: string) => call(e, "Transpose", [x], { perm }, to);
  /** The size n of an axis of an input as a number, and 0 .. n - 1. */
  const measure = (which: number, axis: number) => {
    const { name, size } = node.inputs[which].shape[axis];
    if (!free.includes(name)) return { size: e.float(size), count: e.floats([...Array(size).keys()]) };
    const told = call(e, "Shape", [inputs[which]], { start: axis, end: axis + 1 });
    const n = call(e, "Cast", [call(e, "Squeeze", [told])], FLOAT);
    return { size: n, count: call(e, "Range", [e.float(0), n, e.float(1)]) };
  };
  const tokens = measure(0, 1); // T
  const slots = measure(3, 2); // M

  // A prompt begins at 0, whatever it is padded to; else the new tokens are the last T of each row. [B]
  const next = call(e, "Add", [call(e, "Cast", [last], FLOAT), e.float(1)]);
  const past = call(e, "Max", [call(e, "Sub", [next, tokens.size]), e.float(0)]);
  const position = unsqueeze(call(e, "Add", [unsqueeze(past, 1), tokens.count]), 1, 3); // [B, T] -> [B, 1, T, 1]

  const heads = (x: string) => transpose(reshape(x, [0, 0, K, D]), [0, 2, 1, 3]); // [B, T, K D] -> [B, K, T, D]
  const newKeys = heads(k);
  const index = call(e, "Expand", [call(e, "Cast", [position], INT32), call(e, "Shape", [newKeys])]);
  const extended = (cache: string, x: string, to?: string) =>
    call(e, "ScatterElements", [cache, index, x], { axis: 2 }, to); // [B, K, M, D]
  const keys = extended(pastKeys, newKeys, caches[0]);
  const values = extended(pastValues, heads(v), caches[1]);

  const groups = transpose(reshape(q, [0, 0, K, G, D]), [0, 2, 3, 1, 4]); // [B, T, K G D] -> [B, K, G, T, D]
  const queries = call(e, "Mul", [reshape(groups, [0, 0, -1, D]), e.float(scale)]); // [B, K, G T, D]
  const scores = call(e, "MatMul", [queries, transpose(keys, [0, 1, 3, 2])]); // [B, K, G T, M]
  const own = G === 1 ? position : call(e, "Concat", Array(G).fill(position), { axis: 2 }); // [B, 1, G T, 1]
  const seen = call(e, "Where", [call(e, "Greater", [slots.count, own]), e.float(MASKED), scores]);
  const weights = call(e, "Softmax", [seen], { axis: -1 });
  // A weight of 0 does not make up for what is no number.
  const end = unsqueeze(call(e, "Add", [past, tokens.size]), 1, 2, 3); // [B] -> [B, 1, 1, 1]
  const filled = call(e, "Where", [call(e, "Less", [unsqueeze(slots.count, 1), end]), values, e.float(0)]);
  const mixed = reshape(call(e, "MatMul", [weights, filled]), [0, 0, G, -1, D]); // [B, K, G T, D] -> [B, K, G, T, D]
  const flat = transpose(mixed, [0, 3, 1, 2, 4]); // [B, T, K, G, D]
  reshape(flat, [0, 0, K * G * D], y);
};

/** The rules by the operator they stand for. */
export const LOWERINGS: ReadonlyMap<string, Rule> = new Map([
  ["com.microsoft.FusedMatMul", fusedMatMul],
  ["com.microsoft.GroupQueryAttention", groupQueryAttention],
  ["com.microsoft.MatMulIntegerToFloat", matMulIntegerToFloat],
  ["Gelu", gelu],
  ["LayerNormalization", layerNormalization],
  ["LogSoftmax", logSoftmax],
  ["QuantizeLinear", quantizeLinear],
  ["Round", round],
  ["SimplifiedLayerNormalization", simplifiedLayerNormalization],
]);
