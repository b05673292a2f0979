/** @file Softmax, log-softmax, layer norm and RMS norm, along the last axis. */
import { apply, constantValue, type Op, shapeError, type Tensor } from "../tensor.ts";
import { exp, mul, neg, sub, sumTo } from "./elementwise.ts";
import { column, scatterAddLast, scatterAddLastOp } from "./gather.ts";
import { reduceMean, reduceSum } from "./reduce.ts";

const lastAxis = (x: Tensor) => [x.rank - 1];

/** y = exp(x) / sum(exp(x)).  dx = y (dy - sum(y dy)) */
export const softmaxOp: Op = {
  name: "softmax",
  light: false,
  infer: ([x]) => [{ dtype: "float32", shape: x.shape }],
  emit: (e, inputs, outputs) => e.node("Softmax", inputs, outputs, { axis: -1 }),
  gradient: (node, [g]) => {
    if (!g) return [undefined];
    const y = node.outputs[0];
    return [mul(y, sub(g, reduceSum(mul(y, g), lastAxis(y), true)))];
  },
};
export const softmax = (x: Tensor) => apply(softmaxOp, [x])[0];

/** y = x - log(sum(exp(x))).  dx = dy - exp(y) sum(dy) */
export const logSoftmaxOp: Op = {
  name: "logSoftmax",
  light: false,
  infer: ([x]) => [{ dtype: "float32", shape: x.shape }],
  emit: (e, inputs, outputs) => e.node("LogSoftmax", inputs, outputs, { axis: -1 }),
  gradient: (node, [g]) => {
    if (!g) return [undefined];
    const y = node.outputs[0];
    const { op, inputs } = g.node;
    if (op === scatterAddLastOp && constantValue(inputs[0]) === 0) {
      // One log-prob per row was read (dy is zero but for one entry u): dx = u onehot - exp(y) u, two passes saved.
      const [, ids, u] = inputs;
      return [scatterAddLast(mul(exp(y), neg(column(u))), ids, u)];
    }
    return [sub(g, mul(exp(y), reduceSum(g, lastAxis(y), true)))];
  },
};
export const logSoftmax = (x: Tensor) => apply(logSoftmaxOp, [x])[0];

/**
 * y = gamma n + beta with n = (x - mean) r and r = 1/sqrt(var + epsilon), mean and var over the last axis.
 * With h = gamma dy:  dx = r (h - mean(h) - n mean(h n)),  dgamma = sum(dy n),  dbeta = sum(dy).
 * The outputs mean and r ([..., 1]) are there for the gradient; nothing differentiates through them.
 */
export const layerNormOp: Op = {
  name: "layerNorm",
  light: true,
  infer: (inputs) => {
    const [x, gamma, beta] = inputs;
    const width = x.shape[x.rank - 1]?.size;
    if (gamma.rank !== 1 || beta.rank !== 1 || gamma.shape[0].size !== width || beta.shape[0].size !== width)
      shapeError("layerNorm", inputs, "x [..., C], gamma [C], beta [C]");
    const row = { dtype: "float32" as const, shape: [...x.shape.slice(0, -1), { name: "", size: 1 }] };
    return [{ dtype: "float32", shape: x.shape }, row, row];
  },
  emit: (e, inputs, outputs, node) =>
    e.node("LayerNormalization", inputs, outputs, { axis: -1, epsilon: { float: node.attrs.epsilon } }),
  gradient: (node, [g]) => {
    if (!g) return [undefined, undefined, undefined];
    const [x, gamma, beta] = node.inputs;
    const [, mean, r] = node.outputs;
    const n = mul(sub(x, mean), r);
    const h = mul(g, gamma);
    const centred = sub(sub(h, reduceMean(h, lastAxis(h), true)), mul(n, reduceMean(mul(h, n), lastAxis(h), true)));
    return [mul(r, centred), sumTo(mul(g, n), gamma), sumTo(g, beta)];
  },
};
export const layerNorm = (x: Tensor, gamma: Tensor, beta: Tensor, epsilon: number) =>
  apply(layerNormOp, [x, gamma, beta], { epsilon })[0];

/**
 * y = w n with n = x r and r = 1/sqrt(mean(x^2) + epsilon), the mean over the last axis (Zhang and Sennrich 2019).
 * With h = w dy:  dx = r (h - n mean(h n)),  dw = sum(dy n).
 * The output r ([..., 1]) is there for the gradient; nothing differentiates through it.
 * ONNX Runtime's SimplifiedLayerNormalization, which stands in the domain of ONNX's own operators.
 */
export const rmsNormOp: Op = {
  name: "rmsNorm",
  light: true,
  infer: (inputs) => {
    const [x, w] = inputs;
    if (w.rank !== 1 || w.shape[0].size !== x.shape[x.rank - 1]?.size)
      shapeError("rmsNorm", inputs, "x [..., C], weight [C]");
    const row = { dtype: "float32" as const, shape: [...x.shape.slice(0, -1), { name: "", size: 1 }] };
    return [{ dtype: "float32", shape: x.shape }, row];
  },
  emit: (e, inputs, outputs, node) =>
    e.node("SimplifiedLayerNormalization", inputs, outputs, { axis: -1, epsilon: { float: node.attrs.epsilon } }),
  gradient: (node, [g]) => {
    if (!g) return [undefined, undefined];
    const [x, w] = node.inputs;
    const r = node.outputs[1];
    const n = mul(x, r);
    const h = mul(g, w);
    return [mul(r, sub(h, mul(n, reduceMean(mul(h, n), lastAxis(h), true)))), sumTo(mul(g, n), w)];
  },
};
export const rmsNorm = (x: Tensor, w: Tensor, epsilon: number) => apply(rmsNormOp, [x, w], { epsilon })[0];

/** H = -sum(p log p) over the last axis, from log-probs. */
export function entropy(logProbs: Tensor): Tensor {
  return neg(reduceSum(mul(exp(logProbs), logProbs), lastAxis(logProbs)));
}
