/**
 * @file Files, folders and environment variables: with file-writing.ts, whose exports it passes on, the only module that
 * imports node:fs, node:path, node:os and node:zlib. Reads and writes go in pieces, so a 500 MB file never needs a second
 * copy of itself in memory.
 */
import { createReadStream } from "node:fs";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import type { Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import { createGunzip } from "node:zlib";
import { endsTooEarly } from "../base/bytes.ts";
import { type ErrorKind, fail, messageOf } from "../base/errors.ts";
import { jsonOf } from "../base/json.ts";
import { codeOf, readError } from "./file-errors.ts";

export * from "./file-writing.ts";
export { packagePath } from "./package.ts";

/** Bytes moved per read call. */
const PIECE = 16 * 1024 * 1024;

/** Random access to the bytes of a file or of anything like it. */
export interface ByteSource {
  /** What errors call it: the path as it was given. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Fills `target` from `offset` on, without a copy in between. A source that ends too early is an error. */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

// ---- paths and environment ----

export const joinPath = (...parts: string[]): string => join(...parts);
export const baseName = (path: string): string => basename(path);
export const parentDirectory = (path: string): string => dirname(path);
export const absolutePath = (path: string): string => resolve(path);
/** From where the process works to `path`. */
export const relativePath = (path: string): string => relative(".", path) || ".";
/** As a URL that names the file. */
export const fileUrl = (path: string): URL => pathToFileURL(path);
export const homeDirectory = (): string => homedir();
/** The directory for temporary files. */
export const temporaryPlace = (): string => tmpdir();

/** An environment variable; empty counts as not set. */
export function env(name: string): string | undefined {
  return process.env[name] || undefined;
}

// ---- inspecting ----

async function statOrNull(path: string) {
  try {
    return await stat(path);
  } catch {
    return null;
  }
}

export const exists = async (path: string): Promise<boolean> => (await statOrNull(path)) !== null;
export const isDirectory = async (path: string): Promise<boolean> => (await statOrNull(path))?.isDirectory() ?? false;
/** Bytes of a file, or null when there is none. */
export const fileSize = async (path: string): Promise<number | null> => (await statOrNull(path))?.size ?? null;

/** Names in a directory, sorted. */
export async function listDirectory(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).sort();
  } catch (error) {
    return readError(error, path, "checkpoint", "a readable directory");
  }
}

// ---- reading ----

/** Opens a file for random access. Close it when done. */
export async function openFile(path: string, kind: ErrorKind = "checkpoint"): Promise<ByteSource> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, "r");
    const info = await handle.stat();
    if (info.isDirectory()) throw Object.assign(new Error("is a directory"), { code: "EISDIR" });
    return fileSource(path, info.size, handle, kind);
  } catch (error) {
    await handle?.close();
    return readError(error, path, kind);
  }
}

function fileSource(name: string, size: number, handle: FileHandle, kind: ErrorKind): ByteSource {
  const readInto = async (offset: number, target: Uint8Array): Promise<void> => {
    for (let done = 0; done < target.length; ) {
      let count: number;
      try {
        const length = Math.min(PIECE, target.length - done);
        count = (await handle.read(target, done, length, offset + done)).bytesRead;
      } catch (error) {
        readError(error, name, kind);
      }
      if (count === 0) endsTooEarly(name, size, offset, target.length);
      done += count;
    }
  };
  return {
    name,
    size,
    readInto,
    async read(offset, length) {
      // Looked at before the allocation: a length from a broken file must not be allocated.
      if (offset + length > size) endsTooEarly(name, size, offset, length);
      const bytes = new Uint8Array(length);
      await readInto(offset, bytes);
      return bytes;
    },
    close: () => handle.close(),
  };
}

/** Bytes of the largest file that is read whole; JavaScript's strings end at twice that. */
const LARGEST_TEXT = 1 << 28;

/** A whole text file as UTF-8, or what comes out of a pipe. */
export async function readText(path: string, kind: ErrorKind = "checkpoint"): Promise<string> {
  return Buffer.from(await readBytes(path, kind)).toString("utf8");
}

/** A whole file of moderate size, or what comes out of a pipe. */
export async function readBytes(path: string, kind: ErrorKind = "checkpoint"): Promise<Uint8Array> {
  try {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > LARGEST_TEXT)
        fail(kind, {
          where: path,
          found: `more than ${LARGEST_TEXT >> 20} MiB of text`,
          expected: "a smaller file",
          fix: "check that this is the file you mean",
        });
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  } catch (error) {
    return readError(error, path, kind);
  }
}

