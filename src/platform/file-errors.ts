/**
 * @file What the operating system says about a file, in the words of the library's one error type.
 */
import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { type ErrorKind, fail, messageOf, ValueheadError } from "../base/errors.ts";

/** The `code` of an operating-system or Node error, or "". */
export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** No room: the disk, the quota, or the largest file the process may write. */
export const isFullDisk = (error: unknown): boolean => ["ENOSPC", "EDQUOT", "EFBIG"].includes(codeOf(error));

const FULL: Readonly<Record<string, string>> = {
  ENOSPC: "a full disk (ENOSPC)",
  EDQUOT: "an exhausted disk quota (EDQUOT)",
  EFBIG: "a file larger than the system lets this process write (EFBIG)",
};

/** What is wrong with `path`, in words, for the error numbers a user can do something about. */
function describe(code: string): { found: string; fix: string } | null {
  switch (code) {
    case "ENOENT":
      return { found: "nothing at this path", fix: "check the path" };
    case "EISDIR":
      return { found: "a directory", fix: "give the path of a file" };
    case "ENOTDIR":
      return { found: "a file where a directory is needed", fix: "check the path" };
    case "EACCES":
    case "EPERM":
      return { found: `no permission (${code})`, fix: "change the permissions or choose another path" };
    case "EROFS":
      return { found: "a read-only file system (EROFS)", fix: "choose another path" };
    default:
      return null;
  }
}

/** Rethrows what a read threw as a ValueheadError. */
export function readError(error: unknown, path: string, kind: ErrorKind, expected = "a readable file"): never {
  if (error instanceof ValueheadError) throw error;
  const known = describe(codeOf(error));
  fail(
    kind,
    { where: path, found: known?.found ?? messageOf(error), expected, fix: known?.fix ?? "check the file" },
    error,
  );
}

/** ENOENT: the folder is missing, or is there and accepts no new entries, like /proc or a folder that was deleted while in use. */
function notThere(path: string): { found: string; fix: string } {
  return existsSync(dirname(resolve(path)))
    ? { found: "a folder in which nothing can be made", fix: "choose another path" }
    : { found: "no such folder", fix: "create the folder first" };
}

/** Errors of the operating system become ValueheadErrors; whatever else the caller's own code threw passes through. */
export function writeError(error: unknown, path: string, intact: boolean): never {
  const code = codeOf(error);
  if (error instanceof ValueheadError || !/^E[A-Z0-9]+$/.test(code)) throw error;
  const kept = intact ? " (what was there before is intact)" : "";
  if (isFullDisk(error)) {
    const fix = `${code === "EFBIG" ? "raise the limit (ulimit -f)" : "free some space"} or choose another place${kept}`;
    fail("checkpoint", { where: path, found: FULL[code], expected: "room to write it", fix }, error);
  }
  const known = code === "ENOENT" ? notThere((error as { path?: string }).path ?? path) : describe(code);
  fail(
    "checkpoint",
    {
      where: path,
      found: known?.found ?? messageOf(error),
      expected: "a place that can be written",
      fix: `${known?.fix ?? "check the path and the disk"}${kept}`,
    },
    error,
  );
}
