/** @file Byte-pair encoding (Sennrich et al. 2016): the pair that was merged first in training is merged first. */
import type { Model, TokenizerModelJSON } from "./parts.ts";

/** Ids are whole numbers below it: two of them make one key of a Map. */
const PAIR = 2 ** 26;

/** @throws Error - a merge whose parts or result are not in the vocabulary */
export function bytePairModel(json: TokenizerModelJSON, vocab: ReadonlyMap<string, number>): Model {
  const prefix = json.continuing_subword_prefix ?? "";
  const suffix = json.end_of_word_suffix ?? "";
  const fallback = json.byte_fallback === true;
  const unk = json.unk_token === null || json.unk_token === undefined ? undefined : vocab.get(json.unk_token);
  const ranks = new Map<number, number>(); // pair -> rank
  const merged: number[] = []; // rank -> id
  ((json.merges ?? []) as (string | [string, string])[]).forEach((merge, rank) => {
    const [left, right] = typeof merge === "string" ? splitOnce(merge) : merge;
    const ids = [vocab.get(left), vocab.get(right), vocab.get(left + right.slice(prefix.length))];
    if (ids.includes(undefined))
      throw new Error(`merge ${rank + 1}, ${JSON.stringify(merge)}, is not in the vocabulary`);
    const [a, b, c] = ids as number[];
    ranks.set(a * PAIR + b, rank);
    merged[rank] = c;
  });
  const byteIds = Array.from({ length: 256 }, (_, byte) =>
    vocab.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );
  const utf8 = new TextEncoder();

  const symbols = (word: string): number[] => {
    const ids: number[] = [];
    let unknown = false; // one not yet written down: several in a row may become one
    const characters = Array.from(word);
    characters.forEach((character, i) => {
      const first = i === 0 ? character : prefix + character;
      const symbol = i === characters.length - 1 ? first + suffix : first;
      const id = vocab.get(symbol);
      if (id !== undefined) {
        if (unknown) ids.push(unk as number);
        unknown = false;
        ids.push(id);
        return;
      }
      const bytes = fallback ? Array.from(utf8.encode(symbol), (byte) => byteIds[byte]) : [undefined];
      if (!bytes.includes(undefined)) ids.push(...(bytes as number[]));
      else if (unk !== undefined) {
        if (unknown && json.fuse_unk !== true) ids.push(unk);
        unknown = true;
      }
    });
    if (unknown) ids.push(unk as number);
    return ids;
  };

  return (word) => {
    const whole = json.ignore_merges === true ? vocab.get(word) : undefined;
    return whole !== undefined ? [whole] : mergeAll(symbols(word), ranks, merged);
  };
}

/** Older files write a merge as two tokens with a space between them. */
function splitOnce(merge: string): [string, string] {
  const space = merge.indexOf(" ");
  return [merge.slice(0, space), merge.slice(space + 1)];
}

/** Merges in order of rank, of equal rank from the left: n symbols in O(n log n). */
function mergeAll(ids: number[], ranks: ReadonlyMap<number, number>, merged: readonly number[]): number[] {
  const length = ids.length;
  if (length < 2) return ids;
  const next = Array.from(ids, (_, i) => (i + 1 < length ? i + 1 : -1));
  const previous = Array.from(ids, (_, i) => i - 1);
  const heap: number[] = []; // rank * length + position
  const offer = (position: number) => {
    const after = next[position];
    const rank = after === -1 ? undefined : ranks.get(ids[position] * PAIR + ids[after]);
    if (rank !== undefined) push(heap, rank * length + position);
  };
  for (let i = 0; i < length - 1; i++) offer(i);
  while (heap.length > 0) {
    const top = pop(heap);
    const position = top % length;
    const after = next[position];
    const rank = Math.floor(top / length);
    // Merged away, the last one, or a pair that is no longer there.
    if (ids[position] < 0 || after === -1 || ranks.get(ids[position] * PAIR + ids[after]) !== rank) continue;
    ids[position] = merged[rank];
    ids[after] = -1;
    next[position] = next[after];
    if (next[position] !== -1) previous[next[position]] = position;
    if (previous[position] >= 0) offer(previous[position]);
    offer(position);
  }
  return ids.filter((id) => id >= 0);
}

function push(heap: number[], key: number): void {
  let i = heap.length;
  heap.push(key);
  while (i > 0) {
    const parent = (i - 1) >> 1;
    if (heap[parent] <= key) break;
    heap[i] = heap[parent];
    i = parent;
  }
  heap[i] = key;
}

function pop(heap: number[]): number {
  const top = heap[0];
  const key = heap.pop() as number;
  const size = heap.length;
  if (size === 0) return top;
  let i = 0;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= size) break;
    if (child + 1 < size && heap[child + 1] < heap[child]) child++;
    if (heap[child] >= key) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = key;
  return top;
}