/** A JSON file. Errors give line and column if the parser reports them. */
export async function readJson(path: string, kind: ErrorKind = "checkpoint"): Promise<unknown> {
  return jsonOf(await readText(path, kind), path, kind);
}

/** Characters of the longest line that is read: a small .gz may hold a line that fits in no memory. */
const LONGEST_LINE = 1 << 26;

/** The path that means standard input. */
export const STDIN = "-";

/** A path as errors call it. */
export const fileName = (path: string): string => (path === STDIN ? "stdin" : path);

/**
 * The lines of a text file, or of stdin for `-`, gunzipped when the name ends in `.gz`, without their line ends. Streams.
 * UTF-8, or UTF-16 where the file says so in its first two bytes.
 */
export async function* readLines(path: string, kind: ErrorKind = "data"): AsyncGenerator<string, void, undefined> {
  const name = fileName(path);
  const file: Readable = path === STDIN ? process.stdin : createReadStream(path);
  const unzipped = /\.gz$/i.test(path) ? createGunzip() : null;
  // pipe() does not hand errors on: a file that cannot be read must end the gunzip stream too.
  if (unzipped !== null) file.on("error", (error) => unzipped.destroy(error)).pipe(unzipped);
  const stream = unzipped ?? file;
  const text = new TextPieces();
  let pending = "";
  let count = 0;
  const finish = (line: string) => {
    count++;
    if (line.includes("\0"))
      fail(kind, {
        where: `${name}, line ${count}`,
        found: "a NUL character",
        expected: "text",
        fix: "save the file as UTF-8 text",
      });
    return line.endsWith("\r") ? line.slice(0, -1) : line;
  };
  try {
    for await (const chunk of stream) {
      const lines = text.next(chunk as Uint8Array).split("\n");
      lines[0] = pending + lines[0];
      pending = lines.pop() as string;
      if (pending.length > LONGEST_LINE) {
        const [where, found] = [`${name}, line ${count + lines.length + 1}`, `more than ${LONGEST_LINE} characters`];
        fail(kind, { where, found, expected: "lines of text", fix: "put line breaks between texts" });
      }
      for (const line of lines) yield finish(line);
    }
    pending += text.end();
    if (pending !== "") yield finish(pending);
  } catch (error) {
    if (codeOf(error) === "ERR_ENCODING_INVALID_ENCODED_DATA") {
      const where = `${name}, after line ${count}`;
      const [found, expected] = [`bytes that are not ${text.encoding.toUpperCase()}`, "UTF-8 text"];
      fail(kind, { where, found, expected, fix: "save the file as UTF-8" }, error);
    }
    if (codeOf(error).startsWith("Z_")) {
      const found = `broken gzip data (${messageOf(error)})`;
      const fix = "copy or download the file again";
      fail(kind, { where: `${name}, after line ${count}`, found, expected: "a whole gzip file", fix }, error);
    }
    readError(error, name, kind);
  } finally {
    file.destroy();
    unzipped?.destroy();
  }
}

/** Pieces of a text as they come. The byte order mark says which encoding it is, and is left out; without one it is UTF-8. */
class TextPieces {
  encoding: "utf-8" | "utf-16le" | "utf-16be" = "utf-8";
  #decoder?: TextDecoder;
  #first = new Uint8Array(0);

  next(chunk: Uint8Array): string {
    if (this.#decoder) return this.#decoder.decode(chunk, { stream: true });
    const all = new Uint8Array([...this.#first, ...chunk.subarray(0, 2)]);
    if (this.#first.length + chunk.length < 2) {
      this.#first = all;
      return "";
    }
    const mark = all[0] * 256 + all[1];
    if (mark === 0xfffe) this.encoding = "utf-16le";
    if (mark === 0xfeff) this.encoding = "utf-16be";
    this.#decoder = new TextDecoder(this.encoding, { fatal: true });
    const start = this.#decoder.decode(this.#first, { stream: true });
    this.#first = new Uint8Array(0);
    return start + this.#decoder.decode(chunk, { stream: true });
  }

  end(): string {
    this.#decoder ??= new TextDecoder(this.encoding, { fatal: true });
    return this.#decoder.decode(this.#first);
  }
}
