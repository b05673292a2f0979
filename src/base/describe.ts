/** @file Values in words, for errors that say what was found. */

/** A text in quotes, cut short when it is long. */
export function shorten(text: string, limit = 80): string {
  return JSON.stringify(text.length <= limit ? text : `${text.slice(0, limit - 1)}…`);
}

/** Describes a value: numbers and texts as written, anything else by its type. */
export function describe(value: unknown): string {
  if (value === null || typeof value === "number" || typeof value === "undefined") return String(value);
  if (typeof value === "bigint") return `the BigInt ${value}n`;
  if (typeof value === "string") return `the string ${shorten(value)}`;
  const name = typeof value === "object" ? (value.constructor?.name ?? "object") : typeof value;
  return `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`;
}

/** Whether a value is an array or a typed array. */
export function isList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}
