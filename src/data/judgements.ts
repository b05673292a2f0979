/** @file What a reward model or a classifier learns from: pairs of which one was preferred, texts with a score, or texts with a label. */
import { type ChatMessage, checkedMessages } from "../base/chat-messages.ts";
import { fail } from "../base/errors.ts";
import { brief } from "../base/text.ts";
import type { Sizes } from "../model/family.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { checkedPair } from "./pairs.ts";
import { openTable } from "./tables.ts";

/** A text, or a conversation. */
export type Judged = string | readonly ChatMessage[];

/** What was said of a text: that it was preferred to another, a number, or a label by name or by number. */
export type Judgement =
  | {
      /** What was preferred, its prompt included. */
      readonly chosen: Judged;
      /** The other. */
      readonly rejected: Judged;
      /** How much better the chosen one is at least to be: it is subtracted from the difference. Default 0. */
      readonly margin?: number;
      /** Where it is from, for errors. */
      readonly where?: string;
    }
  | {
      /** What was scored, its prompt included. */
      readonly text: Judged;
      /** The number that is learned. */
      readonly score: number;
      /** Where it is from, for errors. */
      readonly where?: string;
    }
  | {
      /** What the label is of, its prompt included. */
      readonly text: Judged;
      /** A name, or the number of a label from 0. */
      readonly label: string | number | boolean;
      /** Where it is from, for errors. */
      readonly where?: string;
    };

/** What a file of judgements teaches: an order, a number, or a label. */
export type JudgementKind = "pairs" | "scores" | "labels";

const COLUMNS =
  "chosen and rejected (with prompt or without), or a text (text, prompt and response, or messages) with score or label";

const kindOf = (judgement: object): JudgementKind =>
  "chosen" in judgement ? "pairs" : "score" in judgement ? "scores" : "labels";

/**
 * The judgements of a file with columns (JSON, JSON lines, CSV, TSV, Parquet), in order. A row has
 * - `chosen` and `rejected`, with `prompt` or without, perhaps with `margin`; or
 * - `text`, or `prompt` with `response` (or `completion`), or `messages`, and beside it `score`, a number, or `label`.
 * @throws data - a file of another kind, a row with something else in it, nothing in it
 */
export async function readJudgements(path: string): Promise<Judgement[]> {
  const table = await openTable(path);
  const { name } = table;
  if (table.kind === "txt")
    return fail("data", {
      where: name,
      found: "plain text",
      expected: `rows with the columns ${COLUMNS}: .json, .jsonl, .csv, .tsv (also .gz) or .parquet`,
      fix: 'write one {"prompt": "...", "chosen": "...", "rejected": "..."} or {"text": "...", "label": 1} a line into a .jsonl file',
    });
  const judgements: Judgement[] = [];
  for await (const { where, value } of table.rows) judgements.push(checkedJudgement(value, where));
  if (judgements.length === 0)
    fail("data", { where: name, found: "nothing in it", expected: "at least one row", fix: "give a file with rows" });
  return judgements;
}

/** @throws data - a row that is no judgement */
export function checkedJudgement(row: unknown, where: string): Judgement {
  const fields = (typeof row === "object" && row !== null ? row : {}) as Readonly<Record<string, unknown>>;
  const has = (name: string) => fields[name] !== undefined && fields[name] !== null;
  if (has("chosen") || has("rejected")) return pairOf(fields, where);
  if (!has("score") && !has("label"))
    fail("data", {
      where,
      found: `neither chosen and rejected nor score or label (there are ${Object.keys(fields).slice(0, 8).join(", ") || "no columns"})`,
      expected: COLUMNS,
      fix: "rename the columns, or leave the row out",
    });
  const text = textOf(fields, where);
  if (has("score")) return { text, score: numberOf(fields.score, where, "score"), where };
  const { label } = fields;
  if (typeof label === "number" && !Number.isInteger(label))
    fail("data", {
      where: `${where}, label`,
      found: String(label),
      expected: "a name, or the number of a label from 0",
      fix: "call the column score: then the number itself is learned",
    });
  if (!["string", "number", "boolean"].includes(typeof label) || label === "" || Number(label) < 0)
    fail("data", {
      where: `${where}, label`,
      found: brief(label),
      expected: "a name, or the number of a label from 0",
      fix: "correct it, or leave the row out",
    });
  return { text, label: label as string | number | boolean, where };
}

