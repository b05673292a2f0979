/** @file Hashes and random names. */
import { createHash, randomUUID } from "node:crypto";

/** SHA-256 of all parts one after the other, in hexadecimal. Text counts as UTF-8. */
export function sha256Of(parts: Iterable<string | Uint8Array>): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/** A unique name. It does not depend on the seeds of a run. */
export const randomId = (): string => randomUUID();
