/** @file Writing that never leaves half a file, in a tab's store: a file appears when it is closed. Plus append-only files. */
import { fail, ValueheadError } from "../../base/errors.ts";
import { codeOf, isFullDisk, writeError } from "./file-errors.ts";
import { absolutePath, baseName, joinPath, parentDirectory } from "./paths.ts";
import { fileError, type Store, store, type Writer } from "./store.ts";

/** Where a writer puts bytes. `bytes` may be reused by the caller once the promise is settled. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
}

/**
 * Creates a directory and those above it; one that exists is fine.
 * @returns the topmost one that was made, if any
 */
export async function makeDirectory(path: string): Promise<string | undefined> {
  const files = await store();
  let missing: string | undefined;
  for (let at = absolutePath(path); at !== "/" && !(await files.stat(at)); at = parentDirectory(at)) missing = at;
  await files.makeDirectory(absolutePath(path)).catch((error) => writeError(error, path, false));
  return missing;
}

/** For a run's output: fails when `path` is a file, or already holds anything. @param ignored names that do not count */
export async function refuseFilledDirectory(
  path: string,
  ignored: (name: string) => boolean = () => false,
): Promise<void> {
  const files = await store();
  const there = await files.stat(absolutePath(path));
  if (!there) return;
  const names = there.directory ? (await files.list(absolutePath(path))).filter((name) => !ignored(name)) : null;
  if (names?.length === 0) return;
  fail("usage", {
    where: path,
    found: names === null ? "a file" : `a directory with ${names.length} entries (${names.slice(0, 3).join(", ")})`,
    expected: "a new or empty directory",
    fix: "choose another output directory, delete this one, or continue the run in it with resume",
  });
}

/** Writes a file that appears, whole, at the end. Whatever goes wrong, the file that was there stays. */
export async function writeAtomic(path: string, write: (sink: ByteSink) => Promise<void>): Promise<void> {
  const files = await store();
  let writer: Writer | undefined;
  try {
    const mine = await files.create(absolutePath(path));
    writer = mine;
    await write({ write: (bytes) => mine.write(bytes) });
    await mine.close();
  } catch (error) {
    await writer?.abort();
    writeError(error, path, true);
  }
}

export async function writeTextAtomic(path: string, text: string): Promise<void> {
  await writeAtomic(path, (sink) => sink.write(new TextEncoder().encode(text)));
}

/** Beside a directory that is complete under its temporary name, and is being moved to its own. */
const MOVING = ".moving";

/**
 * Makes a whole directory appear: `fill` writes into `finalDir.tmp-0`, then the files move. Browsers move files, not directories:
 * a mark beside it says that a move has begun, and {@link removeLeftovers} ends one that was cut off.
 */
export async function writeDirectoryAtomic(
  finalDir: string,
  fill: (temporaryDir: string) => Promise<void>,
  options: { replace?: boolean; bytes?: number } = {},
): Promise<void> {
  const final = absolutePath(finalDir);
  const temporary = `${final}.tmp-0`;
  const files = await store();
  if (!options.replace && (await files.stat(final))) await refuseFilledDirectory(final);
  try {
    if (!(await files.stat(parentDirectory(final)))?.directory) throw fileError("ENOENT", parentDirectory(final));
    await files.remove(temporary);
    await files.makeDirectory(temporary);
    await fill(temporary);
    await writeTextAtomic(`${final}${MOVING}`, "");
    await endMove(files, final);
  } catch (error) {
    if (!(await files.stat(`${final}${MOVING}`))) await files.remove(temporary).catch(() => {});
    if (error instanceof ValueheadError && error.problem.where.startsWith(temporary)) {
      const where = final + error.problem.where.slice(temporary.length);
      const space = isFullDisk(error.cause) ? await spaceLeft(options.bytes) : "";
      fail(error.kind, { ...error.problem, where, found: error.problem.found + space }, error.cause);
    }
    writeError(error, final, true);
  }
}

async function spaceLeft(needed?: number): Promise<string> {
  const { quota, usage } = await navigator.storage.estimate().catch(() => ({}) as StorageEstimate);
  if (quota === undefined || usage === undefined) return "";
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  return `: ${mb(Math.max(0, quota - usage))} free${needed === undefined ? "" : `, about ${mb(needed)} needed`}`;
}

