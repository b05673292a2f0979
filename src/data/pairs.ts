/** @file Preference pairs: two responses to a prompt, of which one was preferred. Reading them from a file, and as token ids. */
import { type ChatMessage, checkedMessages } from "../base/chat-messages.ts";
import { fail } from "../base/errors.ts";
import { brief } from "../base/text.ts";
import type { Sizes } from "../model/family.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { openTable } from "./tables.ts";

/** Two responses to a prompt: all three texts, or all three lists of messages. */
export interface PreferencePair {
  /** What both answer. */
  readonly prompt: string | readonly ChatMessage[];
  /** The response that was preferred, as it continues the prompt. */
  readonly chosen: string | readonly ChatMessage[];
  /** The other one. */
  readonly rejected: string | readonly ChatMessage[];
}

const COLUMNS = ["prompt", "chosen", "rejected"] as const;

/**
 * The pairs of a file with columns (JSON, JSON lines, CSV, TSV, Parquet), in order: prompt, chosen and rejected, as texts or as lists of
 * messages. Two conversations without a prompt have the one they begin with alike.
 * @throws data - a file of another kind, a row without one of them or with something else in it, no pairs
 */
export async function readPairs(path: string): Promise<PreferencePair[]> {
  const table = await openTable(path);
  const { name } = table;
  if (table.kind === "txt")
    return fail("data", {
      where: name,
      found: "plain text",
      expected: "rows with the columns prompt, chosen and rejected: .json, .jsonl, .csv, .tsv (also .gz) or .parquet",
      fix: 'write one {"prompt": "...", "chosen": "...", "rejected": "..."} a line into a .jsonl file',
    });
  const pairs: PreferencePair[] = [];
  for await (const { where, value } of table.rows) pairs.push(checkedPair(value, where));
  if (pairs.length === 0)
    fail("data", { where: name, found: "nothing in it", expected: "at least one pair", fix: "give a file with pairs" });
  return pairs;
}

/** @throws data - not a prompt with two responses, all of them texts or all of them messages */
export function checkedPair(row: unknown, where: string): PreferencePair {
  const fields = (typeof row === "object" && row !== null ? row : {}) as Readonly<Record<string, unknown>>;
  const isChat = Array.isArray(fields.chosen);
  const pair = isChat && fields.prompt === undefined ? withPrompt(fields, where) : fields;
  for (const column of COLUMNS) {
    const value = pair[column];
    if (value === undefined || value === null) {
      const others = Object.keys(fields);
      fail("data", {
        where,
        found: `no ${column}${others.length > 0 ? ` (there are ${others.slice(0, 8).join(", ")})` : ""}`,
        expected: "a prompt with two responses: prompt, chosen and rejected",
        fix: `add ${column}, or leave the row out`,
      });
    }
    if (isChat ? !Array.isArray(value) : typeof value !== "string")
      fail("data", {
        where: `${where}, ${column}`,
        found: brief(value),
        expected: isChat ? "a list of messages, as chosen is" : "a text",
        fix: "give prompt, chosen and rejected all as texts, or all as lists of messages",
      });
  }
  if (!isChat) return pick(pair) as PreferencePair;
  const messages = (column: (typeof COLUMNS)[number]) => checkedMessages(pair[column], `${where}, ${column}`);
  return { prompt: messages("prompt"), chosen: messages("chosen"), rejected: messages("rejected") };
}

const pick = ({ prompt, chosen, rejected }: Readonly<Record<string, unknown>>) => ({ prompt, chosen, rejected });

/** Two whole conversations: what they begin with alike is the prompt, the last message of each is not part of it. */
function withPrompt(fields: Readonly<Record<string, unknown>>, where: string): Readonly<Record<string, unknown>> {
  const [chosen, rejected] = [fields.chosen, fields.rejected] as unknown[][];
  if (!Array.isArray(rejected)) return fields;
  const most = Math.min(chosen.length, rejected.length) - 1;
  let shared = 0;
  while (shared < most && JSON.stringify(chosen[shared]) === JSON.stringify(rejected[shared])) shared++;
  if (shared === 0)
    fail("data", {
      where,
      found: "two conversations that begin differently, and no prompt",
      expected: "a prompt that both answer",
      fix: "add the column prompt, or begin both with the same messages",
    });
  return { prompt: chosen.slice(0, shared), chosen: chosen.slice(shared), rejected: rejected.slice(shared) };
}

/** Pairs as a model reads them, int32 ids. */
export interface EncodedPairs {
  /** Of what is answered. */
  readonly prompts: readonly Int32Array[];
  /** After the prompt, the end of text included. */
  readonly chosen: readonly Int32Array[];
  /** The same of the other response. */
  readonly rejected: readonly Int32Array[];
  /** What was cut or left out, for people. */
  readonly notes: readonly string[];
}

