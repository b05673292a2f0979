/**
 * @file Where a tab keeps files: the origin private file system (OPFS), or memory where the browser has none, as outside of a
 * secure context. Paths are absolute and POSIX. Errors carry the codes that Node's have: ENOENT, EISDIR, ENOTDIR, ENOSPC, EACCES.
 */

/** What is at a path. */
export interface Entry {
  readonly directory: boolean;
  /** Bytes of a file. */
  readonly size: number;
  /** When a file was last written, in milliseconds since 1970. */
  readonly touched: number;
}

/** A file that is being written. It appears under its name, whole, when it is closed. */
export interface Writer {
  write(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
  /** Nothing was written. */
  abort(): Promise<void>;
}

/** Files by path. */
export interface Store {
  /** Whether what is written is there when the tab is opened again. */
  readonly lasting: boolean;
  stat(path: string): Promise<Entry | undefined>;
  /** Names in a directory, sorted. */
  list(path: string): Promise<string[]>;
  /** With those above it; one that exists is fine. */
  makeDirectory(path: string): Promise<void>;
  blob(path: string): Promise<Blob>;
  create(path: string): Promise<Writer>;
  /** At the end of a file, which is made where there is none. */
  append(path: string, bytes: Uint8Array): Promise<void>;
  /** A file; what was at `to` is replaced. */
  moveFile(from: string, to: string): Promise<void>;
  /** A file, or a directory with what is in it; nothing happens where there is nothing. */
  remove(path: string): Promise<void>;
}

/** An error as Node's file system throws it. */
export const fileError = (code: string, path: string, cause?: unknown): Error =>
  Object.assign(new Error(`${code}: ${path}`, { cause }), { code, path });

const CODES: Readonly<Record<string, string>> = {
  NotFoundError: "ENOENT",
  TypeMismatchError: "ENOTDIR",
  QuotaExceededError: "ENOSPC",
  NoModificationAllowedError: "EACCES",
  NotAllowedError: "EACCES",
  InvalidModificationError: "ENOTEMPTY",
};

const named = (error: unknown, path: string): unknown => {
  const code = error instanceof DOMException ? CODES[error.name] : undefined;
  return code === undefined ? error : fileError(code, path, error);
};

const partsOf = (path: string): string[] => path.split("/").filter(Boolean);

/** Everything lies in one directory of the origin's, beside what its other programs keep there. */
const FOLDER = "valuehead";

type Movable = FileSystemFileHandle & { move?(to: FileSystemDirectoryHandle, name: string): Promise<void> };
type Listed = FileSystemDirectoryHandle & { keys(): AsyncIterableIterator<string> };

/** The origin private file system. */
export class OPFSStore implements Store {
  readonly lasting = true;
  readonly #root: FileSystemDirectoryHandle;

  constructor(root: FileSystemDirectoryHandle) {
    this.#root = root;
  }

  /** undefined: there is none here. */
  static async open(): Promise<OPFSStore | undefined> {
    try {
      const root = await navigator.storage.getDirectory();
      const folder = await root.getDirectoryHandle(FOLDER, { create: true });
      if (!("createWritable" in FileSystemFileHandle.prototype)) return undefined; // Safari before 26
      return new OPFSStore(folder);
    } catch {
      return undefined; // no secure context, or a private window that keeps nothing
    }
  }

  async #directory(parts: readonly string[], path: string, create = false): Promise<FileSystemDirectoryHandle> {
    let at = this.#root;
    try {
      for (const part of parts) at = await at.getDirectoryHandle(part, { create });
    } catch (error) {
      throw named(error, path);
    }
    return at;
  }

