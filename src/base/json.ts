/** @file JSON from files that may hold anything. */

/** Far more than any file here needs; far less than what overflows the stack of whoever walks the value. */
const MAX_DEPTH = 200;

/**
 * JSON.parse, but for values nested so deeply that printing or copying them would overflow the stack.
 * @throws SyntaxError
 */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  checkDepth(value, 0);
  return value;
}

function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== "object" || value === null) return;
  if (depth === MAX_DEPTH) throw new SyntaxError(`more than ${MAX_DEPTH} arrays or objects inside each other`);
  for (const inner of Array.isArray(value) ? value : Object.values(value)) checkDepth(inner, depth + 1);
}