function pairOf(fields: Readonly<Record<string, unknown>>, where: string): Judgement {
  const margin = fields.margin == null ? {} : { margin: numberOf(fields.margin, where, "margin") };
  // Whole conversations need no prompt, and texts have an empty one.
  const bare = fields.prompt == null;
  const isChat = Array.isArray(fields.chosen);
  if (bare && isChat && Array.isArray(fields.rejected)) {
    const messages = (name: "chosen" | "rejected") => checkedMessages(fields[name], `${where}, ${name}`);
    return { chosen: messages("chosen"), rejected: messages("rejected"), ...margin, where };
  }
  const { prompt, chosen, rejected } = checkedPair(bare && !isChat ? { ...fields, prompt: "" } : fields, where);
  const joined = (response: Judged): Judged =>
    typeof prompt === "string" ? prompt + response : [...prompt, ...(response as readonly ChatMessage[])];
  return { chosen: joined(chosen), rejected: joined(rejected), ...margin, where };
}

/** A CSV has numbers as text. */
function numberOf(value: unknown, where: string, column: string): number {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number === "number" && Number.isFinite(Math.fround(number))) return number;
  return fail("data", {
    where: `${where}, ${column}`,
    found: brief(value),
    expected: "a number",
    fix: "correct it, or leave the row out",
  });
}

const RESPONSES = ["response", "completion"];

function textOf(fields: Readonly<Record<string, unknown>>, where: string): Judged {
  const { text, prompt, messages } = fields;
  if (Array.isArray(messages)) return checkedMessages(messages, `${where}, messages`);
  if (typeof text === "string") return text;
  if (Array.isArray(text)) return checkedMessages(text, `${where}, text`);
  const response = RESPONSES.map((name) => fields[name]).find((value) => value != null);
  if (typeof response === "string" && (prompt == null || typeof prompt === "string")) return (prompt ?? "") + response;
  if (Array.isArray(response) && (prompt == null || Array.isArray(prompt)))
    return checkedMessages([...(prompt ?? []), ...response], `${where}, response`);
  return fail("data", {
    where,
    found: `no text (there are ${Object.keys(fields).slice(0, 8).join(", ")})`,
    expected: "text, or prompt and response (or completion), or messages",
    fix: "rename the column of the text to text, or leave the row out",
  });
}

/** What becomes of texts that are longer than the context. */
export type LongTexts = "error" | "drop" | "truncate";

/** Judgements as a model reads them. */
export interface EncodedJudgements {
  /** What they teach. */
  readonly kind: JudgementKind;
  /** int32 ids of each text; of pairs the chosen and the rejected one of the first, of the second, ... */
  readonly texts: readonly Int32Array[];
  /** Of each judgement: the margin of a pair, a score, the number of a label. */
  readonly targets: Float64Array;
  /** Names of the labels, in the order of their numbers; empty for pairs and scores. */
  readonly labels: readonly string[];
  /** What was cut or left out, for people. */
  readonly notes: readonly string[];
}

/** How judgements are encoded. */
export interface EncodeJudgementOptions {
  /** What becomes of texts that are longer than the context; cut, they keep their last tokens. Default "error". */
  longTexts?: LongTexts;
  /** Whether the end of text follows texts that are no conversations. Default true. */
  endOfText?: boolean;
  /** Names of labels by their numbers; default: those that there are, in the order of the alphabet. */
  labels?: readonly string[];
}

/** A text as a classifier reads it: with the end of text behind it where it learned so, a conversation by the chat template. */
export function encodeJudged(text: Judged, tokenizer: Tokenizer, endOfText: boolean): Int32Array {
  if (typeof text !== "string") return tokenizer.applyChatTemplate(text).ids;
  const ids = tokenizer.encode(text);
  const { eosTokenId } = tokenizer;
  if (!endOfText || eosTokenId === null || ids.at(-1) === eosTokenId) return ids;
  return Int32Array.of(...ids, eosTokenId);
}

/**
 * Judgements as token ids and numbers. Pairs of the same text say nothing and are left out.
 * @throws data - judgements of several kinds, texts that are too long or empty, labels or scores that are all equal, labels that have
 *   no name, nothing left
 */