  async #file(path: string, create = false): Promise<FileSystemFileHandle> {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) throw fileError("EISDIR", path);
    const directory = await this.#directory(parts, path);
    try {
      return await directory.getFileHandle(name, { create });
    } catch (error) {
      if (error instanceof DOMException && error.name === "TypeMismatchError") throw fileError("EISDIR", path, error);
      throw named(error, path);
    }
  }

  async stat(path: string): Promise<Entry | undefined> {
    try {
      const { size, lastModified } = await (await this.#file(path)).getFile();
      return { directory: false, size, touched: lastModified };
    } catch (error) {
      return (error as { code?: string }).code === "EISDIR" ? { directory: true, size: 0, touched: 0 } : undefined;
    }
  }

  async list(path: string): Promise<string[]> {
    const names: string[] = [];
    for await (const name of ((await this.#directory(partsOf(path), path)) as Listed).keys())
      if (!name.endsWith(".crswap")) names.push(name); // Chromium's own, while a file is written
    return names.sort();
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#directory(partsOf(path), path, true);
  }

  async blob(path: string): Promise<Blob> {
    const file = await this.#file(path);
    return file.getFile().catch((error) => {
      throw named(error, path);
    });
  }

  create(path: string): Promise<Writer> {
    return this.#writer(path, false);
  }

  async #writer(path: string, keep: boolean): Promise<Writer> {
    const file = await this.#file(path, true);
    const fail = (error: unknown) => {
      throw named(error, path);
    };
    const stream = await file.createWritable({ keepExistingData: keep }).catch(fail);
    if (keep) await stream.seek((await file.getFile()).size).catch(fail);
    return {
      write: (bytes) => stream.write(bytes as Uint8Array<ArrayBuffer>).catch(fail),
      close: () => stream.close().catch(fail),
      abort: async () => {
        await stream.abort().catch(() => {});
        const { size } = await file.getFile().catch(() => ({ size: 1 }));
        if (size === 0) await this.remove(path).catch(() => {}); // getFileHandle made it
      },
    };
  }

  async append(path: string, bytes: Uint8Array): Promise<void> {
    const writer = await this.#writer(path, true);
    await writer.write(bytes);
    await writer.close();
  }

  async moveFile(from: string, to: string): Promise<void> {
    const file = (await this.#file(from)) as Movable;
    const parts = partsOf(to);
    const name = parts.pop() as string;
    const directory = await this.#directory(parts, to);
    if (file.move) {
      await file.move(directory, name).catch((error) => {
        throw named(error, to);
      });
      return;
    }
    const writer = await this.create(to);
    await writer.write(new Uint8Array(await (await file.getFile()).arrayBuffer()));
    await writer.close();
    await this.remove(from);
  }

  async remove(path: string): Promise<void> {
    const parts = partsOf(path);
    const name = parts.pop();
    if (name === undefined) return;
    try {
      await (await this.#directory(parts, path)).removeEntry(name, { recursive: true });
    } catch (error) {
      const known = named(error, path);
      if ((known as { code?: string }).code !== "ENOENT") throw known;
    }
  }
}

/** Memory of this tab, or of this worker alone. */
export class MemoryStore implements Store {
  readonly lasting = false;
  readonly #files = new Map<string, { pieces: Uint8Array<ArrayBuffer>[]; size: number; touched: number }>();
  readonly #directories = new Set<string>([""]);

  #path(path: string): string {
    return partsOf(path)
      .map((part) => `/${part}`)
      .join("");
  }

  #checkParent(path: string): void {
    const parent = path.slice(0, path.lastIndexOf("/"));
    if (this.#files.has(parent)) throw fileError("ENOTDIR", path);
    if (!this.#directories.has(parent)) throw fileError("ENOENT", path);
  }

  async stat(path: string): Promise<Entry | undefined> {
    const at = this.#path(path);
    if (this.#directories.has(at)) return { directory: true, size: 0, touched: 0 };
    const file = this.#files.get(at);
    return file && { directory: false, size: file.size, touched: file.touched };
  }

  async list(path: string): Promise<string[]> {
    const at = this.#path(path);
    if (this.#files.has(at)) throw fileError("ENOTDIR", path);
    if (!this.#directories.has(at)) throw fileError("ENOENT", path);
    const inside = [...this.#files.keys(), ...this.#directories].filter(
      (name) => name.startsWith(`${at}/`) && !name.slice(at.length + 1).includes("/"),
    );
    return inside.map((name) => name.slice(at.length + 1)).sort();
  }

  async makeDirectory(path: string): Promise<void> {
    let at = "";
    for (const part of partsOf(path)) {
      at += `/${part}`;
      if (this.#files.has(at)) throw fileError("ENOTDIR", path);
      this.#directories.add(at);
    }
  }

  async blob(path: string): Promise<Blob> {
    const at = this.#path(path);
    const file = this.#files.get(at);
    if (!file) throw fileError(this.#directories.has(at) ? "EISDIR" : "ENOENT", path);
    return new Blob(file.pieces);
  }

  async create(path: string): Promise<Writer> {
    const at = this.#path(path);
    this.#checkParent(at);
    if (this.#directories.has(at)) throw fileError("EISDIR", path);
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    return {
      write: async (bytes) => void pieces.push(bytes.slice()),
      close: async () => {
        this.#checkParent(at);
        this.#files.set(at, { pieces, size: pieces.reduce((n, piece) => n + piece.length, 0), touched: Date.now() });
      },
      abort: async () => {},
    };
  }

  async append(path: string, bytes: Uint8Array): Promise<void> {
    const at = this.#path(path);
    const file = this.#files.get(at);
    if (!file) {
      const writer = await this.create(path);
      await writer.write(bytes);
      return writer.close();
    }
    file.pieces.push(bytes.slice());
    file.size += bytes.length;
    file.touched = Date.now();
  }

  async moveFile(from: string, to: string): Promise<void> {
    const [source, target] = [this.#path(from), this.#path(to)];
    const file = this.#files.get(source);
    if (!file) throw fileError("ENOENT", from);
    this.#checkParent(target);
    this.#files.delete(source);
    this.#files.set(target, file);
  }

  async remove(path: string): Promise<void> {
    const at = this.#path(path);
    for (const map of [this.#files, this.#directories])
      for (const name of [...map.keys()]) if (name === at || name.startsWith(`${at}/`)) map.delete(name);
  }
}

let opened: Promise<Store> | undefined;

/** The store of this tab or worker; all of an origin's share one where it is lasting. */
export function store(): Promise<Store> {
  opened ??= OPFSStore.open().then((found) => found ?? new MemoryStore());
  return opened;
}