async function endMove(files: Store, final: string): Promise<void> {
  const temporary = `${final}.tmp-0`;
  // Once the directory that was there is gone, what lies under its name has come from here.
  const cleared = `${temporary}/${MOVING}`;
  if (!(await files.stat(cleared))) {
    await files.remove(final);
    await files.append(cleared, new Uint8Array());
  }
  await moveAll(files, temporary, final);
  await files.remove(`${final}${MOVING}`);
  await files.remove(temporary);
}

async function moveAll(files: Store, from: string, to: string): Promise<void> {
  await files.makeDirectory(to);
  for (const name of await files.list(from)) {
    const [source, target] = [`${from}/${name}`, `${to}/${name}`];
    if ((await files.stat(source))?.directory) await moveAll(files, source, target);
    else if (name !== MOVING) await files.moveFile(source, target);
  }
}

/** Writes that wait for one another by path, for files are opened by name more than once. */
const queues = new Map<string, Promise<unknown>>();

/** A file that only grows. Bytes reach it in the order of the calls; those of one moment in one write. */
export class AppendBytes {
  readonly path: string;
  #waiting: Uint8Array[] = [];
  #last: Promise<void> = Promise.resolve();

  /** Use {@link createByteFile}. */
  constructor(path: string) {
    this.path = path;
  }

  append(bytes: Uint8Array): Promise<void> {
    this.#waiting.push(bytes.slice());
    if (this.#waiting.length > 1) return this.#last;
    const at = absolutePath(this.path);
    const work = async () => {
      const pieces = this.#waiting;
      this.#waiting = [];
      await (await store()).append(at, new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer()));
    };
    const mine = (queues.get(at) ?? Promise.resolve()).then(work).catch((error) => writeError(error, this.path, true));
    this.#last = mine;
    queues.set(
      at,
      mine.catch(() => {}),
    );
    return mine;
  }

  /** Whether the file still has its name. */
  async isInPlace(): Promise<boolean> {
    await this.#last.catch(() => {});
    return (await (await store()).stat(absolutePath(this.path))) !== undefined;
  }

  /** Everything in it. */
  async contents(): Promise<Uint8Array> {
    await this.#last.catch(() => {});
    const blob = await (await store()).blob(absolutePath(this.path));
    return new Uint8Array(await blob.arrayBuffer());
  }

  /** Waits for what was appended. */
  flush(): Promise<void> {
    return this.#last;
  }

  async close(): Promise<void> {
    await this.#last.catch(() => {});
  }
}

/** A new, empty file to append to. A file that is already there is an error. */
export async function createByteFile(path: string): Promise<AppendBytes> {
  const files = await store();
  if (await files.stat(absolutePath(path))) return writeError(fileError("EEXIST", path), path, true);
  await files.append(absolutePath(path), new Uint8Array()).catch((error) => writeError(error, path, true));
  return new AppendBytes(path);
}

/** A text file that only grows: metrics.jsonl and its like. */
export class AppendFile extends AppendBytes {
  static async open(path: string): Promise<AppendFile> {
    await (await store()).append(absolutePath(path), new Uint8Array()).catch((error) => writeError(error, path, true));
    return new AppendFile(path);
  }

  appendLine(line: string): Promise<void> {
    return this.appendLines([line]);
  }

  appendLines(lines: readonly string[]): Promise<void> {
    return this.append(new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")));
  }
}

/** Makes `path` the name of `existing`, which loses its own: a tab's files have one. */
export async function linkFile(existing: string, path: string): Promise<void> {
  await (await store())
    .moveFile(absolutePath(existing), absolutePath(path))
    .catch((error) => writeError(error, path, false));
}

/** Delete a file, or a directory and what is in it; nothing happens when it is not there. */
export async function remove(path: string): Promise<void> {
  await (await store()).remove(absolutePath(path)).catch((error) => writeError(error, path, false));
}

/** What this file leaves in a directory when the tab is closed. */
export const isLeftover = (name: string): boolean => /\.(tmp-\d+|moving)$/.test(name);

/** Ends what closed tabs left half moved in a directory, and deletes what they left half written. */
export async function removeLeftovers(directory: string): Promise<void> {
  const files = await store();
  const names = await files.list(absolutePath(directory)).catch(() => [] as string[]);
  try {
    for (const name of names.filter((name) => name.endsWith(MOVING)))
      await endMove(files, joinPath(absolutePath(directory), name.slice(0, -MOVING.length)));
    for (const name of names.filter((name) => /\.tmp-\d+$/.test(baseName(name))))
      await files.remove(joinPath(absolutePath(directory), name));
  } catch (error) {
    if (codeOf(error) !== "ENOENT") writeError(error, directory, true);
  }
}
