/** @file JSON from files that may hold anything. */

/** Far more than any file here needs; far less than would overflow the stack when the value is walked. */
const MAX_DEPTH = 200;
/** Numbers, strings, arrays and objects in one document. The largest tokenizers have two million. */
const MAX_VALUES = 10_000_000;
/** Shorter texts cannot hold enough to matter. */
const LOOKED_THROUGH_FROM = 1_000_000;

/**
 * JSON.parse that refuses values nested so deeply that printing or copying them would overflow the stack, and documents of so
 * many values that parsing them would exhaust the machine's memory.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  if (text.length >= LOOKED_THROUGH_FROM) lookThrough(text);
  const value: unknown = JSON.parse(text);
  checkDepth(value, 0);
  return value;
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

function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== "object" || value === null) return;
  if (depth === MAX_DEPTH) throw tooDeep();
  for (const inner of Array.isArray(value) ? value : Object.values(value)) checkDepth(inner, depth + 1);
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
