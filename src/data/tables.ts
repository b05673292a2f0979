/** @file Files of records, one row after another: JSON lines, CSV, TSV, Parquet. */
import { type Compressors, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import Papa from "papaparse";
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { nearest } from "../base/nearest.ts";
import { openFile, readLines } from "../runtime/files.ts";

/** A record, and where it stands for errors: file, and line or row. A JSON line may be a string instead of an object. */
export interface Row {
  readonly where: string;
  readonly value: string | Readonly<Record<string, unknown>>;
}

const READERS: Readonly<Record<string, (path: string) => AsyncGenerator<Row, void, undefined>>> = {
  jsonl: jsonLines,
  csv: delimited,
  tsv: delimited,
  parquet: parquetRows,
};

/** The kinds of files read here or by the callers, for errors. */
export const FILE_KINDS = "a name ending in .txt, .jsonl, .csv or .tsv, each also with .gz, or in .parquet";

/** What the name says a file is; undefined: nothing that is read here. */
export function fileKind(path: string): "txt" | "jsonl" | "csv" | "tsv" | "parquet" | undefined {
  const [, kind, zipped] = /\.(txt|jsonl|csv|tsv|parquet)(\.gz)?$/.exec(path) ?? [];
  return kind === "parquet" && zipped ? undefined : (kind as ReturnType<typeof fileKind>);
}

/**
 * The rows of a .jsonl, .csv, .tsv or .parquet file, in order. Lines and rows without anything in them are skipped.
 *
 * Cells of CSV and TSV are text, as written (RFC 4180 quoting; semicolons separate when the header has no comma). Whole
 * numbers of Parquet are numbers where a number holds them exactly.
 * @throws data - a file that is missing or broken, with its line or row
 */
export function readRows(path: string): AsyncGenerator<Row, void, undefined> {
  return READERS[fileKind(path) as string](path);
}

/**
 * The text of a row: the value of the first of `columns` it has; null when there is none in the cell.
 * @throws data - no such column, or something other than text in it
 */
export function textOf({ where, value: row }: Row, columns: readonly string[]): string | null {
  if (typeof row === "string") return row;
  const column = columns.find((name) => Object.hasOwn(row, name));
  if (column === undefined) {
    const found = Object.keys(row);
    const close = columns.length === 1 && found.length > 0 ? `: did you mean ${nearest(columns[0], found)}?` : "";
    return fail("data", {
      where,
      found: found.length === 0 ? "no columns" : `the columns ${found.join(", ").slice(0, 200)}`,
      expected: `a column ${columns.join(" or ")}`,
      fix: `name the column that holds the text, or correct the file${close}`,
    });
  }
  const text = row[column];
  if (typeof text === "string") return text;
  if (text === null || text === undefined) return null;
  return fail("data", {
    where: `${where}, column ${column}`,
    found: brief(text),
    expected: "text",
    fix: "correct or remove the row, or name another column",
  });
}

/** A value on one short line. */
function brief(value: unknown): string {
  const text = JSON.stringify(value, (_, v) => (typeof v === "bigint" ? String(v) : v)) ?? String(value);
  return text.length <= 60 ? text : `${text.slice(0, 59)}…`;
}

async function* jsonLines(path: string): AsyncGenerator<Row, void, undefined> {
  let number = 0;
  for await (const line of readLines(path)) {
    number++;
    if (line.trim() === "") continue;
    const where = `${path}, line ${number}`;
    const expected = "one JSON object or string on the line";
    const fix = "correct or remove the line; a file of plain text must be called .txt";
    let value: unknown;
    try {
      value = parseJson(line);
    } catch (error) {
      fail("data", { where, found: `broken JSON (${messageOf(error)})`, expected, fix }, error);
    }
    const isRow = typeof value === "string" || (typeof value === "object" && value !== null && !Array.isArray(value));
    if (!isRow) fail("data", { where, found: brief(value), expected, fix });
    yield { where, value: value as Row["value"] };
  }
}

/** Characters of the largest CSV or TSV file, which is taken apart in one piece. */
const LARGEST_TABLE = 1 << 28;

async function* delimited(path: string): AsyncGenerator<Row, void, undefined> {
  const lines: string[] = [];
  let characters = 0;
  for await (const line of readLines(path)) {
    lines.push(line);
    characters += line.length + 1;
    if (characters > LARGEST_TABLE)
      fail("data", {
        where: `${path}, line ${lines.length}`,
        found: `more than ${LARGEST_TABLE >> 20} MiB of text`,
        expected: "a table that fits in memory",
        fix: "split the file, or convert it to JSON lines or Parquet, which are read piece by piece",
      });
  }
  const [header = ""] = lines;
  const delimiter = fileKind(path) === "tsv" ? "\t" : header.includes(";") && !header.includes(",") ? ";" : ",";
  const { data, errors } = Papa.parse<string[]>(lines.join("\n"), { delimiter });
  // Rows are counted as a spreadsheet does: the header is row 1.
  const problem = (row: number, found: string, expected: string, fix: string) =>
    fail("data", { where: `${path}, row ${row + 1}`, found, expected, fix });
  const [broken] = errors;
  if (broken)
    problem(
      broken.row ?? 0,
      `${broken.message} (${broken.code})`,
      "fields in closed quotes",
      'write " in a field as ""',
    );
  const [columns, ...rows] = data;
  const twice = columns?.find((name, i) => columns.indexOf(name) !== i);
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
      where: `${path}, row ${i + 2}`,
      value: Object.fromEntries(columns.map((name, c) => [name, cells[c]])),
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
