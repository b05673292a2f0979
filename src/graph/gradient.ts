/** @file Reverse-mode differentiation: gradients as further symbolic tensors. */
import { fail } from "../base/errors.ts";
import { add } from "./ops/elementwise.ts";
import { scatterAddLast, scatterAddLastOp, scatterAddRows, scatterAddRowsOp } from "./ops/gather.ts";
import { linear, linearOp } from "./ops/linear.ts";
import { constantValue, describe, type Node, sameSizes, type Tensor } from "./tensor.ts";

/**
 * a + b, folded into the operation that made b where that can add onto something for free: a matrix product
 * accumulates, a scatter starts from a instead of from zeros.
 */
export function accumulate(a: Tensor, b: Tensor): Tensor {
  return addOnto(a, b) ?? addOnto(b, a) ?? add(a, b);
}

function addOnto(a: Tensor, b: Tensor): Tensor | undefined {
  const { op, inputs, attrs } = b.node;
  if (op === linearOp && inputs.length === 2) return linear(inputs[0], inputs[1], a, attrs);
  if (op === scatterAddLastOp && constantValue(inputs[0]) === 0) return scatterAddLast(a, inputs[1], inputs[2]);
  if (op === scatterAddRowsOp && constantValue(inputs[0]) === 0) return scatterAddRows(a, inputs[1], inputs[2]);
  return undefined;
}

/**
 * Gradients of sum_i <outputs[i], seeds[i]> with respect to `wrt`, in that order; undefined where no gradient flows.
 * With a scalar loss and the constant 1 as its seed these are the gradients of the loss.
 */
export function gradients(
  outputs: readonly Tensor[],
  seeds: readonly Tensor[],
  wrt: readonly Tensor[],
): (Tensor | undefined)[] {
  const grads = new Map<Tensor, Tensor>();
  const deposit = (t: Tensor, g: Tensor) => {
    const before = grads.get(t);
    grads.set(t, before ? accumulate(before, g) : g);
  };
  outputs.forEach((t, i) => {
    if (!sameSizes(t, seeds[i]))
      fail("shape", {
        where: "gradients()",
        found: `a seed ${describe(seeds[i])} for an output ${describe(t)}`,
        expected: "the same shape",
        fix: "give one seed for each output, shaped like it",
      });
    deposit(t, seeds[i]);
  });
  const targets = new Set(wrt);
  for (const node of reachable(outputs, targets)) {
    const outs = node.outputs.map((t) => grads.get(t));
    if (node.inputs.length === 0 || outs.every((g) => g === undefined)) continue;
    if (!node.op.gradient)
      fail("shape", {
        where: "gradients()",
        found: `operation ${node.op.name}, which has no gradient`,
        expected: "operations that can be differentiated",
        fix: "use the training form of the graph; this operation is for sampling",
      });
    node.op.gradient(node, outs).forEach((g, i) => {
      if (g) deposit(node.inputs[i], g);
    });
  }
  return wrt.map((t) => grads.get(t));
}

/** The nodes between the outputs and the targets, last first; paths that lead to no target are left out. */
function reachable(outputs: readonly Tensor[], targets: ReadonlySet<Tensor>): Node[] {
  const leads = new Map<Node, boolean>();
  const visit = (node: Node): boolean => {
    const known = leads.get(node);
    if (known !== undefined) return known;
    let any = node.outputs.some((t) => targets.has(t));
    for (const t of node.inputs) any = visit(t.node) || any;
    leads.set(node, any);
    return any;
  };
  for (const t of outputs) visit(t.node);
  return [...leads]
    .filter(([, any]) => any)
    .map(([node]) => node)
    .sort((a, b) => b.id - a.id);
}
