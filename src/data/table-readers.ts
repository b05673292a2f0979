/** @file What takes files of records apart: JSON, JSON lines, CSV, TSV, Parquet. Loaded by tables.ts when a file is read. */
import type { Compressors } from "hyparquet";
import Papa from "papaparse";
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { isJson, parseJson } from "../base/json.ts";
import { brief, each } from "../base/text.ts";
import { openFile } from "../platform/files.ts";

/** A record, and where it stands for errors: file, and line or row. A JSON line may be a string instead of an object. */
export interface Row {
  readonly where: string;
  readonly value: string | Readonly<Record<string, unknown>>;
}

export async function* jsonLines(name: string, lines: AsyncIterable<string>): AsyncGenerator<Row, void, undefined> {
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
export async function* jsonArray(name: string, source: AsyncIterable<string>): AsyncGenerator<Row, void, undefined> {
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

export async function* delimited(
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
const forgiving = (compressors: Compressors): Compressors => ({
  ...compressors,
  LZ4_RAW: (input, length) => (length === 0 ? new Uint8Array(0) : compressors.LZ4_RAW!(input, length)),
});

/** Rows of a Parquet file's largest group: a few bytes may claim any number. */
const LARGEST_GROUP = 10_000_000;

export async function* parquetRows(path: string): AsyncGenerator<Row, void, undefined> {
  const source = await openFile(path, "data");
  // The library reads past the end of a broken file where a slice would be shorter; so would a negative offset.
  const slice = async (start: number, end = source.size) =>
    (await source.read(start, Math.max(0, end - start))).buffer as ArrayBuffer;
  const file = { byteLength: source.size, slice };
  // Only who has such a file loads what reads it: a page would otherwise load 60 kB more.
  const { parquetMetadataAsync, parquetReadObjects } = await import("hyparquet");
  const compressors = forgiving((await import("hyparquet-compressors")).compressors);
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
      for (const row of await parquetReadObjects({ file, metadata, compressors, rowStart, rowEnd })) {
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
