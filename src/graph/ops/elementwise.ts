/** @file Element by element operations, with NumPy broadcasting. Each is one pass over memory. */
import { apply, constant, type Dim, type Op, sameSizes, shapeError, type Tensor, type TensorType } from "../tensor.ts";
import { reduceSum } from "./reduce.ts";
import { reshape } from "./shape.ts";

/** Broadcast two shapes from the last axis backwards; a size of 1 stretches. */
function broadcast(op: string, inputs: readonly Tensor[]): TensorType[] {
  const [a, b] = inputs;
  const rank = Math.max(a.rank, b.rank);
  const shape: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const p: Dim | undefined = a.shape[i - rank + a.rank];
    const q: Dim | undefined = b.shape[i - rank + b.rank];
    if (p && q && p.size !== q.size && p.size !== 1 && q.size !== 1) shapeError(op, inputs, "shapes that broadcast");
    shape.push(p && (!q || q.size === 1) ? p : (q as Dim));
  }
  return [{ dtype: "float32", shape }];
}

/** Undo a broadcast: sum `grad` over the axes along which `like` was stretched. */
export function sumTo(grad: Tensor, like: Tensor): Tensor {
  if (sameSizes(grad, like)) return grad;
  const lead = grad.rank - like.rank;
  const axes = grad.shape
    .map((_, i) => i)
    .filter((i) => i < lead || (like.shape[i - lead].size === 1 && grad.shape[i].size !== 1));
  const summed = axes.length > 0 ? reduceSum(grad, axes, false) : grad;
  return sameSizes(summed, like) ? summed : reshape(summed, like.shape);
}

function binary(
  name: string,
  onnx: string,
  gradient: (a: Tensor, b: Tensor, g: Tensor, y: Tensor) => [Tensor, Tensor],
) {
  const op: Op = {
    name,
    light: true,
    infer: (inputs) => broadcast(name, inputs),
    emit: (e, inputs, outputs) => e.node(onnx, inputs, outputs),
    gradient: (node, [g]) => {
      if (!g) return [undefined, undefined];
      const [a, b] = node.inputs;
      const [da, db] = gradient(a, b, g, node.outputs[0]);
      return [sumTo(da, a), sumTo(db, b)];
    },
  };
  return op;
}

function unary(name: string, onnx: string, gradient: (x: Tensor, y: Tensor, g: Tensor) => Tensor, attrs = {}): Op {
  return {
    name,
    light: true,
    infer: ([x]) => [{ dtype: "float32", shape: x.shape }],
    emit: (e, inputs, outputs) => e.node(onnx, inputs, outputs, attrs),
    gradient: (node, [g]) => [g && gradient(node.inputs[0], node.outputs[0], g)],
  };
}

export const addOp = binary("add", "Add", (_a, _b, g) => [g, g]);
export const add = (a: Tensor, b: Tensor) => apply(addOp, [a, b])[0];

export const subOp = binary("sub", "Sub", (_a, _b, g) => [g, neg(g)]);
export const sub = (a: Tensor, b: Tensor) => apply(subOp, [a, b])[0];

export const mulOp = binary("mul", "Mul", (a, b, g) => [mul(g, b), mul(g, a)]);
export const mul = (a: Tensor, b: Tensor) => apply(mulOp, [a, b])[0];
/** x times a number. */
export const scale = (x: Tensor, by: number) => (by === 1 ? x : mul(x, constant(by)));

// d(a/b) = da/b - (a/b) db/b
export const divOp = binary("div", "Div", (_a, b, g, y) => [div(g, b), neg(div(mul(g, y), b))]);
export const div = (a: Tensor, b: Tensor) => apply(divOp, [a, b])[0];

// Where a = b the whole gradient goes to b for maximum and to a for minimum: one of the two, never both.
export const maximumOp = binary("maximum", "Max", (a, b, g) => {
  const first = mul(g, greater(a, b));
  return [first, sub(g, first)];
});
export const maximum = (a: Tensor, b: Tensor) => apply(maximumOp, [a, b])[0];

export const minimumOp = binary("minimum", "Min", (a, b, g) => {
  const second = mul(g, greater(a, b));
  return [sub(g, second), second];
});
export const minimum = (a: Tensor, b: Tensor) => apply(minimumOp, [a, b])[0];

