/** @file Hashes and random names. The browser's own SHA-256 has no synchronous form, and takes no pieces. */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";

/** SHA-256 of all parts one after the other, in hexadecimal. Text counts as UTF-8. */
export function sha256Of(parts: Iterable<string | Uint8Array>): string {
  const hash = sha256.create();
  for (const part of parts) hash.update(typeof part === "string" ? utf8ToBytes(part) : part);
  return bytesToHex(hash.digest());
}

/** A unique name. It does not depend on the seeds of a run. */
export function randomId(): string {
  if ("randomUUID" in crypto) return crypto.randomUUID(); // secure contexts only
  const bytes = (crypto as Crypto).getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  return bytesToHex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
