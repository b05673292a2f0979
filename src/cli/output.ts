/** @file Text for terminals: lines, numbers, tables, columns. All that is printed for people goes through here. */

import { randomUUID } from "node:crypto";
import { eastAsianWidth } from "get-east-asian-width";
import { shellQuote } from "../base/shell.ts";
import { visible, visibleLines } from "../base/text.ts";

type Stream = NodeJS.WriteStream;

// ---- colour ----

/**
 * Stands for the escape character in what {@link style} returns. Nobody can guess it: an escape in a text that comes from a
 * file is shown, not obeyed.
 */
const ESCAPE = randomUUID();
const STYLED = new RegExp(`${ESCAPE}\\[(\\d+)m`, "g");

const styled = (on: number, off: number) => (text: string) => `${ESCAPE}[${on}m${text}${ESCAPE}[${off}m`;

/** Seen where {@link print} and its like write to a terminal that has colours; elsewhere just the text. */
export const style = {
  bold: styled(1, 22),
  dim: styled(2, 22),
  red: styled(31, 39),
  green: styled(32, 39),
  yellow: styled(33, 39),
  cyan: styled(36, 39),
};

/** https://no-color.org; FORCE_COLOR as Node reads it; otherwise what the terminal says, which TERM=dumb denies. */
function hasColours(stream: Stream): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  if (NO_COLOR) return false;
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== "0" && FORCE_COLOR !== "false";
  return stream.isTTY === true && TERM !== "dumb" && stream.getColorDepth() > 1;
}

const plain = (text: string) => text.replace(STYLED, "");
const forStream = (text: string, stream: Stream) =>
  visibleLines(text).replace(STYLED, hasColours(stream) ? "\u001b[$1m" : "");

// ---- lines ----

/** Text on stdout as it comes, without a line break. */
export function write(text: string): void {
  process.stdout.write(forStream(text, process.stdout));
}

/** A line on stdout: results. */
export function print(line = ""): void {
  write(`${line}\n`);
}

/** A sentence on stdout, on as many lines as it takes. */
export function printWrapped(text: string): void {
  print(hang(text, columnsOf(process.stdout) ?? Number.POSITIVE_INFINITY, 0));
}

/** A JSON object on one line of stdout. Numbers JSON has no word for (NaN, Infinity) become null. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value)); // control characters that JSON leaves as they are become \u009b: the same value
}

/** A line on stderr, as it stands. */
export function writeError(line: string): void {
  process.stderr.write(`${forStream(line, process.stderr)}\n`);
}

/** A line on stderr: anything that is not a result. Lines that begin with two spaces are to be copied, and stay whole. */
export function note(text: string): void {
  const coloured = text.replace(/^(note|warning):/, (word) =>
    word === "note:" ? style.cyan(word) : style.yellow(word),
  );
  for (const line of coloured.split("\n"))
    writeError(line.startsWith("  ") ? line : hang(line, columnsOf(process.stderr) ?? Number.POSITIVE_INFINITY, 2));
}

/** `  found     ...`, the rest of a long text below its beginning; what is to be copied stays whole. */
export function labelled(label: string, text: string): string {
  const head = `  ${style.dim(label.padEnd(8))}  `;
  const width = columnsOf(process.stderr) ?? Number.POSITIVE_INFINITY;
  return /python -c|valuehead \w+ /.test(text) ? head + text : hang(head + text, width, 12);
}

// ---- width ----

/** Columns of a terminal; of anything else what COLUMNS says, if it does. */
function columnsOf(stream: Stream): number | undefined {
  const columns = stream.columns ?? Number(process.env.COLUMNS || Number.NaN);
  return Number.isInteger(columns) && columns > 0 ? Math.max(columns, 40) : undefined;
}

/** Columns that text on stdout may take. */
export const terminalWidth = (): number => Math.min(columnsOf(process.stdout) ?? 100, 160);

/** Columns of a text: letters of East Asia and emoji take two. */
export function widthOf(styled: string): number {
  const text = plain(styled);
  if (/^[ -~]*$/.test(text)) return text.length;
  let columns = 0;
  for (const { segment } of graphemes().segment(text)) columns += columnsOfGrapheme(segment);
  return columns;
}

let segmenter: Intl.Segmenter | undefined;

const graphemes = (): Intl.Segmenter => {
  segmenter ??= new Intl.Segmenter();
  return segmenter;
};

