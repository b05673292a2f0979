/** @file Sums and ranks over a row of logits, all of them or those of some ids. */
import { expRow } from "../nn/exp-kernel.ts";

/**
 * Weights exp((z - max) / temperature) of some ids or all, relative to the largest logit.
 * @returns the largest logit, the weights in the order of the ids, and their sum. Until another row is weighed the memory is the caller's
 */
export function weigh(z: Float32Array, ids: Int32Array | undefined, temperature: number) {
  const row = expRow(z.length);
  row.read(z, ids);
  const max = row.largest();
  return { max, total: row.weigh(max, temperature), weights: row.weights };
}

/** sum of exp((z - max) / temperature) over some ids or all: Infinity where they are far more likely than max. */
export function sumOfExp(z: Float32Array, ids: Int32Array | undefined, max: number, temperature: number): number {
  const row = expRow(z.length);
  row.read(z, ids);
  const largest = Math.max(max, row.largest());
  return row.sum(largest, temperature) * Math.exp((largest - max) / temperature);
}

/** log sum exp of the logits of some ids or all. */
export function logSumOfExp(logits: Float32Array, ids: Int32Array | undefined): number {
  const row = expRow(logits.length);
  row.read(logits, ids);
  const max = row.largest();
  return max + Math.log(row.sum(max, 1));
}

/**
 * Of the candidates, or of all ids, those whose logits are not below the k-th largest, ascending. NaN stays, to be found later.
 * @param heap [k], for the k largest so far, the smallest on top
 * @param ids  [candidates], for those that may stay
 */
export function mostLikely(
  logits: Float32Array,
  candidates: Int32Array | undefined,
  heap: Float32Array,
  ids: Int32Array,
): Int32Array {
  const k = heap.length;
  heap.fill(Number.NEGATIVE_INFINITY);
  const row = expRow(logits.length);
  row.read(logits, candidates);
  const n = candidates?.length ?? logits.length;
  let floor = heap[0];
  let count = 0;
  for (let four = row.next(0, floor); four < n; four = row.next(four + 4, floor))
    for (let i = four; i < four + 4 && i < n; i++) {
      const x = row.row[i];
      if (x < floor) continue;
      ids[count++] = i;
      if (!(x > floor)) continue;
      let at = 0; // x replaces the top and sinks to its place
      for (let child = 1; child < k; child = 2 * at + 1) {
        if (child + 1 < k && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= x) break;
        heap[at] = heap[child];
        at = child;
      }
      heap[at] = x;
      floor = heap[0];
    }
  let m = 0;
  for (let j = 0; j < count; j++) if (!(row.row[ids[j]] < floor)) ids[m++] = candidates ? candidates[ids[j]] : ids[j];
  return ids.slice(0, m);
}
