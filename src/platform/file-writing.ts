/**
 * @file Writing that never leaves half a file: temporary name, flush, rename. Plus append-only files and links.
 */
import {
  copyFile,
  type FileHandle,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
  statfs,
  symlink,
  unlink,
} from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { fail, ValueheadError } from "../base/errors.ts";
import { codeOf, isFullDisk, writeError } from "./file-errors.ts";

/** Bytes moved per write call. */
const PIECE = 16 * 1024 * 1024;

/** Where a writer puts bytes. `bytes` may be reused by the caller once the promise is settled. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * Creates a directory and those above it; one that exists is fine. The new names are on the disk when it returns.
 * @returns the topmost one that was made, if any
 */
export async function makeDirectory(path: string): Promise<string | undefined> {
  const isThere = async (folder: string) => (await stat(folder).catch(() => null))?.isDirectory() ?? false;
  const missing: string[] = [];
  let above = resolve(path);
  for (; !(await isThere(above)) && above !== dirname(above); above = dirname(above)) missing.unshift(above);
  try {
    // One by one: mkdir's own `recursive` never returns when an existing folder accepts no new ones, like /proc.
    for (const folder of missing) {
      await mkdir(folder).catch(async (error) => {
        if (codeOf(error) !== "EEXIST") throw error;
        if (!(await isThere(folder))) throw Object.assign(error, { code: "ENOTDIR" }); // else another process was faster
      });
      await syncDirectory(dirname(folder));
    }
    return missing[0];
  } catch (error) {
    return writeError(error, path, false);
  }
}

/**
 * For a run's output: fails when `path` is a file, or already holds anything.
 * @param ignored names that do not count
 */
export async function refuseFilledDirectory(
  path: string,
  ignored: (name: string) => boolean = () => false,
): Promise<void> {
  const there = await stat(path).catch(() => null);
  if (there !== null) {
    const names = there.isDirectory() ? (await readdir(path)).filter((name) => !ignored(name)) : null;
    if (names === null || names.length > 0) {
      fail("usage", {
        where: path,
        found: names === null ? "a file" : `a directory with ${names.length} entries (${names.slice(0, 3).join(", ")})`,
        expected: "a new or empty directory",
        fix: "choose another output directory, empty this one, or continue the run in it with --resume",
      });
    }
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, Math.min(PIECE, bytes.length - done))).bytesWritten;
  }
}

/** Flushes a file to the disk. Windows wants write access for that. */
async function syncFile(path: string): Promise<void> {
  const handle = await open(path, process.platform === "win32" ? "r+" : "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Flushes a directory's names. Windows and some network file systems refuse: then the rename alone must do. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r").catch(() => null);
  await handle?.sync().catch(() => {});
  await handle?.close();
}

async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await syncFile(path);
  }
  await syncDirectory(directory);
}

let temporaryNames = 0;

/**
 * Writes a file under a temporary name beside it, flushes it to the disk and renames it. Whatever goes wrong, the
 * temporary file is removed and the file that was there stays.
 */
export async function writeAtomic(path: string, write: (sink: ByteSink) => Promise<void>): Promise<void> {
  const temporary = `${path}.tmp-${process.pid}-${temporaryNames++}`;
  let handle: FileHandle | undefined;
  try {
    const file = await open(temporary, "wx");
    handle = file;
    await write({ write: (bytes) => writeAll(file, bytes) });
    await file.sync();
    handle = undefined;
    await file.close();
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await handle?.close().catch(() => {});
    await unlink(temporary).catch(() => {});
    writeError(error, path, true);
  }
}

export async function writeTextAtomic(path: string, text: string): Promise<void> {
  await writeAtomic(path, (sink) => sink.write(new TextEncoder().encode(text)));
}

/** The free space beside a path, and what was needed there, for an error; empty if the system does not say. */
async function spaceAround(path: string, needed?: number): Promise<string> {
  const system = await statfs(dirname(path)).catch(() => undefined);
  if (!system) return "";
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  return `: ${mb(system.bavail * system.bsize)} free${needed === undefined ? "" : `, about ${mb(needed)} needed`}`;
}

/**
 * Makes a whole directory appear at once: `fill` writes into `finalDir.tmp-<pid>`, every file and directory is flushed,
 * then it is renamed. A failure removes the temporary directory. A `finalDir` that holds something is an error unless
 * `replace` is true; it then stays until the new one is complete.
 * @param options.bytes about how large it will be: used in the error when the disk is full
 */
