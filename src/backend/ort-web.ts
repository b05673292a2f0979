/**
 * @file The WebAssembly backend: onnxruntime-web, in Node for those who install it (web-runtime.ts) and in browsers.
 *
 * - A run copies its inputs into WebAssembly's memory and its results out of it. Results written into a caller's buffer never
 *   reach it (version 1.30.0): they are taken as they come, and copied.
 * - The memory of its buffers could be shown, but is not: what works here needs no memory of the host.
 */
import type { InferenceSession, Tensor } from "onnxruntime-common";
import { type ONNXModel, type Program, writeOnnx } from "../graph/onnx.ts";
import type { Backend, DeviceBuffer, Executable, HostArray, Slot, Slots } from "./backend.ts";
import { engineError, tensorsOf } from "./slots.ts";
import { loadRuntime, type Runtime, sessionError } from "./web-runtime.ts";

/** What it would print is in the error that is thrown. */
const QUIET = { logSeverityLevel: 4 } as const;

class WebBuffer implements DeviceBuffer {
  readonly #data: HostArray;

  constructor(data: HostArray) {
    this.#data = data;
  }

  get dtype() {
    return this.#data instanceof Float32Array ? "float32" : "int32";
  }

  get length(): number {
    return this.#data.length;
  }

  static memoryOf(slot: Slot | undefined): unknown {
    return slot instanceof WebBuffer ? slot.#data : slot;
  }
}

const memoryOf = (slot: Slot) => WebBuffer.memoryOf(slot) as HostArray;

/** ONNX Runtime on WebAssembly, in a Node process or a browser. */
export class OrtWeb implements Backend {
  readonly name = "wasm";
  /** All memory is the host's, and a run copies it in any case. */
  readonly keeps = false;
  /** It has the kernels of the CPU. */
  readonly lacks: ReadonlySet<string> = new Set();
  readonly threads: number;
  readonly #runtime: Runtime | Promise<Runtime>;

  /**
   * @param options.threads the first backend of a process, page or worker decides for all of its own
   * @throws engine - onnxruntime-web is not installed
   */
  constructor({ threads }: { threads: number }) {
    this.#runtime = loadRuntime();
    if (!(this.#runtime instanceof Promise)) this.#runtime.env.wasm.numThreads ??= threads;
    this.threads = this.#runtime instanceof Promise ? threads : (this.#runtime.env.wasm.numThreads ?? threads);
  }

  async #loaded(): Promise<Runtime> {
    const runtime = await this.#runtime;
    runtime.env.wasm.numThreads ??= this.threads;
    return runtime;
  }

  onnx(program: Program): ONNXModel {
    return writeOnnx(program, { lacks: this.lacks });
  }

  async compile(program: Program, written = this.onnx(program)): Promise<Executable> {
    const { bytes, ...model } = written; // before anything is awaited: its numbers may change
    const runtime = await this.#loaded();
    const options: InferenceSession.SessionOptions = {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      enableMemPattern: false,
      ...QUIET,
      extra: { session: { set_denormal_as_zero: "1" } },
    };
    const session = await runtime.InferenceSession.create(bytes, options).catch((cause) =>
      sessionError(`building ${program.name}`, cause),
    );
    return {
      run: (feeds, fetches, free = {}) => this.#run(runtime, session, model, feeds, fetches, free),
      dispose: () => {
        session.release().catch(() => {}); // nothing can be done about it, and nobody waits
      },
    };
  }

  async #run(
    { Tensor }: Runtime,
    session: InferenceSession,
    model: Omit<ONNXModel, "bytes">,
    feeds: Slots,
    fetches: Slots,
    free: Readonly<Record<string, number>>,
  ): Promise<void> {
    const inputs = tensorsOf<Tensor>(Tensor, model, "inputs", feeds, WebBuffer.memoryOf, free);
    tensorsOf<Tensor>(Tensor, model, "outputs", fetches, WebBuffer.memoryOf, free); // checked, not given
    const results = await session.run(inputs, QUIET).catch((cause) => engineError(`running ${model.name}`, cause));
    for (const name of model.outputs.keys()) memoryOf(fetches[name]).set(results[name].data as HostArray);
  }

  buffer(dtype: DeviceBuffer["dtype"], length: number): DeviceBuffer {
    return new WebBuffer(dtype === "float32" ? new Float32Array(length) : new Int32Array(length));
  }

  async write(to: DeviceBuffer, from: HostArray): Promise<void> {
    memoryOf(to).set(from);
  }

  async read(from: DeviceBuffer, to: HostArray): Promise<void> {
    to.set(memoryOf(from));
  }

  host(): undefined {}

  /** The garbage collector does it. */
  free(): void {}
}
