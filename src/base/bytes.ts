/** @file Bytes, one after the other, and those that are missing. */
import { fail } from "./errors.ts";

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((n, { length }) => n + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** @throws checkpoint - a file has fewer bytes than are wanted of it */
export function endsTooEarly(name: string, size: number, offset: number, length: number): never {
  fail("checkpoint", {
    where: name,
    found: `${size} bytes`,
    expected: `at least ${offset + length} bytes (${offset + length - size} are missing)`,
    fix: "the file is cut off: copy or download it again",
  });
}
