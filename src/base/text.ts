/** @file Makes text from any source safe to show. */

/** What moves a terminal's cursor, changes its settings or the order of what is read: C0, DEL, C1, and Unicode's overrides. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

const escaped = (character: string) => {
  const quoted = JSON.stringify(character).slice(1, -1); // \n, \t, \u001b
  return quoted === character ? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}` : quoted;
};

/** Control characters as JSON would write them, `\u001b`, so that a name out of a file stays a name, on one line. */
export const visible = (text: string): string => text.replace(CONTROLS, escaped);

/** The same, but line breaks and tabs are kept: for text of several lines. */
export const visibleLines = (text: string): string =>
  text.replace(CONTROLS, (character) => (character === "\n" || character === "\t" ? character : escaped(character)));

/** Cut to `width` characters, the last one an ellipsis. */
export function shorten(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join("")}…`;
}

/** Any value on one short line: as JSON where JSON can express it. */
export function brief(value: unknown, width = 60): string {
  if (typeof value === "number") return String(value); // NaN and Infinity too
  if (value instanceof Date || typeof value === "function") return shorten(visible(String(value)), width);
  const json = JSON.stringify(value, (_, v) => (typeof v === "bigint" || isOddNumber(v) ? String(v) : v));
  return shorten(visible(json ?? String(value)), width);
}

const isOddNumber = (value: unknown) => typeof value === "number" && !Number.isFinite(value);

/** What is there already, as something that comes. */
export async function* each<T>(items: readonly T[]): AsyncGenerator<T, void, undefined> {
  yield* items;
}
