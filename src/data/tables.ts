/** @file Files of records, one row after another: JSON, JSON lines, CSV, TSV, Parquet. */
import { fail } from "../base/errors.ts";
import { isJson } from "../base/json.ts";
import { editDistance, nearest } from "../base/nearest.ts";
import { brief, each, shorten } from "../base/text.ts";
import { fileName, readLines, STDIN } from "../platform/files.ts";
import type { Row } from "./table-readers.ts";

export type { Row } from "./table-readers.ts";

type FileKind = "txt" | "json" | "jsonl" | "csv" | "tsv" | "parquet";

/** The kinds of files read here or by the callers, for errors. */
export const FILE_KINDS =
  "a name ending in .txt, .json, .jsonl, .csv or .tsv, each also with .gz, or in .parquet; or - for stdin";

/** What the name says a file is; undefined: nothing that is read here. */
export function fileKind(path: string): FileKind | undefined {
  const [, kind, zipped] =
    /\.(txt|jsonl?|csv|tsv|parquet)(\.gz)?$/i.exec(path)?.map((part) => part?.toLowerCase()) ?? [];
  return kind === "parquet" && zipped ? undefined : (kind as FileKind | undefined);
}

/** What has no name that could say what it holds: standard input, and the pipes of a shell's <(...). */
const isStream = (path: string) => path === STDIN || /^\/(dev\/(stdin|fd\/\d+)|proc\/self\/fd\/\d+)$/.test(path);

/** A file that was opened: lines of text, or rows. */
export type Table =
  | { kind: "txt"; name: string; lines: AsyncIterable<string> }
  | { kind: Exclude<FileKind, "txt">; name: string; rows: AsyncIterable<Row> };

/**
 * The lines or rows of a file, in order. Lines and rows without anything in them are skipped among rows.
 *
 * `.json` is an array of objects or strings. Cells of CSV and TSV are text, as written (RFC 4180 quoting; semicolons separate
 * when the header has no comma). Whole numbers of Parquet are numbers where a number holds them exactly. Stdin is JSON or JSON
 * lines when it begins as an array or an object that can be read; otherwise it is text.
 * @throws data - a file that is missing, of another kind or broken, with its line or row
 */
export async function openTable(path: string): Promise<Table> {
  const name = fileName(path);
  const kind = fileKind(path);
  if (kind === undefined && isStream(path)) {
    const lines: string[] = [];
    for await (const line of readLines(path)) lines.push(line);
    return await textTable(name, guessKind(lines), each(lines));
  }
  if (kind === undefined)
    return fail("data", {
      where: name,
      found: "an unknown kind of file",
      expected: FILE_KINDS,
      fix: "convert or rename the file; .txt holds plain text",
    });
  if (kind !== "parquet") return textTable(name, kind, readLines(path));
  const { parquetRows } = await import("./table-readers.ts");
  return { kind, name, rows: parquetRows(path) };
}

async function textTable(
  name: string,
  kind: Exclude<FileKind, "parquet">,
  lines: AsyncIterable<string>,
): Promise<Table> {
  if (kind === "txt") return { kind, name, lines };
  const { delimited, jsonArray, jsonLines } = await import("./table-readers.ts");
  if (kind === "jsonl") return { kind, name, rows: jsonLines(name, lines) };
  if (kind === "json") return { kind, name, rows: jsonArray(name, lines) };
  return { kind, name, rows: delimited(name, lines, kind) };
}

/** Text that begins with a bracket may still be text. */
function guessKind(lines: readonly string[]): "txt" | "json" | "jsonl" {
  const first = lines.find((line) => line.trim() !== "")?.trim() ?? "";
  if (first.startsWith("{") && isJson(first)) return "jsonl";
  return /^[[{]/.test(first) && isJson(lines.join("\n")) ? "json" : "txt";
}

/** Columns that often hold what is looked for, by the names that data sets give them. */
const USUAL =
  /^(prompts?|texts?|query|queries|questions?|instructions?|inputs?|contents?|sentences?|titles?|reviews?)$/i;

/**
 * The first of `columns` that a row has.
 * @param option how the caller's user names another column, for errors
 * @throws data - it has none of them
 */
export function columnOf(
  { where, value: row }: Row & { value: object },
  columns: readonly string[],
  option = "column",
): string {
  const column = columns.find((name) => Object.hasOwn(row, name));
  if (column === undefined) {
    const found = Object.keys(row);
    const name = likelyColumn(row, columns);
    return fail("data", {
      where,
      found: found.length === 0 ? "no columns" : `the columns ${shorten(found.join(", "), 200)}`,
      expected: `a column ${columns.join(" or ")}`,
      fix: name === undefined ? "name the column that holds the text, or correct the file" : choose(option, name),
    });
  }
  return column;
}

/**
 * The text of a row: the value of the first of `columns` it has; null when there is none in the cell.
 * @param option how the caller's user names another column, for errors
 * @param expected what may be in it, for errors
 * @throws data - no such column, or something other than text in it
 */
export function textOf(
  { where, value: row }: Row,
  columns: readonly string[],
  option = "column",
  expected = "text",
): string | null {
  if (typeof row === "string") return row;
  const column = columnOf({ where, value: row }, columns, option);
  const text = row[column];
  if (typeof text === "string") return text;
  if (text === null || text === undefined) return null;
  const name = likelyColumn(row, [], column);
  return fail("data", {
    where: `${where}, column ${column}`,
    found: brief(text),
    expected,
    fix: `correct or remove the row${name === undefined ? ", or name another column" : `, or ${choose(option, name)}`}`,
  });
}

/** The column that is meant, of those with text: a misspelled name, one that data sets use, or the only one there is. */
function likelyColumn(row: Readonly<Record<string, unknown>>, asked: readonly string[], not?: string) {
  const isMeant = (value: unknown) => typeof value === "string" || isConversation(value);
  const candidates = Object.keys(row).filter((name) => name !== not && isMeant(row[name]));
  const same = candidates.find((name) => asked.some((column) => column.toLowerCase() === name.trim().toLowerCase()));
  const close = asked.length === 1 && candidates.length > 0 ? nearest(asked[0], candidates) : undefined;
  const typing = close !== undefined && editDistance(close.toLowerCase(), asked[0].toLowerCase()) <= 2;
  if (same !== undefined || typing) return same ?? close;
  const conversation = candidates.find((name) => isConversation(row[name]));
  if (conversation !== undefined) return conversation;
  return candidates.find((name) => USUAL.test(name.trim())) ?? (candidates.length === 1 ? candidates[0] : close);
}

/** Whether a cell holds messages, as far as their fields say. */
const isConversation = (value: unknown): boolean =>
  Array.isArray(value) && value.length > 0 && value.every((item) => item?.role !== undefined || "from" in Object(item));

/** `use --prompt-column Prompt`; in a program `use column "Prompt"`. */
const choose = (option: string, name: string) =>
  `use ${option} ${option.startsWith("--") && /^[\w.-]+$/.test(name) ? name : JSON.stringify(name)}`;
