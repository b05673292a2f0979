/** @file A file of lines that somebody else appends to, read as it grows. */
import { absolutePath } from "../paths.ts";
import { store } from "../store.ts";

/** A whole line, without its end, and where its bytes are. */
export interface Line {
  readonly text: string;
  readonly at: number;
  readonly bytes: number;
}

/** Follows one file, which need not be there yet. */
export class Tail {
  readonly path: string;
  /** Where the line begins that comes next. */
  #at = 0;

  constructor(path: string) {
    this.path = absolutePath(path);
  }

  /** The lines that were finished since the last call. `restarted`: the file is shorter than it was, and everything comes again. */
  async *next(): AsyncGenerator<{ restarted: boolean; lines: Line[] }> {
    const files = await store();
    const blob = await files.blob(this.path).catch(() => undefined);
    if (!blob) return;
    const restarted = blob.size < this.#at;
    if (restarted) this.#at = 0;
    if (blob.size === this.#at && !restarted) return;
    const read = await blob
      .slice(this.#at)
      .arrayBuffer()
      .catch(() => new ArrayBuffer(0)); // written to in this moment: next time
    const bytes = new Uint8Array(read);
    const lines: Line[] = [];
    let start = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
      const text = new TextDecoder().decode(bytes.subarray(start, end));
      lines.push({ text, at: this.#at + start, bytes: end - start });
      start = end + 1;
    }
    this.#at += start;
    yield { restarted, lines };
  }

  /** A line that was read before; undefined where the file ends before it. */
  async lineAt(at: number, bytes: number): Promise<string | undefined> {
    const blob = await (await store()).blob(this.path).catch(() => undefined);
    if (!blob || blob.size < at + bytes) return undefined;
    return blob.slice(at, at + bytes).text();
  }
}
