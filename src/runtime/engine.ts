/** @file Runs programs: builds each once, keeps the session, reuses buffers. */
import os from "node:os";
import type { Program } from "../graph/onnx.ts";
import { type Buffers, Session } from "./session.ts";

export interface EngineOptions {
  /** Threads inside one operation. Default: the cores this process may use. */
  threads?: number;
  /** Compiled programs kept; the one not used for longest is dropped first. */
  maxSessions?: number;
  /** Write an ONNX Runtime profile of every session, with this file name prefix. */
  profile?: string;
}

/**
 * Compiled programs by key. A key names a builder and everything the graph depends on (sizes, options), so two runs with
 * one key may share a session. Weights are fed, never compiled in: one session serves every layer of a model.
 */
export class Engine {
  readonly threads: number;
  readonly #maxSessions: number;
  readonly #profile?: string;
  readonly #sessions = new Map<string, Session>();

  constructor(options: EngineOptions = {}) {
    this.threads = options.threads ?? os.availableParallelism();
    this.#maxSessions = options.maxSessions ?? 96;
    this.#profile = options.profile;
  }

  /**
   * Run the program of that key, building it the first time.
   * @param feeds   a buffer for each input of the program
   * @param fetches a buffer for each output, written in place
   */
  async run(key: string, build: () => Program, feeds: Buffers, fetches: Buffers): Promise<void> {
    this.session(key, build).run(feeds, fetches);
  }

  /** The compiled program of that key. */
  session(key: string, build: () => Program): Session {
    let session = this.#sessions.get(key);
    if (session) this.#sessions.delete(key);
    else {
      session = this.compile(build());
      while (this.#sessions.size >= this.#maxSessions) {
        const [oldest, unused] = this.#sessions.entries().next().value as [string, Session];
        unused.dispose();
        this.#sessions.delete(oldest);
      }
    }
    this.#sessions.set(key, session); // last in the map is the last one used
    return session;
  }

  /** A program compiled for one owner, who disposes of it. */
  compile(program: Program): Session {
    return new Session(program, { threads: this.threads, profile: this.#profile });
  }

  /** Free every session. The engine can be used again; it builds them anew. */
  dispose(): void {
    for (const session of this.#sessions.values()) session.dispose();
    this.#sessions.clear();
  }
}

/** Float32 buffers by length, handed out again after use: fresh memory costs page faults, and memory touched is time. */
export class BufferPool {
  readonly #free = new Map<number, Float32Array[]>();

  /** A buffer of that many elements. Its contents are whatever was there before. */
  take(length: number): Float32Array {
    return this.#free.get(length)?.pop() ?? new Float32Array(length);
  }

  /** Give buffers back. Using one after that is an error nobody will tell you about. */
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
