/** @file Runs programs: compiles each once and keeps it. */
import { describe } from "../base/describe.ts";
import { fail } from "../base/errors.ts";
import type { ONNXModel, Program } from "../graph/onnx.ts";
import { workingBytes } from "../graph/work.ts";
import { sha256Of } from "../platform/hash.ts";
import { availableCores } from "../platform/process.ts";
import type { Backend, Executable, Slots } from "./backend.ts";
import { DEFAULT_DEVICE, DEVICES, type Device } from "./devices.ts";
import { Kept } from "./kept.ts";
import { OrtNode } from "./ort-node.ts";
import { OrtWeb } from "./ort-web.ts";
import { WebGPU } from "./webgpu.ts";

/** What computes, on how many threads, and what is kept. */
export interface EngineOptions {
  /** What computes. Default: cpu; in a browser wasm. */
  device?: Device;
  /** Threads inside one operation. Default: the cores this process may use. */
  threads?: number;
  /** Compiled programs kept; the least recently used is dropped first. */
  maxSessions?: number;
  /** Write an ONNX Runtime profile of every compiled program, with this file name prefix. CPU only. */
  profile?: string;
}

const BACKENDS: Readonly<Record<Device, (options: { threads: number; profile?: string }) => Backend>> = {
  cpu: (options) => new OrtNode(options),
  wasm: (options) => new OrtWeb(options),
  webgpu: (options) => new WebGPU(options),
};

/**
 * A program keeps its working memory between runs, and every length of sequences has programs of its own. Together they may
 * keep this much, or this many times what the largest needs: as many as one step of one length takes in turns.
 */
export const MIN_WORKING_BYTES = 256e6;
export const SESSIONS_OF_LARGEST = 4;

/** A program that was compiled, or is being compiled. */
interface Compiled {
  readonly compiling: Promise<Executable>;
  /** The same, once it is there. */
  executable?: Executable;
  /** Bytes of its working memory. */
  readonly bytes: number;
  /** Runs that have not ended. */
  running: number;
  /** No longer kept: disposed of when nothing runs. */
  dropped: boolean;
}

/**
 * Compiled programs. Programs with the same ONNX bytes share one, whoever built them and whenever; nothing else decides.
 * Weights are fed, never compiled in: one program serves every layer of a model.
 */
export class Engine {
  readonly #maxSessions: number;
  readonly #compiled = new Map<string, Compiled>();
  /** The same for programs of the same structure: operations, attributes, sizes, names of inputs and outputs. */
  readonly #keys = new WeakMap<Program, string>();
  #backend: Backend;
  #kept?: Kept;

  /**
   * @throws config - no such device
   * @throws engine - its package is not installed
   */
  constructor(options: EngineOptions = {}) {
    const { device = DEFAULT_DEVICE, threads = availableCores(), profile } = options;
    this.#maxSessions = options.maxSessions ?? 96;
    if (!Object.hasOwn(BACKENDS, device))
      fail("config", {
        where: "device",
        found: describe(device),
        expected: DEVICES.join(" or "),
        fix: `name one of them, or leave it out: ${DEFAULT_DEVICE}`,
      });
    this.#backend = BACKENDS[device]({ threads, profile });
  }

  /** An engine over a backend of the caller's own. @internal */
  static over(backend: Backend, options: Pick<EngineOptions, "maxSessions"> = {}): Engine {
    const engine = new Engine(options);
    engine.#backend = backend;
    return engine;
  }

  /** What computes. @internal */
  get backend(): Backend {
    return this.#backend;
  }

  /** What the backend keeps in memory of its own; undefined: it works on the host's. @internal */
  get kept(): Kept | undefined {
    if (this.#backend.keeps) this.#kept ??= new Kept(this.#backend);
    return this.#kept;
  }

  /** The name of what computes: its device, or that of a backend of the caller's own. */
  get device(): string {
    return this.#backend.name;
  }

  /** Threads inside one operation. */
  get threads(): number {
    return this.#backend.threads;
  }

  /**
   * Run a program, compiling it the first time. If it runs often, pass the same object: its structure is then examined only once.
   * @param feeds   a slot for each input of the program
   * @param fetches a slot for each output, overwritten
   * @param free    sizes of the program's free axes, by name
   * @internal
   */
  async run(program: Program, feeds: Slots, fetches: Slots, free?: Readonly<Record<string, number>>): Promise<void> {
    const entry = this.#find(program);
    entry.running++;
    try {
      await (entry.executable ?? (await entry.compiling)).run(feeds, fetches, free);
    } finally {
      entry.running--;
      if (entry.dropped) release(entry);
    }
  }

  #find(program: Program): Compiled {
    let key = this.#keys.get(program);
    let model: ONNXModel | undefined;
    if (key === undefined) {
      model = this.#backend.onnx(program);
      key = sha256Of([model.bytes]);
      this.#keys.set(program, key);
    }
    let entry = this.#compiled.get(key);
    if (entry) this.#compiled.delete(key);
    else entry = this.#add(key, program, model);
    this.#compiled.set(key, entry); // the map is ordered from least to most recently used
    return entry;
  }

  #add(key: string, program: Program, model?: ONNXModel): Compiled {
    const bytes = workingBytes(program);
    this.#makeRoom(bytes);
    const entry: Compiled = { compiling: this.compile(program, model), bytes, running: 0, dropped: false };
    entry.compiling.then(
      (executable) => {
        entry.executable = executable;
      },
      () => {
        if (this.#compiled.get(key) === entry) this.#compiled.delete(key); // its runs are told; the next tries again
      },
    );
    return entry;
  }

  /** Drop the least recently used, until there is room for one with that much working memory. */
  #makeRoom(bytes: number): void {
    const sizes = () => [bytes, ...Array.from(this.#compiled.values(), (entry) => entry.bytes)];
    const sum = () => sizes().reduce((a, b) => a + b, 0);
    const limit = Math.max(MIN_WORKING_BYTES, SESSIONS_OF_LARGEST * Math.max(...sizes()));
    while (this.#compiled.size >= this.#maxSessions || (this.#compiled.size > 0 && sum() > limit)) {
      const [oldest, unused] = this.#compiled.entries().next().value as [string, Compiled];
      this.#compiled.delete(oldest);
      release(unused);
    }
  }

  /** A program compiled for one owner, who disposes of it. @internal */
  async compile(program: Program, model?: ONNXModel): Promise<Executable> {
    const compiling = this.#backend.compile(program, model);
    const { kept } = this;
    if (!kept) return compiling;
    const executable = await compiling;
    return {
      run: async (feeds, fetches, free) => executable.run(...(await kept.slots(feeds, fetches)), free),
      dispose: () => executable.dispose(),
    };
  }

  /** Free every compiled program, as soon as it does not run. The engine can be used again; it compiles them anew. */
  dispose(): void {
    this.#kept?.release();
    for (const entry of this.#compiled.values()) release(entry);
    this.#compiled.clear();
  }
}

function release(entry: Compiled): void {
  entry.dropped = true;
  if (entry.running === 0) entry.executable?.dispose();
}
