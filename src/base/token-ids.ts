/** @file Checks all token ids from callers: returns int32 ids within the vocabulary, or throws an error that says where. */
import { describe, isList } from "./describe.ts";
import { fail } from "./errors.ts";

/** Token ids as a caller may give them: an Int32Array, another typed array or a plain array, of whole numbers. */
export type IdList = ArrayLike<number>;

export interface IdRules {
  /** How errors call the ids: `query 3`. */
  where: string;
  /** Ids are below this. */
  vocabSize: number;
  /** Fewest ids allowed; default 1. */
  least?: number;
  /** How to fix a list with too few ids. */
  fixEmpty?: string;
  /** What errors call a number in the list; default: `id`. */
  noun?: string;
  /** What the numbers from 0 to vocabSize - 1 are, for errors. */
  range?: string;
  /** How to fix an id outside the vocabulary. */
  fixId?: string;
  /** How errors call the place of one id; default: `where`, position `i`. */
  place?: (i: number) => string;
}

/**
 * Token ids as int32; an Int32Array comes back as it is.
 * @throws input - not a list, too few ids, or an id outside the vocabulary
 */
export function readIds(
  given: unknown,
  { where, vocabSize, least = 1, fixEmpty, fixId, place, ...words }: IdRules,
): Int32Array {
  const { noun = "id", range = `0 to ${vocabSize - 1}` } = words;
  if (!isList(given))
    fail("input", {
      where,
      found: describe(given),
      expected: "token ids: an Int32Array, or an array of whole numbers",
      fix: insteadOfList(given),
    });
  if (given.length < least)
    fail("input", {
      where,
      found: given.length === 0 ? "no tokens" : `${given.length} tokens`,
      expected: least === 1 ? "at least one" : `at least ${least}`,
      fix: fixEmpty ?? "give some tokens",
    });
  for (let i = 0; i < given.length; i++) {
    const id = given[i];
    if (Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize) continue;
    fail("input", {
      where: place?.(i) ?? `${where}, position ${i}`,
      found: `${noun} ${describe(id)}`.trim(),
      expected: range,
      fix: insteadOfId(id) ?? fixId ?? "use the tokenizer of this model",
    });
  }
  return given instanceof Int32Array ? given : Int32Array.from(given as ArrayLike<number>);
}

/**
 * A list of lists of token ids.
 * @throws input - it is not one
 */
export function readRows(given: unknown, where: string): readonly unknown[] {
  if (Array.isArray(given) && typeof given[0] !== "number") return given;
  const isOne = isList(given) && typeof given[0] === "number";
  return fail("input", {
    where,
    found: isOne ? "the ids of one sequence" : describe(given),
    expected: "a list of sequences, each a list of token ids",
    fix: isOne ? "put it in an array: [ids]" : "pass an array such as texts.map((text) => tokenizer.encode(text))",
  });
}

function insteadOfList(given: unknown): string {
  if (typeof given === "string") return "encode the text: tokenizer.encode(text)";
  if (typeof given === "object" && given !== null) {
    if ("tokens" in given) return "pass the tokens of the response: response.tokens";
    if ("data" in given) return "pass its numbers, one row at a time: Array.from(tensor.data, Number)";
    if (Symbol.iterator in given) return "make an array of it: Array.from(ids)";
  }
  return "pass what tokenizer.encode(text) returns";
}

function insteadOfId(id: unknown): string | undefined {
  if (typeof id === "bigint") return "convert the ids: Int32Array.from(ids, Number)";
  if (typeof id === "string" || id instanceof Number) return "convert the ids: Array.from(ids, Number)";
  if (isList(id)) return "pass one sequence of ids here, not a list of sequences";
  if (typeof id === "number" && !Number.isInteger(id))
    return "give whole numbers: ids, not probabilities or embeddings";
  return undefined;
}

/** Each of some lists of token ids once, and which of these each one is. */
export function distinctLists(lists: readonly Int32Array[]): { distinct: Int32Array[]; which: Int32Array } {
  const places = new Map<string, number>();
  const distinct: Int32Array[] = [];
  const which = Int32Array.from(lists, (list) => {
    const key = list.join();
    const place = places.get(key) ?? distinct.push(list) - 1;
    places.set(key, place);
    return place;
  });
  return { distinct, which };
}
