/** @file A list of the files of a directory with their checksums, in the form `sha256sum -c` reads. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { readError } from "./file-errors.ts";
import { writeTextAtomic } from "./file-writing.ts";
import { exists, readText } from "./files.ts";

export const CHECKSUMS_FILE = "SHA256SUMS";

/** Takes bytes with `update`, gives their SHA-256 with `digest("hex")`. */
export const sha256 = () => createHash("sha256");

/** @throws checkpoint - a file that cannot be read */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = sha256();
  try {
    for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece);
  } catch (error) {
    readError(error, path, "checkpoint");
  }
  return hash.digest("hex");
}

/** Writes the list of every file in the directory and its subdirectories. */
export async function writeChecksums(directory: string): Promise<void> {
  const names = (await readdir(directory, { recursive: true })).map((name) => name.replaceAll("\\", "/")).sort();
  let text = "";
  for (const name of names) {
    const path = join(directory, name);
    if ((await stat(path)).isFile()) text += `${await sha256OfFile(path)}  ${name}\n`;
  }
  await writeTextAtomic(join(directory, CHECKSUMS_FILE), text);
}

/**
 * What has happened to a directory since {@link writeChecksums}: the first file that is missing or changed, in
 * words; undefined when nothing has changed. Files that are not in the list do not count.
 */
export async function findDamage(directory: string): Promise<string | undefined> {
  const list = join(directory, CHECKSUMS_FILE);
  if (!(await exists(list))) return `${CHECKSUMS_FILE} is missing`;
  const lines = (await readText(list)).split("\n");
  if (lines.pop() !== "" || lines.length === 0) return `${CHECKSUMS_FILE} is cut off`;
  for (const line of lines) {
    const [, expected, name] = /^([0-9a-f]{64}) {2}(.+)$/.exec(line) ?? [];
    if (name === undefined) return `${CHECKSUMS_FILE} has the broken line ${JSON.stringify(line.slice(0, 80))}`;
    const info = await stat(join(directory, name)).catch(() => null);
    if (!info?.isFile()) return `${name} is missing`;
    if ((await sha256OfFile(join(directory, name))) !== expected)
      return `${name} is not what was written (${info.size} bytes, another SHA-256)`;
  }
  return undefined;
}