/** What becomes of pairs that are longer than the context. */
export type LongPairs = "error" | "drop" | "truncate";

/**
 * Pairs as token ids. Prompt and response are tokenized together, and what the prompt alone is tokenized as belongs to the prompt; where the
 * two differ at their seam, the prompt ends before it. Texts are followed by the end of text; conversations are written by the model's
 * chat template. Pairs whose responses are the same say nothing and are left out.
 * @throws data - a prompt and response longer than the context, no pair left
 */
export function encodePairs(
  pairs: readonly PreferencePair[],
  tokenizer: Tokenizer,
  { context, contextName }: Pick<Sizes, "context" | "contextName">,
  longPairs: LongPairs = "error",
): EncodedPairs {
  const kept: { prompt: Int32Array; chosen: Int32Array; rejected: Int32Array }[] = [];
  let [equal, long] = [0, 0];
  for (const [i, pair] of pairs.entries()) {
    const { prompt, chosen, rejected } = encodePair(pair, tokenizer, `pair ${i + 1}`);
    if (chosen.join() === rejected.join()) {
      equal++;
      continue;
    }
    const room = context - prompt.length;
    const fits = Math.max(chosen.length, rejected.length) <= room;
    if (!fits && longPairs === "error")
      fail("data", {
        where: `pair ${i + 1}`,
        found: `a prompt of ${prompt.length} tokens, and responses of ${chosen.length} and ${rejected.length}`,
        expected: `at most ${context} together with either response (${contextName})`,
        fix: "shorten the pair, or set longPairs to truncate or drop",
      });
    if (!fits) long++;
    if (fits) kept.push({ prompt, chosen, rejected });
    else if (longPairs === "truncate" && room > 0)
      kept.push({ prompt, chosen: chosen.subarray(0, room), rejected: rejected.subarray(0, room) });
  }
  if (kept.length === 0)
    fail("data", {
      where: `${pairs.length} ${pairs.length === 1 ? "pair" : "pairs"}`,
      found: equal > 0 ? "the same response twice in all of them" : "none that fits into the context",
      expected: "pairs of a response that is preferred and another one",
      fix: equal > 0 ? "look at how chosen and rejected were made" : "give shorter ones",
    });
  const done = longPairs === "drop" ? "left out" : "cut, or left out where the prompt alone is too long";
  return {
    prompts: kept.map(({ prompt }) => prompt),
    chosen: kept.map(({ chosen }) => chosen),
    rejected: kept.map(({ rejected }) => rejected),
    notes: [
      ...(equal > 0 ? [`${equal} of ${pairs.length} pairs left out: chosen and rejected are the same`] : []),
      ...(long > 0 ? [`${long} of ${pairs.length} pairs ${done}: longer than the context of ${context}`] : []),
    ],
  };
}

/** A prompt as token ids, alone and with a response: a text with the end of text after it, a conversation by the chat template. */
export const continued = (prompt: PreferencePair["prompt"], tokenizer: Tokenizer) => ({
  alone:
    typeof prompt === "string"
      ? tokenizer.encode(prompt)
      : tokenizer.applyChatTemplate(prompt, { addGenerationPrompt: true }).ids,
  whole: (response: PreferencePair["chosen"]) =>
    typeof prompt === "string"
      ? withEnd(tokenizer.encode(prompt + response), tokenizer)
      : tokenizer.applyChatTemplate([...prompt, ...(response as readonly ChatMessage[])]).ids,
});

function encodePair({ prompt, chosen, rejected }: PreferencePair, tokenizer: Tokenizer, where: string) {
  const { alone, whole } = continued(prompt, tokenizer);
  const [a, b] = [whole(chosen), whole(rejected)];
  const end = Math.min(sharedLength(alone, a), sharedLength(alone, b));
  // A response from nothing follows the end of text.
  const begin = end === 0 && tokenizer.eosTokenId !== null ? Int32Array.of(tokenizer.eosTokenId) : a.subarray(0, end);
  const ids = { prompt: begin, chosen: a.subarray(end), rejected: b.subarray(end) };
  for (const [name, { length }] of Object.entries(ids))
    if (length === 0)
      fail("data", {
        where: `${where}, ${name}`,
        found: "no tokens",
        expected: "at least one",
        fix:
          name === "prompt" ? "this tokenizer has no end of text to begin with: give a prompt" : "leave the pair out",
      });
  return ids;
}

function withEnd(ids: Int32Array, { eosTokenId }: Tokenizer): Int32Array {
  if (eosTokenId === null || ids.at(-1) === eosTokenId) return ids;
  const all = new Int32Array(ids.length + 1);
  all.set(ids);
  all[ids.length] = eosTokenId;
  return all;
}

function sharedLength(a: Int32Array, b: Int32Array): number {
  let n = 0;
  while (n < Math.min(a.length, b.length) && a[n] === b[n]) n++;
  return n;
}
