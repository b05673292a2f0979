/** @file A list of the files of a directory with their checksums, in the form `sha256sum -c` reads. */
import { sha256 as sha256OfNoble } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";
import { writeTextAtomic } from "./file-writing.ts";
import { exists, isDirectory, listDirectory, openFile, readText } from "./files.ts";
import { joinPath } from "./paths.ts";

export const CHECKSUMS_FILE = "SHA256SUMS";

/** Takes bytes with `update`, gives their SHA-256 with `digest("hex")`. */
export function sha256() {
  const hash = sha256OfNoble.create();
  return {
    update(bytes: Uint8Array) {
      hash.update(bytes);
      return this;
    },
    digest: (_form: "hex"): string => bytesToHex(hash.digest()),
  };
}

const PIECE = 1 << 22;

/** @throws checkpoint - a file that cannot be read */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = sha256();
  const file = await openFile(path);
  for (let at = 0; at < file.size; at += PIECE) hash.update(await file.read(at, Math.min(PIECE, file.size - at)));
  await file.close();
  return hash.digest("hex");
}

async function filesBelow(directory: string, prefix = ""): Promise<string[]> {
  const names: string[] = [];
  for (const name of await listDirectory(joinPath(directory, prefix))) {
    const path = `${prefix}${name}`;
    if (await isDirectory(joinPath(directory, path))) names.push(...(await filesBelow(directory, `${path}/`)));
    else names.push(path);
  }
  return names.sort();
}

/** Writes the list of every file in the directory and its subdirectories. */
export async function writeChecksums(directory: string): Promise<void> {
  let text = "";
  for (const name of await filesBelow(directory)) text += `${await sha256OfFile(joinPath(directory, name))}  ${name}\n`;
  await writeTextAtomic(joinPath(directory, CHECKSUMS_FILE), text);
}

/** What has happened to a directory since {@link writeChecksums}, in words; undefined when nothing has changed. */
export async function findDamage(directory: string): Promise<string | undefined> {
  const list = joinPath(directory, CHECKSUMS_FILE);
  if (!(await exists(list))) return `${CHECKSUMS_FILE} is missing`;
  const lines = (await readText(list)).split("\n");
  if (lines.pop() !== "" || lines.length === 0) return `${CHECKSUMS_FILE} is cut off`;
  for (const line of lines) {
    const [, expected, name] = /^([0-9a-f]{64}) {2}(.+)$/.exec(line) ?? [];
    if (name === undefined) return `${CHECKSUMS_FILE} has the broken line ${JSON.stringify(line.slice(0, 80))}`;
    const path = joinPath(directory, name);
    if (!(await exists(path)) || (await isDirectory(path))) return `${name} is missing`;
    if ((await sha256OfFile(path)) !== expected) return `${name} is not what was written (another SHA-256)`;
  }
  return undefined;
}
