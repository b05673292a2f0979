/** @file Files of a tab: its store, and what comes with the package, which is fetched when it is first read. */
import { endsTooEarly } from "../../base/bytes.ts";
import { type ErrorKind, fail, messageOf } from "../../base/errors.ts";
import { jsonOf } from "../../base/json.ts";
import type { ByteSource } from "../files.ts";
import { readError } from "./file-errors.ts";
import { fetchPackaged, isPackaged, listPackaged } from "./package.ts";
import { absolutePath } from "./paths.ts";
import { store } from "./store.ts";

export type { ByteSource } from "../files.ts";
export * from "./file-writing.ts";
export { packagePath } from "./package.ts";
export * from "./paths.ts";

/** As a URL: paths of a store have none that others could follow. */
export const fileUrl = (path: string): URL => new URL(`opfs://${absolutePath(path)}`);
export const homeDirectory = (): string => "/home";
export const temporaryPlace = (): string => "/tmp";
/** There are no environment variables. */
export const env = (_name: string): string | undefined => undefined;

// ---- inspecting ----

async function statOf(path: string) {
  const at = absolutePath(path);
  if (listPackaged(at)) return { directory: true, size: 0 };
  await fetchPackaged(at);
  return (await store()).stat(at);
}

export async function exists(path: string): Promise<boolean> {
  const at = absolutePath(path);
  return isPackaged(at) || listPackaged(at) !== undefined || (await (await store()).stat(at)) !== undefined;
}
export async function isDirectory(path: string): Promise<boolean> {
  const at = absolutePath(path);
  if (isPackaged(at)) return false;
  return listPackaged(at) !== undefined || ((await (await store()).stat(at))?.directory ?? false);
}
/** Bytes of a file, or null when there is none. */
export const fileSize = async (path: string): Promise<number | null> => (await statOf(path))?.size ?? null;

/** Names in a directory, sorted. */
export async function listDirectory(path: string): Promise<string[]> {
  const at = absolutePath(path);
  const packaged = listPackaged(at);
  if (packaged) return [...packaged];
  try {
    return await (await store()).list(at);
  } catch (error) {
    return readError(error, path, "checkpoint", "a readable directory");
  }
}

// ---- reading ----

async function blobOf(path: string, kind: ErrorKind): Promise<Blob> {
  const at = absolutePath(path);
  try {
    await fetchPackaged(at);
    return await (await store()).blob(at);
  } catch (error) {
    return readError(error, path, kind);
  }
}

/** Bytes moved per read call. */
const PIECE = 16 * 1024 * 1024;

/** Opens a file for random access. */
export async function openFile(path: string, kind: ErrorKind = "checkpoint"): Promise<ByteSource> {
  const blob = await blobOf(path, kind);
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    if (offset + length > blob.size) endsTooEarly(path, blob.size, offset, length);
    try {
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    } catch (error) {
      return readError(error, path, kind);
    }
  };
  return {
    name: path,
    size: blob.size,
    read,
    async readInto(offset, target) {
      for (let done = 0; done < target.length; done += PIECE)
        target.set(await read(offset + done, Math.min(PIECE, target.length - done)), done);
    },
    close: async () => {},
  };
}

/** Bytes of the largest file that is read whole; JavaScript's strings end at twice that. */
const LARGEST_TEXT = 1 << 28;

/** A whole text file as UTF-8. */
export async function readText(path: string, kind: ErrorKind = "checkpoint"): Promise<string> {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(await readBytes(path, kind));
}

/** A whole file of moderate size. */
export async function readBytes(path: string, kind: ErrorKind = "checkpoint"): Promise<Uint8Array> {
  const file = await openFile(path, kind);
  if (file.size > LARGEST_TEXT)
    fail(kind, {
      where: path,
      found: `more than ${LARGEST_TEXT >> 20} MiB of text`,
      expected: "a smaller file",
      fix: "check that this is the file you mean",
    });
  return file.read(0, file.size);
}

/** A JSON file. */
export async function readJson(path: string, kind: ErrorKind = "checkpoint"): Promise<unknown> {
  return jsonOf(await readText(path, kind), path, kind);
}

/** The path that means standard input, which a tab does not have. */
export const STDIN = "-";

/** A path as errors call it. */
export const fileName = (path: string): string => (path === STDIN ? "stdin" : path);

/** The lines of a text file, gunzipped when the name ends in `.gz`, without their line ends. UTF-8. */
export async function* readLines(path: string, kind: ErrorKind = "data"): AsyncGenerator<string, void, undefined> {
  let blob = await blobOf(path, kind);
  try {
    if (/\.gz$/i.test(path))
      blob = await new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).blob();
    const lines = new TextDecoder("utf-8", { fatal: true }).decode(await blob.arrayBuffer()).split("\n");
    if (lines[lines.length - 1] === "") lines.pop();
    for (const [i, line] of lines.entries()) {
      if (line.includes("\0"))
        fail(kind, {
          where: `${path}, line ${i + 1}`,
          found: "a NUL character",
          expected: "text",
          fix: "save the file as UTF-8 text",
        });
      yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
  } catch (error) {
    if (error instanceof TypeError)
      fail(
        kind,
        {
          where: path,
          found: messageOf(error),
          expected: "UTF-8 text, or gzip of it",
          fix: "save the file as UTF-8",
        },
        error,
      );
    throw error;
  }
}
