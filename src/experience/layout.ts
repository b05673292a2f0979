/**
 * @file Where prompts and responses stand in the rows that a model reads. Side by side where that is less work: nothing is computed
 * for the padding of shorter sequences, and a prompt that several responses answer is there once, with the responses behind it.
 */
import { distinctLists } from "../base/token-ids.ts";

/** Rows of tokens. Every sequence is a prompt and all but the last token of a response: that is predicted and not read. */
export interface Layout {
  /** Token ids [B, T]. */
  readonly ids: Int32Array;
  readonly B: number;
  readonly T: number;
  /** Where each token stands in its own sequence, [B, T]; undefined: every row is one sequence. */
  readonly positions?: Int32Array;
  /** The place in [B, T] of each prompt's last token. */
  readonly promptEnds: Int32Array;
  /** The place of each response's first token. */
  readonly starts: Int32Array;
}

/** Sequence lengths are rounded up to a multiple of this, so that few programs serve all lengths. */
const LENGTH_MULTIPLE = 8;
/** Rows longer than the longest sequence hold so many times it, at most. */
const LONGEST = 8;
/** From this many rows on their number is rounded up to an eighth of it: few programs again. */
const ROWS_ROUNDED = 8;
/**
 * A token's work in rows of T is taken to be WIDTH + T: its products with weights, and with the tokens of its row. For a model 128 wide
 * the first is much more than that; of what is kept for the backward pass it is right for heads of 64.
 */
const WIDTH = 640;
/** Side by side must be less work than one sequence a row by this factor: it takes programs of its own. */
const WORTH = 0.9;

/** A row that is filled: sequences, those of one prompt together. */
interface Row {
  length: number;
  readonly groups: { readonly prompt: Int32Array; readonly members: number[] }[];
}

/**
 * @param queries   the prompts
 * @param responses what answers them
 * @param context   the longest a row may be
 */
export function layOut(queries: readonly Int32Array[], responses: readonly Int32Array[], context: number): Layout {
  const read = responses.map(({ length }) => Math.max(0, length - 1));
  const longest = Math.max(...queries.map(({ length }, i) => length + read[i]));
  const rounded = (length: number) => Math.min(context, Math.ceil(length / LENGTH_MULTIPLE) * LENGTH_MULTIPLE);
  const T = rounded(longest);
  const alone = queries.map((prompt, i): Row => ({ length: T, groups: [{ prompt, members: [i] }] }));
  let best = { rows: alone, B: alone.length, T, work: WORTH * work(alone.length, T) };
  const groups = groupsOf(queries);
  const largest = rounded(Math.max(...groups.map((group) => sizeOf(group, read))));
  for (const length of lengths(T, largest, Math.min(context, LONGEST * T))) {
    const rows = fill(groups, read, length);
    const B = roundedRows(rows.length);
    const needs = work(B, length);
    if (needs < best.work) best = { rows, B, T: length, work: needs };
  }
  return place(best, queries, responses, read);
}

/** Lengths of rows that are tried: whole times the longest sequence, or the largest group of those that answer one prompt. */
function* lengths(sequence: number, group: number, most: number): Generator<number> {
  for (const base of new Set([sequence, group]))
    for (let length = base; length <= most; length += base) if (length > sequence) yield length;
}

const sizeOf = ({ prompt, members }: Row["groups"][number], read: readonly number[]): number =>
  members.reduce((n, i) => n + read[i], prompt.length);

const work = (B: number, T: number) => B * T * (WIDTH + T);

function roundedRows(rows: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(rows / ROWS_ROUNDED)));
  return Math.ceil(rows / step) * step;
}

/** The responses to each prompt. */
function groupsOf(queries: readonly Int32Array[]): Row["groups"] {
  const { distinct, which } = distinctLists(queries);
  const groups = distinct.map((prompt) => ({ prompt, members: [] as number[] }));
  which.forEach((group, i) => {
    groups[group].members.push(i);
  });
  return groups;
}

/** The largest groups first, each into the fullest row that has room for its prompt and a response, as far as it goes. */
function fill(groups: Row["groups"], read: readonly number[], T: number): Row[] {
  const rows: Row[] = [];
  for (const { prompt, members } of groups.toSorted((a, b) => sizeOf(b, read) - sizeOf(a, read)))
    for (let next = 0; next < members.length; ) {
      const least = prompt.length + read[members[next]];
      let row: Row | undefined;
      for (const one of rows) if (one.length + least <= T && !(row && one.length <= row.length)) row = one;
      if (!row) {
        row = { length: 0, groups: [] };
        rows.push(row);
      }
      const inside: number[] = [];
      row.length += prompt.length;
      for (; next < members.length && row.length + read[members[next]] <= T; next++) {
        inside.push(members[next]);
        row.length += read[members[next]];
      }
      row.groups.push({ prompt, members: inside });
    }
  return rows;
}

function place(
  { rows, B, T }: { rows: readonly Row[]; B: number; T: number },
  queries: readonly Int32Array[],
  responses: readonly Int32Array[],
  read: readonly number[],
): Layout {
  const ids = new Int32Array(B * T);
  const positions = new Int32Array(B * T); // what is not filled is one token after another, by itself
  const promptEnds = new Int32Array(queries.length);
  const starts = new Int32Array(queries.length);
  for (const [b, { groups }] of rows.entries()) {
    let at = b * T;
    const write = (tokens: Int32Array, from: number) => {
      ids.set(tokens, at);
      for (let t = 0; t < tokens.length; t++) positions[at++] = from + t;
    };
    for (const { prompt, members } of groups) {
      write(prompt, 0);
      const end = at - 1;
      for (const i of members) {
        promptEnds[i] = end;
        starts[i] = at;
        write(responses[i].subarray(0, read[i]), prompt.length);
      }
    }
  }
  const single = rows.every(({ groups }) => groups.length === 1 && groups[0].members.length === 1);
  return { ids, B, T, promptEnds, starts, ...(!single && { positions }) };
}
