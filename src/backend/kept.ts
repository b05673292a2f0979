/**
 * @file Arrays of the host that a backend keeps in memory of its own: weights, gradients, moments. Programs read and write them
 * there; each way they are copied only when the other side has changed them. An array is the name of what is kept: whoever has the
 * array may run programs on it, and where nothing is kept programs are given the array itself.
 */
import type { Backend, DeviceBuffer, Slot, Slots } from "./backend.ts";

interface Held {
  readonly buffer: DeviceBuffer;
  /** Who has the newer numbers; undefined: both have the same. */
  newer?: "host" | "device";
  /** How many programs wrote it. */
  writes: number;
}

export class Kept {
  readonly #backend: Backend;
  readonly #held = new WeakMap<Float32Array, Held>();
  /** Those whose array is still there. */
  readonly #all = new Set<Held>();
  readonly #gone = new FinalizationRegistry<Held>((held) => this.#free(held));

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Keep these arrays from now on. Those that are kept already stay as they are. */
  keep(arrays: Iterable<Float32Array>): void {
    for (const array of arrays) {
      if (this.#held.has(array)) continue;
      const held: Held = { buffer: this.#backend.buffer("float32", array.length), newer: "host", writes: 0 };
      this.#held.set(array, held);
      this.#all.add(held);
      this.#gone.register(array, held);
    }
  }

  /** Whether programs have written it since the host read it. */
  isStale(array: Float32Array): boolean {
    return this.#held.get(array)?.newer === "device";
  }

  /** The host changes it, or may: it is sent before the next program reads it. */
  changed(array: Float32Array): void {
    const held = this.#held.get(array);
    if (held) held.newer = "host";
  }

  /** Bring the host's numbers up to date. */
  async refresh(arrays: Iterable<Float32Array>): Promise<void> {
    for (const array of arrays) {
      const held = this.#held.get(array);
      if (held?.newer !== "device") continue;
      const { writes } = held;
      await this.#backend.read(held.buffer, array);
      if (held.writes === writes && held.newer === "device") held.newer = undefined;
    }
  }

  /** A program's slots with the backend's memory in place of arrays that are kept; what the host has changed is sent. */
  async slots(feeds: Slots, fetches: Slots): Promise<[Slots, Slots]> {
    const sent: Promise<void>[] = [];
    const inputs = this.#replaced(feeds, (held, array) => {
      if (held.newer !== "host") return;
      held.newer = undefined;
      sent.push(this.#backend.write(held.buffer, array));
    });
    const outputs = this.#replaced(fetches, (held) => {
      held.newer = "device";
      held.writes++;
    });
    await Promise.all(sent);
    return [inputs, outputs];
  }

  /** Free the memory of all whose numbers the host has. */
  release(): void {
    for (const held of this.#all) {
      if (held.newer === "device") continue;
      this.#backend.free(held.buffer);
      held.newer = "host";
    }
  }

  #replaced(slots: Slots, each: (held: Held, array: Float32Array) => void): Slots {
    const replaced: Record<string, Slot> = {};
    for (const [name, slot] of Object.entries(slots)) {
      const held = slot instanceof Float32Array ? this.#held.get(slot) : undefined;
      if (held) each(held, slot as Float32Array);
      replaced[name] = held?.buffer ?? slot;
    }
    return replaced;
  }

  #free(held: Held): void {
    this.#all.delete(held);
    this.#backend.free(held.buffer);
  }
}
