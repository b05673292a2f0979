/** @file What a tab's file system says about a file, in the words of the library's one error type. */
import { type ErrorKind, fail, messageOf, ValueheadError } from "../../base/errors.ts";

/** The `code` of an error of the store, or "". */
export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** No room: the browser gives an origin a share of the disk. */
export const isFullDisk = (error: unknown): boolean => codeOf(error) === "ENOSPC";

const KNOWN: Readonly<Record<string, { found: string; fix: string }>> = {
  ENOENT: { found: "nothing at this path", fix: "check the path" },
  EISDIR: { found: "a directory", fix: "give the path of a file" },
  ENOTDIR: { found: "a file where a directory is needed", fix: "check the path" },
  EACCES: { found: "a file that another tab or worker has open", fix: "close the other tab, or wait for it" },
};

/** Rethrows what a read threw as a ValueheadError. */
export function readError(error: unknown, path: string, kind: ErrorKind, expected = "a readable file"): never {
  if (error instanceof ValueheadError) throw error;
  const known = KNOWN[codeOf(error)];
  const fix = known?.fix ?? "check the file";
  fail(kind, { where: path, found: known?.found ?? messageOf(error), expected, fix }, error);
}

/** Errors of the store become ValueheadErrors; whatever else the caller's own code threw passes through. */
export function writeError(error: unknown, path: string, intact: boolean): never {
  const code = codeOf(error);
  if (error instanceof ValueheadError || !/^E[A-Z0-9]+$/.test(code)) throw error;
  const kept = intact ? " (what was there before is intact)" : "";
  if (isFullDisk(error)) {
    const fix = `delete what this site keeps in the browser, or free space on the disk${kept}`;
    const found = "the end of what the browser gives this site (its storage quota)";
    fail("checkpoint", { where: path, found, expected: "room to write it", fix }, error);
  }
  const known = code === "ENOENT" ? { found: "no such folder", fix: "create the folder first" } : KNOWN[code];
  const fix = `${known?.fix ?? "check the path"}${kept}`;
  const found = known?.found ?? messageOf(error);
  fail("checkpoint", { where: path, found, expected: "a place that can be written", fix }, error);
}