export async function writeDirectoryAtomic(
  finalDir: string,
  fill: (temporaryDir: string) => Promise<void>,
  options: { replace?: boolean; bytes?: number } = {},
): Promise<void> {
  const final = resolve(finalDir);
  const temporary = `${final}.tmp-${process.pid}`;
  const old = `${final}.old-${process.pid}`;
  if (!options.replace && (await stat(final).catch(() => null)) !== null) await refuseFilledDirectory(final);
  try {
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary); // not its parents: if they are gone, somebody removed them
    await fill(temporary);
    await syncTree(temporary);
    if (options.replace && (await stat(final).catch(() => null)) !== null) {
      await rename(final, old);
      await rename(temporary, final).catch(async (error) => {
        await rename(old, final);
        throw error;
      });
      await rm(old, { recursive: true, force: true });
    } else {
      await rename(temporary, final);
    }
    await syncDirectory(dirname(final));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    // The reader knows the directory by its final name. What is free is measured without what was half written.
    if (error instanceof ValueheadError && error.problem.where.startsWith(temporary)) {
      const where = final + error.problem.where.slice(temporary.length);
      const space = isFullDisk(error.cause) ? await spaceAround(final, options.bytes) : "";
      fail(error.kind, { ...error.problem, where, found: error.problem.found + space }, error.cause);
    }
    writeError(error, final, true);
  }
}

/** A file that only grows. Bytes reach it in the order of the calls. */
export class AppendBytes {
  readonly path: string;
  #handle: FileHandle;
  #last: Promise<unknown> = Promise.resolve();

  /** Use {@link createByteFile}. */
  constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  #next<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work).catch((error) => writeError(error, this.path, true));
    this.#last = mine.catch(() => {});
    return mine;
  }

  append(bytes: Uint8Array): Promise<void> {
    return this.#next(() => writeAll(this.#handle, bytes));
  }

  /** Whether the file still has its name: it was not deleted, moved or replaced. */
  async isInPlace(): Promise<boolean> {
    const [here, there] = [
      await this.#handle.stat({ bigint: true }),
      await stat(this.path, { bigint: true }).catch(() => null),
    ];
    return there !== null && there.dev === here.dev && there.ino === here.ino;
  }

  /** Everything in it, even if it has lost its name. */
  async contents(): Promise<Uint8Array> {
    await this.#last;
    const bytes = new Uint8Array((await this.#handle.stat()).size);
    for (let done = 0, count = 1; done < bytes.length && count > 0; done += count)
      count = (await this.#handle.read(bytes, done, bytes.length - done, done)).bytesRead;
    return bytes;
  }

  /** Waits for what was appended and flushes it to the disk. */
  flush(): Promise<void> {
    return this.#next(() => this.#handle.sync());
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#handle.close();
  }
}

/** A new, empty file to append to. A file that is already there is an error. */
export async function createByteFile(path: string): Promise<AppendBytes> {
  try {
    return new AppendBytes(path, await open(path, "ax"));
  } catch (error) {
    return writeError(error, path, true);
  }
}

/** A text file that only grows: metrics.jsonl and its like. */
export class AppendFile extends AppendBytes {
  /** Opens or creates. A last line cut off by a killed process is ended, so that the next one starts on its own line. */
  static async open(path: string): Promise<AppendFile> {
    try {
      const handle = await open(path, "a+");
      const { size } = await handle.stat();
      const file = new AppendFile(path, handle);
      if (size > 0) {
        const last = new Uint8Array(1);
        await handle.read(last, 0, 1, size - 1);
        if (last[0] !== 10) await file.appendLine("");
      }
      return file;
    } catch (error) {
      return writeError(error, path, true);
    }
  }

  appendLine(line: string): Promise<void> {
    return this.appendLines([line]);
  }

  appendLines(lines: readonly string[]): Promise<void> {
    return this.append(new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")));
  }
}

/** Makes `path` another name of `existing`: a relative symbolic link, or a copy where links are not allowed. */
export async function linkFile(existing: string, path: string): Promise<void> {
  try {
    await rm(path, { force: true });
    await symlink(relative(dirname(resolve(path)), resolve(existing)), path).catch(() => copyFile(existing, path));
  } catch (error) {
    writeError(error, path, false);
  }
}

/**
 * Delete a file, or a directory and what is in it; nothing happens when it is not there. It loses its name first, so that
 * no moment leaves half of it under its name.
 */
export async function remove(path: string): Promise<void> {
  const temporary = `${resolve(path)}.tmp-${process.pid}`;
  try {
    await rm(temporary, { recursive: true, force: true });
    await rename(path, temporary);
    await rm(temporary, { recursive: true, force: true });
  } catch (error) {
    if (codeOf(error) !== "ENOENT") writeError(error, path, false);
  }
}

/** What this file leaves in a directory when the process is killed. */
export const isLeftover = (name: string): boolean => /\.(tmp|old)-\d+(-\d+)?$/.test(name);

/** Deletes what killed processes left half done in a directory; a directory they were about to replace gets its name back. */
export async function removeLeftovers(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  try {
    for (const name of names.filter(isLeftover)) {
      const [path, final] = [join(directory, name), join(directory, name.replace(/\.old-\d+$/, ""))];
      if (path !== final && (await stat(final).catch(() => null)) === null) await rename(path, final);
      else await rm(path, { recursive: true, force: true });
    }
  } catch (error) {
    writeError(error, directory, true);
  }
}
