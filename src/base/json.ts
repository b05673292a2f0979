/** @file JSON from files that may hold anything. */
import { type ErrorKind, fail, messageOf } from "./errors.ts";

/** Far more than any file here needs; far less than would overflow the stack when the value is walked. */
const MAX_DEPTH = 200;
/** Numbers, strings, arrays and objects in one document. The largest tokenizers have two million. */
const MAX_VALUES = 10_000_000;
/**
 * JSON.parse that refuses values nested so deeply that printing or copying them would overflow the stack, and documents of so
 * many values that parsing them would exhaust the machine's memory.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  lookThrough(text);
  return JSON.parse(text);
}

const tooDeep = () => new SyntaxError(`more than ${MAX_DEPTH} arrays or objects inside each other`);

/** Depth and number of values, counted from brackets and commas before anything is built. Strings are skipped. */
function lookThrough(text: string): void {
  let depth = 0;
  let values = 1;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: // "
        i = endOfString(text, i);
        break;
      case 0x5b: // [
      case 0x7b: // {
        values++;
        if (++depth > MAX_DEPTH) throw tooDeep();
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
      case 0x2c: // ,
        values++;
    }
    if (values > MAX_VALUES) throw new SyntaxError(`more than ${MAX_VALUES / 1e6} million values`);
  }
}

/** The position of the quote that closes the string opened at `start`; the end of the text if none does. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return text.length;
}

/**
 * The value of a JSON file.
 * @param path what errors call it; they give line and column if the parser reports them
 */
export function jsonOf(text: string, path: string, kind: ErrorKind): unknown {
  try {
    return parseJson(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text);
  } catch (error) {
    const message = messageOf(error);
    const at = /end of JSON/.test(message) ? text.length : Number(/position (\d+)/.exec(message)?.[1] ?? Number.NaN);
    const before = text.slice(0, at).split("\n");
    const place = Number.isNaN(at) ? "" : `, line ${before.length}, column ${before[before.length - 1].length + 1}`;
    return fail(
      kind,
      {
        where: `${path}${place}`,
        found: text.trim() === "" ? "an empty file" : `broken JSON (${message})`,
        expected: "a JSON document",
        fix: "correct the file, or copy or download it again",
      },
      error,
    );
  }
}

/** Whether a text is JSON. */
export function isJson(text: string): boolean {
  try {
    parseJson(text);
    return true;
  } catch {
    return false;
  }
}
