/** @file A directory as one file, for a browser to download: tar, in the form of POSIX.1-1988 (ustar). */
import { fail } from "../base/errors.ts";
import { baseName, isDirectory, joinPath, listDirectory, openFile } from "../platform/files.ts";

const BLOCK = 512;
/** Bytes read at once. */
const PIECE = 1 << 24;

/** A header: fields of text, numbers in octal, and the sum of all its bytes. */
function header(path: string, size: number, folder: boolean): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(BLOCK);
  const put = (at: number, length: number, text: string) => {
    const encoded = new TextEncoder().encode(text);
    if (encoded.length > length)
      fail("checkpoint", { where: path, found: "too long a name", expected: "up to 100 bytes", fix: "rename it" });
    bytes.set(encoded, at);
  };
  const octal = (at: number, length: number, value: number) =>
    put(at, length, `${value.toString(8).padStart(length - 1, "0")}\0`);
  put(0, 100, path);
  octal(100, 8, folder ? 0o755 : 0o644);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size);
  octal(136, 12, 0); // the same directory gives the same archive
  put(148, 8, "        ");
  put(156, 1, folder ? "5" : "0");
  put(257, 8, "ustar\x0000");
  octal(
    148,
    7,
    bytes.reduce((sum, byte) => sum + byte, 0),
  );
  return bytes;
}

async function add(parts: Uint8Array<ArrayBuffer>[], path: string, name: string): Promise<void> {
  if (await isDirectory(path)) {
    parts.push(header(`${name}/`, 0, true));
    for (const entry of await listDirectory(path)) await add(parts, joinPath(path, entry), `${name}/${entry}`);
    return;
  }
  const file = await openFile(path);
  try {
    parts.push(header(name, file.size, false));
    for (let at = 0; at < file.size; at += PIECE)
      parts.push((await file.read(at, Math.min(PIECE, file.size - at))) as Uint8Array<ArrayBuffer>);
    parts.push(new Uint8Array((BLOCK - (file.size % BLOCK)) % BLOCK));
  } finally {
    await file.close();
  }
}

/**
 * A directory and all that is in it as a tar archive, whose names begin with the directory's own: a checkpoint of a run in a
 * browser, to be downloaded and unpacked elsewhere with `tar -xf`.
 * @throws checkpoint - no such directory; a name of more than 100 bytes
 */
export async function packDirectory(path: string): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await listDirectory(path); // an error where there is none
  await add(parts, path, baseName(path));
  return new Blob([...parts, new Uint8Array(2 * BLOCK)], { type: "application/x-tar" });
}
