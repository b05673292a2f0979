/** @file One differentiated graph cut in two: a forward program, and a backward program fed with what the forward saved. */
import { gradients } from "./gradient.ts";
import type { Program } from "./onnx.ts";
import { isInput, type Node, type Tensor, type TensorType } from "./tensor.ts";

/**
 * What to keep between forward and backward: `heavy` keeps the results of matrix products and softmax and recomputes the
 * cheap rest; `nothing` keeps only the inputs and recomputes all of it (gradient checkpointing).
 */
export type Keep = "heavy" | "nothing";

export interface ForwardBackward {
  readonly forward: Program;
  readonly backward: Program;
  /** What the forward program writes and the backward program reads, by name. */
  readonly saved: ReadonlyMap<string, TensorType>;
}

/**
 * @param name     for errors and profiles
 * @param outputs  results of the forward pass
 * @param seeds    inputs of the backward pass: the gradient of each output, by output name
 * @param wrt      what to differentiate by: the backward program's outputs are called `d.<name>`; one that no gradient reaches
 *                 has none
 * @param finish   what to do with each gradient, such as adding it to an accumulator (default: nothing)
 */
export function forwardBackward(
  name: string,
  outputs: Readonly<Record<string, Tensor>>,
  seeds: Readonly<Record<string, Tensor>>,
  wrt: Readonly<Record<string, Tensor>>,
  options: { keep?: Keep; finish?: (name: string, gradient: Tensor) => Tensor } = {},
): ForwardBackward {
  const { keep = "heavy", finish = (_, g) => g } = options;
  const names = Object.keys(seeds);
  const inForward = new Set(reach(Object.values(outputs)));
  const grads = gradients(
    names.map((n) => outputs[n]),
    names.map((n) => seeds[n]),
    Object.values(wrt),
  );
  const results: Record<string, Tensor> = {};
  Object.keys(wrt).forEach((n, i) => {
    const g = grads[i];
    if (g) results[`d.${n}`] = finish(n, g);
  });

  const cuts = new Map<Tensor, string>();
  const saved = new Map<string, TensorType>();
  const savedOutputs: Record<string, Tensor> = {};
  const seen = new Set<Tensor>();
  const visit = (t: Tensor) => {
    if (seen.has(t)) return;
    seen.add(t);
    if (keep === "heavy" && inForward.has(t.node) && !isInput(t) && !t.node.op.light) {
      const key = `saved.${cuts.size}`;
      cuts.set(t, key);
      saved.set(key, t);
      savedOutputs[key] = t;
    } else t.node.inputs.forEach(visit);
  };
  Object.values(results).forEach(visit);
  return {
    forward: { name: `${name}.forward`, outputs: { ...outputs, ...savedOutputs } },
    backward: { name: `${name}.backward`, outputs: results, cuts },
    saved,
  };
}

function reach(from: readonly Tensor[]): Iterable<Node> {
  const nodes = new Set<Node>();
  const visit = (node: Node) => {
    if (nodes.has(node)) return;
    nodes.add(node);
    for (const t of node.inputs) visit(t.node);
  };
  for (const t of from) visit(t.node);
  return nodes;
}
