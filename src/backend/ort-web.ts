/**
 * @file The WebAssembly backend, and the only file that knows onnxruntime-web, which is installed by those who want it.
 *
 * - A run copies its inputs into WebAssembly's memory and its results out of it. Results written into a caller's buffer never
 *   reach it (version 1.30.0): they are taken as they come, and copied.
 * - The memory of its buffers could be shown, but is not: what works here needs no memory of the host.
 */
import type { InferenceSession, Tensor } from "onnxruntime-common";
import { fail, messageOf } from "../base/errors.ts";
import { type ONNXModel, type Program, writeOnnx } from "../graph/onnx.ts";
import { packageRequire } from "../platform/package.ts";
import type { Backend, DeviceBuffer, Executable, HostArray, Slot, Slots } from "./backend.ts";
import { engineError, tensorsOf } from "./slots.ts";

type Runtime = typeof import("onnxruntime-common");

const PACKAGE = "onnxruntime-web";
/** The one whose behaviour was measured. */
const VERSION = "1.30.0";
/** What it would print is in the error that is thrown. */
const QUIET = { logSeverityLevel: 4 } as const;

/**
 * @param threads the first to load it decides for the process
 * @throws engine - it is not installed
 */
function load(threads: number): Runtime {
  let runtime: Runtime;
  try {
    runtime = packageRequire()(PACKAGE);
  } catch (cause) {
    return fail(
      "engine",
      {
        where: 'device "wasm"',
        found: messageOf(cause).split("\n")[0],
        expected: `the package ${PACKAGE}, which the CPU does not need and npm therefore does not install by itself`,
        fix: `npm install --ignore-scripts ${PACKAGE}@${VERSION}`,
      },
      cause,
    );
  }
  runtime.env.wasm.numThreads ??= threads;
  return runtime;
}

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

/** ONNX Runtime on WebAssembly, in a Node process. */
export class OrtWeb implements Backend {
  readonly name = "wasm";
  /** It has the kernels of the CPU. */
  readonly lacks: ReadonlySet<string> = new Set();
  readonly threads: number;
  readonly #runtime: Runtime;

  /** @throws engine - onnxruntime-web is not installed */
  constructor({ threads }: { threads: number }) {
    this.#runtime = load(threads);
    this.threads = this.#runtime.env.wasm.numThreads ?? threads;
  }

  async compile(program: Program): Promise<Executable> {
    const model = writeOnnx(program, { lacks: this.lacks });
    const options: InferenceSession.SessionOptions = {
      executionProviders: ["wasm"],
      graphOptimizationLevel: "all",
      enableMemPattern: false,
      ...QUIET,
      extra: { session: { set_denormal_as_zero: "1" } },
    };
    const session = await this.#runtime.InferenceSession.create(model.bytes, options).catch((cause) =>
      engineError(`building ${program.name}`, cause),
    );
    return {
      run: (feeds, fetches, free = {}) => this.#run(session, model, feeds, fetches, free),
      dispose: () => {
        session.release().catch(() => {}); // nothing can be done about it, and nobody waits
      },
    };
  }

  async #run(
    session: InferenceSession,
    model: ONNXModel,
    feeds: Slots,
    fetches: Slots,
    free: Readonly<Record<string, number>>,
  ): Promise<void> {
    const inputs = tensorsOf<Tensor>(this.#runtime.Tensor, model, "inputs", feeds, WebBuffer.memoryOf, free);
    tensorsOf<Tensor>(this.#runtime.Tensor, model, "outputs", fetches, WebBuffer.memoryOf, free); // checked, not given
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
