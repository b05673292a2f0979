/** @file Files of records, one row after another: JSON, JSON lines, CSV, TSV, Parquet. */
import { type Compressors, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import Papa from "papaparse";
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { editDistance, nearest } from "../base/nearest.ts";
import { brief, shorten } from "../base/text.ts";
import { fileName, openFile, readLines, STDIN } from "../platform/files.ts";

/** A record, and where it stands for errors: file, and line or row. A JSON line may be a string instead of an object. */
export interface Row {
  readonly where: string;
  readonly value: string | Readonly<Record<string, unknown>>;
}

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
    return textTable(name, guessKind(lines), each(lines));
  }
  if (kind === undefined)
    return fail("data", {
      where: name,
      found: "an unknown kind of file",
      expected: FILE_KINDS,
      fix: "convert or rename the file; .txt holds plain text",
    });
  return kind === "parquet" ? { kind, name, rows: parquetRows(path) } : textTable(name, kind, readLines(path));
}

function textTable(name: string, kind: Exclude<FileKind, "parquet">, lines: AsyncIterable<string>): Table {
  if (kind === "txt") return { kind, name, lines };
  if (kind === "jsonl") return { kind, name, rows: jsonLines(name, lines) };
  if (kind === "json") return { kind, name, rows: jsonArray(name, lines) };
  return { kind, name, rows: delimited(name, lines, kind) };
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T, void, undefined> {
  yield* items;
}

/** Text that begins with a bracket may still be text. */
function guessKind(lines: readonly string[]): "txt" | "json" | "jsonl" {
  const first = lines.find((line) => line.trim() !== "")?.trim() ?? "";
  if (first.startsWith("{") && isJson(first)) return "jsonl";
  return /^[[{]/.test(first) && isJson(lines.join("\n")) ? "json" : "txt";
}

function isJson(text: string): boolean {
  try {
    parseJson(text);
    return true;
  } catch {
    return false;
  }
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

async function* jsonLines(name: string, lines: AsyncIterable<string>): AsyncGenerator<Row, void, undefined> {
  let number = 0;
  for await (const line of lines) {
    number++;
    if (line.trim() === "") continue;
    const where = `${name}, line ${number}`;
    const expected = "one JSON object or string on the line";
    const array = number === 1 && line.trim().startsWith("[") ? "; an array of rows must be called .json" : "";
    const fix = `correct or remove the line; a file of plain text must be called .txt${array}`;
    let value: unknown;
    try {
      value = parseJson(line);
    } catch (error) {
      fail("data", { where, found: `broken JSON (${messageOf(error)})`, expected, fix }, error);
    }
    if (!isRow(value)) fail("data", { where, found: brief(value), expected, fix });
    yield { where, value };
  }
}

const isRow = (value: unknown): value is Row["value"] =>
  typeof value === "string" || (typeof value === "object" && value !== null && !Array.isArray(value));

/** A whole document: an array of rows. Some programs write JSON lines under this name: they are read as such. */
async function* jsonArray(name: string, source: AsyncIterable<string>): AsyncGenerator<Row, void, undefined> {
  const lines = await allLines(name, source);
  const [first = "", ...others] = lines.filter((line) => line.trim() !== "");
  if (others.length > 0 && first.trim().startsWith("{") && isJson(first)) return yield* jsonLines(name, each(lines));
  const expected = 'an array of objects or strings: [{"prompt": "..."}, ...]';
  let rows: unknown;
  try {
    rows = first === "" ? [] : parseJson(lines.join("\n"));
  } catch (error) {
    const found = `broken JSON (${messageOf(error)})`;
    fail("data", { where: name, found, expected, fix: "correct the file; JSON lines must be called .jsonl" }, error);
  }
  if (!Array.isArray(rows)) {
    const inner = Object.entries(rows ?? {}).find(([, value]) => Array.isArray(value))?.[0];
    const fix = inner === undefined ? "write an array" : `write the array ${JSON.stringify(inner)} alone`;
    fail("data", { where: name, found: brief(rows), expected, fix });
  }
  for (const [i, value] of rows.entries()) {
    const where = `${name}, item ${i + 1}`;
    if (!isRow(value))
      fail("data", { where, found: brief(value), expected: "an object or a string", fix: "correct it" });
    yield { where, value };
  }
}

/** Characters of the largest CSV, TSV or JSON document, which is taken apart in one piece. */
const LARGEST_TABLE = 1 << 28;

async function allLines(name: string, source: AsyncIterable<string>): Promise<string[]> {
  const lines: string[] = [];
  let characters = 0;
  for await (const line of source) {
    lines.push(line);
    characters += line.length + 1;
    if (characters > LARGEST_TABLE)
      fail("data", {
        where: `${name}, line ${lines.length}`,
        found: `more than ${LARGEST_TABLE >> 20} MiB of text`,
        expected: "a table that fits in memory",
        fix: "split the file, or convert it to JSON lines or Parquet, which are read piece by piece",
      });
  }
  return lines;
}

async function* delimited(
  name: string,
  source: AsyncIterable<string>,
  kind: "csv" | "tsv",
): AsyncGenerator<Row, void, undefined> {
  const lines = await allLines(name, source);
  const [header = ""] = lines;
  const delimiter = kind === "tsv" ? "\t" : header.includes(";") && !header.includes(",") ? ";" : ",";
  const { data, errors } = Papa.parse<string[]>(lines.join("\n"), { delimiter });
  // Rows are counted as a spreadsheet does: the header is row 1.
  const problem = (row: number, found: string, expected: string, fix: string) =>
    fail("data", { where: `${name}, row ${row + 1}`, found, expected, fix });
  const [broken] = errors;
  if (broken)
    problem(
      broken.row ?? 0,
      `${broken.message} (${broken.code})`,
      "fields in closed quotes",
      'write " in a field as ""',
    );
  const [columns, ...rows] = data;
  const twice = columns?.find((column, i) => columns.indexOf(column) !== i);
  if (twice !== undefined) problem(0, `two columns called ${JSON.stringify(twice)}`, "one name for each", "rename one");
  for (const [i, cells] of rows.entries()) {
    if (cells.every((cell) => cell.trim() === "")) continue;
    if (cells.length !== columns.length)
      problem(
        i + 1,
        `${cells.length} fields`,
        `${columns.length}: ${columns.join(", ").slice(0, 200)}`,
        `put a field that contains ${JSON.stringify(delimiter)} in double quotes`,
      );
    yield {
      where: `${name}, row ${i + 2}`,
      value: Object.fromEntries(columns.map((column, c) => [column, cells[c]])),
    };
  }
}

/** hyparquet-compressors 1.1.2 refuses an LZ4 page of no bytes: the dictionary of a column that is all null. */
const DECOMPRESSORS: Compressors = {
  ...compressors,
  LZ4_RAW: (input, length) => (length === 0 ? new Uint8Array(0) : compressors.LZ4_RAW!(input, length)),
};

/** Rows of a Parquet file's largest group: a few bytes may claim any number. */
const LARGEST_GROUP = 10_000_000;

async function* parquetRows(path: string): AsyncGenerator<Row, void, undefined> {
  const source = await openFile(path, "data");
  // The library reads past the end of a broken file where a slice would be shorter; so would a negative offset.
  const slice = async (start: number, end = source.size) =>
    (await source.read(start, Math.max(0, end - start))).buffer as ArrayBuffer;
  const file = { byteLength: source.size, slice };
  try {
    const metadata = await parquetMetadataAsync(file);
    let rowStart = 0;
    for (const [i, { num_rows }] of metadata.row_groups.entries()) {
      if (num_rows > LARGEST_GROUP)
        fail("data", {
          where: `${path}, row group ${i}`,
          found: `${num_rows} rows`,
          expected: `at most ${LARGEST_GROUP} in one group, which is read at once`,
          fix: "write the file again with smaller row groups",
        });
      const rowEnd = rowStart + Number(num_rows);
      for (const row of await parquetReadObjects({ file, metadata, compressors: DECOMPRESSORS, rowStart, rowEnd })) {
        rowStart++;
        yield { where: `${path}, row ${rowStart}`, value: plain(row) as Record<string, unknown> };
      }
      rowStart = rowEnd;
    }
  } catch (error) {
    if (error instanceof ValueheadError && error.kind === "data") throw error;
    fail(
      "data",
      {
        where: path,
        found: `damaged or unknown contents (${messageOf(error)})`,
        expected: "a whole Parquet file",
        fix: "copy or download the file again, or write it anew",
      },
      error,
    );
  } finally {
    await source.close();
  }
}

/** Bigints that a number holds exactly as numbers, and nothing as null, also inside lists and structs. */
function plain(value: unknown): unknown {
  if (value === undefined) return null;
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, plain(v)]));
}
