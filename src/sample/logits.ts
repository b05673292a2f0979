/** @file Sums and ranks over a row of logits, all of them or those of some ids. */

/** sum of exp((z - max) / temperature) over some ids or all: Infinity where they are far more likely than max. */
export function sumOfExp(z: Float32Array, ids: Int32Array | undefined, max: number, temperature: number): number {
  const n = ids?.length ?? z.length;
  let sum = 0;
  for (let i = 0; i < n; i++) sum += Math.exp((z[ids ? ids[i] : i] - max) / temperature);
  return sum;
}

/** log sum exp of the logits of some ids or all. */
export function logSumOfExp(logits: Float32Array, ids: Int32Array | undefined): number {
  const n = ids?.length ?? logits.length;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < n; i++) max = Math.max(max, logits[ids ? ids[i] : i]);
  let sum = 0;
  for (let i = 0; i < n; i++) sum += Math.exp(logits[ids ? ids[i] : i] - max);
  return max + Math.log(sum);
}

/** The k-th largest logit of the candidates. `heap` [k] holds the k largest so far, the smallest on top. */
export function kthLargest(logits: Float32Array, candidates: Int32Array | undefined, heap: Float32Array): number {
  const k = heap.length;
  heap.fill(Number.NEGATIVE_INFINITY);
  const n = candidates?.length ?? logits.length;
  for (let i = 0; i < n; i++) {
    const x = logits[candidates ? candidates[i] : i];
    if (!(x > heap[0])) continue;
    let at = 0; // x replaces the top and sinks to its place
    for (let child = 1; child < k; child = 2 * at + 1) {
      if (child + 1 < k && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= x) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = x;
  }
  return heap[0];
}
