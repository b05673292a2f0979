/** @file A file of lines that somebody else appends to, read as it grows. */
import { open, stat } from "node:fs/promises";

/** A whole line, without its end, and where its bytes are. */
export interface Line {
  readonly text: string;
  readonly at: number;
  readonly bytes: number;
}

/** Bytes read at once. */
const PIECE = 8 * 1024 * 1024;

/** Follows one file, which need not be there yet. */
export class Tail {
  readonly path: string;
  /** Where the line begins that comes next. */
  #at = 0;
  #inode = 0;
  #rest: Buffer = Buffer.alloc(0);

  constructor(path: string) {
    this.path = path;
  }

  /**
   * The lines that were finished since the last call, some at a time. `restarted` is true where the file is another one, or shorter
   * than it was: what was read before is no more, and everything comes again.
   */
  async *next(): AsyncGenerator<{ restarted: boolean; lines: Line[] }> {
    const info = await stat(this.path).catch(() => undefined);
    if (!info?.isFile()) return;
    const seen = this.#at + this.#rest.length;
    let restarted = this.#inode !== 0 && (info.ino !== this.#inode || info.size < seen);
    if (restarted) {
      this.#at = 0;
      this.#rest = Buffer.alloc(0);
    }
    this.#inode = info.ino;
    if (restarted) yield { restarted, lines: [] };
    restarted = false;
    if (info.size === this.#at + this.#rest.length) return;
    const file = await open(this.path, "r").catch(() => undefined);
    if (!file) return;
    try {
      for (;;) {
        const from = this.#at + this.#rest.length;
        const piece = Buffer.alloc(Math.min(PIECE, Math.max(0, info.size - from)));
        const { bytesRead } = piece.length > 0 ? await file.read(piece, 0, piece.length, from) : { bytesRead: 0 };
        if (bytesRead === 0) return;
        yield { restarted, lines: this.#split(Buffer.concat([this.#rest, piece.subarray(0, bytesRead)])) };
      }
    } finally {
      await file.close();
    }
  }

  #split(bytes: Buffer): Line[] {
    const lines: Line[] = [];
    let start = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      lines.push({ text: bytes.toString("utf8", start, end), at: this.#at + start, bytes: end - start });
      start = end + 1;
    }
    this.#at += start;
    this.#rest = bytes.subarray(start);
    return lines;
  }

  /** A line that was read before; undefined where the file ends before it. */
  async lineAt(at: number, bytes: number): Promise<string | undefined> {
    const file = await open(this.path, "r").catch(() => undefined);
    if (!file) return undefined;
    try {
      const buffer = Buffer.alloc(bytes);
      const { bytesRead } = await file.read(buffer, 0, bytes, at);
      return bytesRead === bytes ? buffer.toString("utf8") : undefined;
    } finally {
      await file.close();
    }
  }
}