/** As the package string-width has it, whose table of all sequences of emoji would take 10 ms of every start to read. */
function columnsOfGrapheme(grapheme: string): number {
  const seen = grapheme.replace(/[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Cs}\p{Mn}\p{Me}]/gu, "");
  if (seen === "") return 0;
  if (
    /\p{RI}\p{RI}|(?!\p{RI})\p{Emoji_Presentation}|\p{Extended_Pictographic}\ufe0f|[\d#*]\ufe0f?\u20e3/u.test(grapheme)
  )
    return 2;
  const [first, ...rest] = seen;
  const wide = [first, ...rest.filter((character) => /[\p{Mc}\uff00-\uffef]/u.test(character))];
  return wide.reduce((sum, character) => sum + eastAsianWidth(character.codePointAt(0) as number), 0);
}

export const padEnd = (text: string, width: number): string => text + " ".repeat(Math.max(0, width - widthOf(text)));
export const padStart = (text: string, width: number): string => " ".repeat(Math.max(0, width - widthOf(text))) + text;

/** Cut to `width` columns, the last one an ellipsis. */
export function shorten(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let short = "";
  let columns = 1; // the ellipsis
  for (const { segment } of graphemes().segment(text)) {
    columns += widthOf(segment);
    if (columns > width) break;
    short += segment;
  }
  return `${short}…`;
}

/** Words in lines of at most `width` columns; a longer word is cut. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  const end = () => {
    if (line) lines.push(line);
    line = "";
  };
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (line && widthOf(line) + 1 + widthOf(word) > width) end();
    if (widthOf(word) <= width) {
      line = line ? `${line} ${word}` : word;
      continue;
    }
    for (const { segment } of graphemes().segment(word)) {
      if (widthOf(line) + widthOf(segment) > width) end();
      line += segment;
    }
  }
  end();
  return lines.length === 0 ? [""] : lines;
}

/** A line that is too long goes on below, `indent` columns in. Words stay whole: a path can be copied. */
function hang(text: string, width: number, indent: number): string {
  if (widthOf(text) <= width) return text;
  const lines: string[] = [];
  let line = "";
  for (const piece of text.split(/(?<=\S)(?= +)/)) {
    if (line.trim() !== "" && widthOf(line) + widthOf(piece) > width) {
      lines.push(line);
      line = " ".repeat(indent) + piece.trimStart();
    } else line += piece;
  }
  return [...lines, line].join("\n");
}

/** Two texts beside each other. */
export function sideBySide(left: string, right: string, width: number): string[] {
  const half = Math.floor((width - 3) / 2);
  const [a, b] = [wrap(visible(left.replace(/\s+/g, " ")), half), wrap(visible(right.replace(/\s+/g, " ")), half)];
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) =>
    `${padEnd(a[i] ?? "", half)} | ${b[i] ?? ""}`.trimEnd(),
  );
}

/** Names and values in two columns. */
export function printFacts(facts: readonly (readonly [string, string])[]): void {
  const width = Math.max(...facts.map(([name]) => widthOf(visible(name))));
  const columns = columnsOf(process.stdout) ?? Number.POSITIVE_INFINITY;
  for (const [name, value] of facts)
    print(hang(`  ${padEnd(visible(name), width)}  ${visible(value)}`, columns, width + 4));
}

/** A column of a table: its title, how many columns of the terminal it takes, and how soon it goes where there are few. */
export interface Column {
  readonly title: string;
  readonly width: number;
  /** The lowest goes first; without one it stays. */
  readonly keep?: number;
}

/** The columns that fit beside each other. */
export function fittingColumns<C extends Column>(columns: readonly C[], width: number): C[] {
  const fitting = [...columns];
  const tooWide = () => fitting.reduce((sum, column) => sum + column.width, 0) > width;
  while (tooWide()) {
    const [least] = fitting.filter(({ keep }) => keep !== undefined).sort((a, b) => (a.keep ?? 0) - (b.keep ?? 0));
    if (!least) break;
    fitting.splice(fitting.indexOf(least), 1);
  }
  return fitting;
}

// ---- numbers and words ----

/** `1.234`, or `-` for a number that is not there. */
export function fixed(value: number | null | undefined, digits: number): string {
  if (value === undefined || value === null || Number.isNaN(value)) return "-";
  return value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1"); // no -0.000
}

/** `0.123 ± 0.004`; without a standard error (one number only) just the mean. */
export function withError({ mean, standardError }: { mean: number; standardError: number }): string {
  return Number.isFinite(standardError) ? `${mean.toFixed(3)} ± ${standardError.toFixed(3)}` : mean.toFixed(3);
}

/** `1h 02m`, `3m 04s`, `5s`. */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return s >= 60 ? `${Math.floor(s / 60)}m ${two(s % 60)}s` : `${s}s`;
}

/** `20.3 MB`, in powers of 1000. */
export function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export const thousands = (n: number): string => n.toLocaleString("en-US");

export const commandLine = (...parts: readonly string[]): string => ["valuehead", ...parts.map(shellQuote)].join(" ");