export function encodeJudgements(
  judgements: readonly Judgement[],
  tokenizer: Tokenizer,
  { context, contextName }: Pick<Sizes, "context" | "contextName">,
  { longTexts = "error", endOfText = true, labels: given }: EncodeJudgementOptions = {},
): EncodedJudgements {
  const placeOf = (i: number) => judgements[i].where ?? `judgement ${i + 1}`;
  const kind = judgements.length === 0 ? "pairs" : kindOf(judgements[0]);
  const stray = judgements.findIndex((judgement) => kindOf(judgement) !== kind);
  if (stray >= 0)
    fail("data", {
      where: placeOf(stray),
      found: `${kindOf(judgements[stray])}, after ${kind}`,
      expected: "judgements of one kind: all pairs, all scores or all labels",
      fix: "put them into files of their own",
    });
  const names = kind === "labels" ? namesOf(judgements, given, placeOf) : [];
  const texts: Int32Array[] = [];
  const targets: number[] = [];
  let [equal, long] = [0, 0];
  for (const [i, judgement] of judgements.entries()) {
    const sides = "chosen" in judgement ? [judgement.chosen, judgement.rejected] : [judgement.text];
    const ids = sides.map((text) => encodeJudged(text, tokenizer, endOfText));
    if (ids.some(({ length }) => length === 0))
      fail("data", { where: placeOf(i), found: "a text without tokens", expected: "a text", fix: "leave the row out" });
    if (ids.length === 2 && ids[0].join() === ids[1].join()) {
      equal++;
      continue;
    }
    const most = Math.max(...ids.map(({ length }) => length));
    if (most > context) {
      if (longTexts === "error")
        fail("data", {
          where: placeOf(i),
          found: `a text of ${most} tokens`,
          expected: `at most ${context} (${contextName})`,
          fix: "shorten it, or set longTexts to truncate or drop",
        });
      long++;
      if (longTexts === "drop") continue;
    }
    texts.push(...ids.map((text) => text.subarray(-context)));
    targets.push(targetOf(judgement, names));
  }
  const [one, many] = { pairs: ["pair", "pairs"], scores: ["text", "texts"], labels: ["text", "texts"] }[kind];
  if (targets.length === 0)
    fail("data", {
      where: `${judgements.length} ${judgements.length === 1 ? one : many}`,
      found:
        equal > 0 ? "the same text twice in all of them" : long > 0 ? "none that fits into the context" : "nothing",
      expected: "at least one to learn from",
      fix: equal > 0 ? "look at how chosen and rejected were made" : "give shorter ones",
    });
  const done = longTexts === "drop" ? "left out" : "cut to their last tokens";
  return {
    kind,
    texts,
    targets: Float64Array.from(targets),
    labels: names,
    notes: [
      ...(equal > 0 ? [`${equal} of ${judgements.length} pairs left out: chosen and rejected are the same`] : []),
      ...(long > 0 ? [`${long} of ${judgements.length} ${many} ${done}: longer than the context of ${context}`] : []),
    ],
  };
}

/** @throws data - targets that are all equal: nothing can be learned from them */
export function refuseEqualTargets({ kind, targets, labels }: EncodedJudgements): void {
  if (kind === "pairs" || targets.some((target) => target !== targets[0])) return;
  const what = kind === "scores" ? `the score ${targets[0]}` : `the label ${labels[targets[0]]}`;
  fail("data", {
    where: "training data",
    found: `${what} for all ${targets.length} texts`,
    expected: kind === "scores" ? "scores that differ" : "at least two labels",
    fix: "give texts of the other kind too: from these nothing can be learned but that one answer",
  });
}

function targetOf(judgement: Judgement, names: readonly string[]): number {
  if ("chosen" in judgement) return judgement.margin ?? 0;
  if ("score" in judgement) return judgement.score;
  return indexOf(judgement.label, names);
}

const isIndex = (label: string | number | boolean) => typeof label === "number" || /^\d+$/.test(String(label));

/** A name's place, or a number as it is. */
function indexOf(label: string | number | boolean, names: readonly string[]): number {
  const named = names.indexOf(String(label));
  return named >= 0 || !isIndex(label) ? named : Number(label);
}

/** Whether all labels of some judgements are among these names, or numbers of them. */
export const haveLabels = (judgements: readonly Judgement[], names: readonly string[]): boolean =>
  judgements.every((judgement) => {
    const place = "label" in judgement ? indexOf(judgement.label, names) : -1;
    return place >= 0 && place < names.length;
  });

/** The names of the labels: those that are given, or those that there are. */
function namesOf(
  judgements: readonly Judgement[],
  given: readonly string[] | undefined,
  placeOf: (i: number) => string,
): readonly string[] {
  const labels = judgements.map((judgement) => (judgement as { label: string | number | boolean }).label);
  const names = given ?? foundNames(labels);
  const wrong = labels.findIndex((label) => !(indexOf(label, names) >= 0 && indexOf(label, names) < names.length));
  if (wrong >= 0)
    fail("data", {
      where: `${placeOf(wrong)}, label`,
      found: brief(labels[wrong]),
      expected: `one of ${names.join(", ")}, or its number from 0 to ${names.length - 1}`,
      fix: given ? "correct it, or name all labels" : "give all labels as names, or all as numbers",
    });
  return names;
}

function foundNames(labels: readonly (string | number | boolean)[]): readonly string[] {
  if (labels.every(isIndex))
    return Array.from(
      { length: labels.reduce<number>((most, label) => Math.max(most, Number(label)), 0) + 1 },
      (_, i) => `LABEL_${i}`,
    );
  return [...new Set(labels.map(String))].sort();
}
