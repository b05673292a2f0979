/** @file Runs programs: compiles each once, keeps the session, reuses buffers. */
import { type Program, writeOnnx } from "../graph/onnx.ts";
import { workingBytes } from "../graph/work.ts";
import { sha256Of } from "../platform/hash.ts";
import { availableCores } from "../platform/process.ts";
import { type Buffers, Session } from "./session.ts";

export interface EngineOptions {
  /** Threads inside one operation. Default: the cores this process may use. */
  threads?: number;
  /** Compiled programs kept; the least recently used is dropped first. */
  maxSessions?: number;
  /** Write an ONNX Runtime profile of every session, with this file name prefix. */
  profile?: string;
}

/**
 * A session keeps its working memory between runs, and every length of sequences has sessions of its own. Together they may
 * keep this much, or this many times what the largest needs: as many as one step of one length takes in turns.
 */
export const MIN_WORKING_BYTES = 256e6;
export const SESSIONS_OF_LARGEST = 4;

/**
 * Compiled programs. Programs with the same ONNX bytes share a session, whoever built them and whenever; nothing else decides.
 * Weights are fed, never compiled in: one session serves every layer of a model.
 */
export class Engine {
  readonly threads: number;
  readonly #maxSessions: number;
  readonly #profile?: string;
  readonly #sessions = new Map<string, { session: Session; bytes: number }>();

  constructor(options: EngineOptions = {}) {
    this.threads = options.threads ?? availableCores();
    this.#maxSessions = options.maxSessions ?? 96;
    this.#profile = options.profile;
  }

  /**
   * Run a program, compiling it the first time. If it runs often, pass the same object: its structure is then examined only once.
   * @param feeds   a buffer for each input of the program
   * @param fetches a buffer for each output, written in place
   * @internal
   */
  async run(program: Program, feeds: Buffers, fetches: Buffers): Promise<void> {
    this.session(program).run(feeds, fetches);
  }

  /** The compiled program. @internal */
  session(program: Program): Session {
    const key = fingerprint(program);
    let entry = this.#sessions.get(key);
    if (entry) this.#sessions.delete(key);
    else {
      const bytes = workingBytes(program);
      this.#makeRoom(bytes);
      entry = { session: this.compile(program), bytes };
    }
    this.#sessions.set(key, entry); // the map is ordered from least to most recently used
    return entry.session;
  }

  /** Dispose of the least recently used, until there is room for one with that much working memory. */
  #makeRoom(bytes: number): void {
    const sizes = () => [bytes, ...Array.from(this.#sessions.values(), (entry) => entry.bytes)];
    const sum = () => sizes().reduce((a, b) => a + b, 0);
    const limit = Math.max(MIN_WORKING_BYTES, SESSIONS_OF_LARGEST * Math.max(...sizes()));
    while (this.#sessions.size >= this.#maxSessions || (this.#sessions.size > 0 && sum() > limit)) {
      const [oldest, unused] = this.#sessions.entries().next().value as [string, { session: Session }];
      unused.session.dispose();
      this.#sessions.delete(oldest);
    }
  }

  /** A program compiled for one owner, who disposes of it. @internal */
  compile(program: Program): Session {
    return new Session(program, { threads: this.threads, profile: this.#profile });
  }

  /** Free every session. The engine can be used again; it builds them anew. */
  dispose(): void {
    for (const { session } of this.#sessions.values()) session.dispose();
    this.#sessions.clear();
  }
}

const fingerprints = new WeakMap<Program, string>();

/** The same for programs of the same structure: operations, attributes, sizes, names of inputs and outputs. */
function fingerprint(program: Program): string {
  let found = fingerprints.get(program);
  if (found === undefined) {
    found = sha256Of([writeOnnx(program).bytes]);
    fingerprints.set(program, found);
  }
  return found;
}

/**
 * Float32 buffers by length, handed out again after use: fresh memory costs page faults, and memory touched is time. A new
 * buffer takes the place of free ones of other lengths, so that all together are never more than were once in use.
 */
export class BufferPool {
  readonly #free = new Map<number, Float32Array[]>();

  /** A buffer of that many elements. Its contents are undefined. */
  take(length: number): Float32Array {
    const buffer = this.#free.get(length)?.pop();
    if (buffer) return buffer;
    let dropped = 0;
    for (const [size, list] of this.#free) {
      for (; list.length > 0 && dropped < length; dropped += size) list.pop();
      if (list.length === 0) this.#free.delete(size);
    }
    return new Float32Array(length);
  }

  /** Give buffers back. Using one after that is an error that goes undetected. */
  release(...buffers: Float32Array[]): void {
    for (const buffer of buffers) {
      const list = this.#free.get(buffer.length);
      if (list) list.push(buffer);
      else this.#free.set(buffer.length, [buffer]);
    }
  }

  /** Forget all free buffers. */
  clear(): void {
    this.#free.clear();
  }
}
