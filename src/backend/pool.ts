/** @file Memory that is handed out again after use. */
import type { Backend, DeviceBuffer } from "./backend.ts";

/** The free buffers of one kind, by length. */
type Free<T> = Map<number, T[]>;

/**
 * Float32 memory of a backend and of the host, by length: fresh memory costs page faults, and memory touched is time. A new
 * buffer takes the place of free ones of other lengths, so that all together are never more than were once in use.
 */
export class BufferPool {
  readonly #backend: Backend;
  readonly #buffers: Free<DeviceBuffer> = new Map();
  readonly #arrays: Free<Float32Array> = new Map();

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** A buffer of that many elements, for what programs hand to programs. Its contents are undefined. */
  take(length: number): DeviceBuffer {
    const free = this.#buffers.get(length)?.pop();
    if (free) return free;
    this.#drop(length);
    return this.#backend.buffer("float32", length);
  }

  /** An array of that many elements, for what the host fills or reads. Its contents are undefined. */
  array(length: number): Float32Array {
    const free = this.#arrays.get(length)?.pop();
    if (free) return free;
    this.#drop(length);
    return new Float32Array(length);
  }

  /** Give memory back. Using it after that is an error that goes undetected. */
  release(...memory: (DeviceBuffer | Float32Array)[]): void {
    for (const one of memory) {
      if (one instanceof Float32Array) put(this.#arrays, one);
      else put(this.#buffers, one);
    }
  }

  /** Forget all free memory. */
  clear(): void {
    this.#drop(Number.POSITIVE_INFINITY);
  }

  /** Drop free memory until that many elements are gone, if there are so many. */
  #drop(elements: number): void {
    const dropped = drop(this.#buffers, elements, (buffer) => this.#backend.free(buffer));
    drop(this.#arrays, elements - dropped, () => {});
  }
}

function put<T extends { readonly length: number }>(free: Free<T>, one: T): void {
  const list = free.get(one.length);
  if (list) list.push(one);
  else free.set(one.length, [one]);
}

/** @returns how many elements were dropped */
function drop<T>(free: Free<T>, elements: number, gone: (one: T) => void): number {
  let dropped = 0;
  for (const [size, list] of free) {
    for (; list.length > 0 && dropped < elements; dropped += size) gone(list.pop() as T);
    if (list.length === 0) free.delete(size);
  }
  return dropped;
}
