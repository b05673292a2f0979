/** @file How much memory a program needs while it runs, besides its inputs and outputs. */
import type { Program } from "./onnx.ts";
import { elementCount, isInput, type Node, type Tensor } from "./tensor.ts";

/**
 * The most bytes that intermediate results occupy at once when operations run in the order they were made: close to what ONNX
 * Runtime, which may reorder them and compute in place, takes and keeps for the program.
 */
export function workingBytes(program: Program): number {
  const results = new Set(Object.values(program.outputs));
  const given = (t: Tensor) => isInput(t) || results.has(t) || program.cuts?.has(t) === true;
  const nodes = new Set<Node>();
  const stack = [...results];
  for (let t = stack.pop(); t; t = stack.pop()) {
    if (isInput(t) || program.cuts?.has(t) || nodes.has(t.node)) continue;
    nodes.add(t.node);
    stack.push(...t.node.inputs);
  }
  const order = [...nodes].sort((a, b) => a.id - b.id);
  const lastUse = new Map<Tensor, Node>();
  for (const node of order) for (const t of node.inputs) if (!given(t)) lastUse.set(t, node);
  let live = 0;
  let most = 0;
  for (const node of order) {
    for (const t of node.outputs) if (lastUse.has(t)) live += 4 * elementCount(t);
    most = Math.max(most, live);
    for (const t of new Set(node.inputs)) if (lastUse.get(t) === node) live -= 4 * elementCount(t);
  }
  return most;
}
