/** @file Files that only one process can create, and whether a directory is still the one it was. */
import { type BigIntStats, readFileSync, readlinkSync, unlinkSync } from "node:fs";
import { type FileHandle, open, readFile, rmdir, stat, unlink, utimes } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { codeOf, writeError } from "./file-errors.ts";

/** Creates a file with that text, unless there is one already. @returns whether it did */
export async function createExclusive(path: string, text: string): Promise<boolean> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, "wx");
    await handle.writeFile(text);
    await handle.sync();
    await handle.close();
    return true;
  } catch (error) {
    if (handle === undefined && codeOf(error) === "EEXIST") return false;
    await handle?.close().catch(() => {});
    if (handle) await unlink(path).catch(() => {});
    return writeError(error, path, true);
  }
}

/** A small text file and when it was last touched, in milliseconds since 1970; undefined when there is none. */
export async function readIfThere(path: string): Promise<{ text: string; touched: number } | undefined> {
  try {
    const { mtimeMs } = await stat(path);
    return { text: await readFile(path, "utf8"), touched: mtimeMs };
  } catch (error) {
    return codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR" ? undefined : writeError(error, path, true);
  }
}

/** Sets the modification time of a file to now. Does nothing if there is no such file. */
export async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => {});
}

/** Deletes a file. Does nothing if there is no such file. */
export async function deleteFile(path: string): Promise<void> {
  await unlink(path).catch((error) => codeOf(error) === "ENOENT" || writeError(error, path, true));
}

/** Undoes `makeDirectory`, except for directories that are no longer empty. */
export async function removeEmptyDirectories(path: string, topmost: string): Promise<void> {
  const top = resolve(topmost);
  for (let at = resolve(path); at.length >= top.length; at = dirname(at))
    if (
      !(await rmdir(at).then(
        () => true,
        () => false,
      ))
    )
      return;
}

/** Files to delete when the process ends by itself or by process.exit(), as long as they hold this text. */
const atExit = new Map<string, string>();
let listening = false;

export function deleteAtExit(path: string, text: string): void {
  atExit.set(resolve(path), text);
  if (!listening)
    process.on("exit", () => {
      for (const [file, text] of atExit)
        try {
          if (readFileSync(file, "utf8") === text) unlinkSync(file);
        } catch {} // gone already
    });
  listening = true;
}

/** Undoes {@link deleteAtExit}. */
export function keepAtExit(path: string): void {
  atExit.delete(resolve(path));
}

const look = (path: string): Promise<BigIntStats | undefined> => stat(path, { bigint: true }).catch(() => undefined);

/** A directory under watch. It is kept open, so that no other can get its number in the meantime. */
export class WatchedDirectory {
  readonly path: string;
  readonly #handle?: FileHandle;
  readonly #first?: BigIntStats;

  private constructor(path: string, handle: FileHandle | undefined, first: BigIntStats | undefined) {
    this.path = path;
    this.#handle = handle;
    this.#first = first;
  }

  static async open(path: string): Promise<WatchedDirectory> {
    const handle = await open(path, "r").catch(() => undefined); // Windows opens no directories
    return new WatchedDirectory(path, handle, handle ? await handle.stat({ bigint: true }) : await look(path));
  }

  /** What has taken its place, in words; undefined while it is still there. */
  async change(): Promise<string | undefined> {
    const now = await look(this.path);
    const first = this.#first;
    if (now && (!first || (now.dev === first.dev && now.ino === first.ino))) return undefined;
    const found = now === undefined ? "nothing at this path" : now.isDirectory() ? "another directory" : "a file";
    const place = this.#whereabouts();
    return place === undefined ? found : `${found}; the run's own directory is now ${place}`;
  }

  /** Where it was moved to, on Linux. */
  #whereabouts(): string | undefined {
    try {
      const place = readlinkSync(`/proc/self/fd/${this.#handle?.fd}`);
      return / \(deleted\)$/.test(place) ? undefined : place;
    } catch {
      return undefined;
    }
  }

  async close(): Promise<void> {
    await this.#handle?.close();
  }
}