/** 1 where a > b, else 0: a mask to multiply with. Piecewise constant, so its gradient is zero. */
export const greaterOp: Op = {
  name: "greater",
  light: true,
  infer: (inputs) => broadcast("greater", inputs),
  emit: (e, inputs, outputs) => {
    const bool = e.temp();
    e.node("Greater", inputs, [bool]);
    e.node("Cast", [bool], outputs, { to: 1 });
  },
  gradient: () => [undefined, undefined],
};
export const greater = (a: Tensor, b: Tensor) => apply(greaterOp, [a, b])[0];

/** clamp(x, low, high) with bounds as numbers or tensors: minimum(maximum(x, low), high). */
export function clamp(x: Tensor, low: Tensor | number, high: Tensor | number): Tensor {
  const bound = (b: Tensor | number) => (typeof b === "number" ? constant(b) : b);
  return minimum(maximum(x, bound(low)), bound(high));
}

export const negOp = unary("neg", "Neg", (_x, _y, g) => neg(g));
export const neg = (x: Tensor) => apply(negOp, [x])[0];

export const expOp = unary("exp", "Exp", (_x, y, g) => mul(g, y));
export const exp = (x: Tensor) => apply(expOp, [x])[0];

export const logOp = unary("log", "Log", (x, _y, g) => div(g, x));
export const log = (x: Tensor) => apply(logOp, [x])[0];

export const sqrtOp = unary("sqrt", "Sqrt", (_x, y, g) => scale(div(g, y), 0.5));
export const sqrt = (x: Tensor) => apply(sqrtOp, [x])[0];

/** 1 - y */
const oneMinus = (y: Tensor) => sub(constant(1), y);

export const tanhOp = unary("tanh", "Tanh", (_x, y, g) => mul(g, oneMinus(mul(y, y))));
export const tanh = (x: Tensor) => apply(tanhOp, [x])[0];

export const sigmoidOp = unary("sigmoid", "Sigmoid", (_x, y, g) => mul(g, mul(y, oneMinus(y))));
export const sigmoid = (x: Tensor) => apply(sigmoidOp, [x])[0];

export const reluOp = unary("relu", "Relu", (x, _y, g) => mul(g, greater(x, constant(0))));
export const relu = (x: Tensor) => apply(reluOp, [x])[0];

// d erf(x) = 2/sqrt(pi) exp(-x^2)
export const erfOp = unary("erf", "Erf", (x, _y, g) => mul(g, scale(exp(neg(mul(x, x))), 2 / Math.sqrt(Math.PI))));
export const erf = (x: Tensor) => apply(erfOp, [x])[0];

// gelu(x) = x Phi(x);  d = Phi(x) + x phi(x)
export const geluOp = unary("gelu", "Gelu", (x, _y, g) => {
  const cdf = scale(add(constant(1), erf(scale(x, Math.SQRT1_2))), 0.5);
  const pdf = scale(exp(scale(mul(x, x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
  return mul(g, add(cdf, mul(x, pdf)));
});
/** x Phi(x), the exact form (transformers: "gelu"). */
export const gelu = (x: Tensor) => apply(geluOp, [x])[0];

// geluTanh(x) = x s(w), s the logistic function, w = 2 sqrt(2/pi) (x + 0.044715 x^3), because (1 + tanh(u))/2 = s(2u).
// d = s + x s (1 - s) w' = s (1 + (x - x s) w')
export const geluTanhOp = unary(
  "geluTanh",
  "Gelu",
  (x, y, g) => {
    const c = 2 * Math.sqrt(2 / Math.PI);
    const xx = mul(x, x);
    const s = sigmoid(mul(x, add(scale(xx, c * 0.044715), constant(c))));
    const slope = add(scale(xx, 3 * c * 0.044715), constant(c)); // w'
    return mul(g, mul(s, add(mul(sub(x, y), slope), constant(1))));
  },
  { approximate: "tanh" },
);
/** The tanh approximation (transformers: "gelu_new", "gelu_pytorch_tanh"). */
export const geluTanh = (x: Tensor) => apply(geluTanhOp, [x])[0];

/** The value, cut off from differentiation. */
export const stopGradientOp: Op = {
  name: "stopGradient",
  light: true,
  infer: ([x]) => [{ dtype: x.dtype, shape: x.shape }],
  emit: (e, inputs, outputs) => e.node("Identity", inputs, outputs),
  gradient: () => [undefined],
};
export const stopGradient = (x: Tensor) => apply(stopGradientOp, [x])[0];
