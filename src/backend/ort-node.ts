/**
 * @file The CPU backend, and the only file that knows onnxruntime-node. Every trap of version 1.30.0 is handled here, and
 * each handling has a test in test/unit/backend/traps.test.ts that fails without it:
 *
 * - Denormal numbers make exp and softmax 8 to 16 times slower, and the switch counts only in the first session of the
 *   process: every session sets it, and nothing else in the library creates sessions.
 * - The memory pattern doubles resident memory: off.
 * - Preallocated outputs are written in place and then copied once more. A first output that is a sequence makes the
 *   binding stop, after the run and before the copies, with a fixed message. {@link zeroCopyWorks} tests once that this
 *   still holds; where it does not, results are copied into the caller's buffers.
 * - Threads of one session go on spinning after a run and take a core from the next session's: one token of GPT-2 124M
 *   took twice as long. They are stopped when a run ends.
 * - ScatterND with repeated indices loses updates on two threads: the registry emits ScatterElements instead
 *   (graph/ops/gather.ts), and a session refuses a model that contains ScatterND.
 * - On x64 processors without VNNI (before Ice Lake and Zen 4) products of uint8 by int8 add pairs in 16 bits and cut off what does
 *   not fit: whole numbers come out wrong. An option makes the weights uint8, whose products are exact; it breaks DequantizeLinear
 *   with a scale for each output, so only programs with integer products and without that get it; and it takes their quicker products
 *   from processors with VNNI, so it is only used where a probe finds sums cut off.
 *
 * A run blocks the calling thread until it is done; the binding has no asynchronous form (see run/worker.ts).
 */
import { fail, messageOf } from "../base/errors.ts";
import type { ONNXModel, Program } from "../graph/onnx.ts";
import { SENTINEL, writeOnnx } from "../graph/onnx.ts";
import { add, quantizedLinear } from "../graph/ops/index.ts";
import { input, stored, type TensorType } from "../graph/tensor.ts";
import { packageRequire } from "../platform/package.ts";
import type { Backend, DeviceBuffer, Executable, HostArray, Slot, Slots } from "./backend.ts";
import { engineError, type TensorClass, tensorsOf } from "./slots.ts";

/** Handling of the traps; only the tests that show why each is needed turn one off. */
export interface TrapHandling {
  flushDenormals: boolean;
  noMemoryPattern: boolean;
  sentinel: boolean;
  stopSpinning: boolean;
  refuseScatterND: boolean;
  wideSums: boolean;
}

const ALL_HANDLED: TrapHandling = {
  flushDenormals: true,
  noMemoryPattern: true,
  sentinel: true,
  stopSpinning: true,
  refuseScatterND: true,
  wideSums: true,
};

/** Products of integers. */
const INTEGER_PRODUCTS = ["MatMulInteger", "MatMulIntegerToFloat"];

/** What the binding throws on a result that is no tensor, after the run itself succeeded. */
const SENTINEL_MESSAGE = "Non tensor type is temporarily not supported.";

export interface NativeSession {
  loadModel(buffer: ArrayBufferLike, byteOffset: number, byteLength: number, options: object): void;
  run(feeds: object, fetches: object, options: object): Record<string, { data: HostArray }>;
  endProfiling(): void;
  dispose(): void;
}

interface Native {
  binding: { InferenceSession: new () => NativeSession; listSupportedBackends(): { name: string }[] };
  initOrt(): void;
  Tensor: TensorClass<unknown>;
}

let native: Native | undefined;

/** The binding behind onnxruntime-node: the same calls without a Promise and a macrotask for each run. */
export function loadNative(): Native {
  if (native) return native;
  const require = packageRequire();
  try {
    const { binding, initOrt } = require("onnxruntime-node/dist/binding.js");
    const { Tensor } = require("onnxruntime-common");
    initOrt();
    native = { binding, initOrt, Tensor };
    return native;
  } catch (cause) {
    return fail(
      "engine",
      {
        where: "loading onnxruntime-node",
        found: messageOf(cause),
        expected: "a native library for this platform (linux x64 or arm64, macOS arm64, Windows x64 or arm64)",
        fix: "run npm install again on this machine, with Node 20 or newer",
      },
      cause,
    );
  }
}

export interface SessionOptions {
  threads: number;
  /** Write an ONNX Runtime profile to `<prefix>_<date>.json` when the session is disposed. */
  profile?: string;
  /** ONNX operators to do without, though they are there: for tests. */
  lacks?: ReadonlySet<string>;
  traps?: Partial<TrapHandling>;
}

const hasSentinel = ({ traps }: SessionOptions) => (traps?.sentinel ?? true) && zeroCopyWorks();

const nativeModel = (program: Program, options: SessionOptions) =>
  writeOnnx(program, { sentinel: hasSentinel(options), lacks: options.lacks });

/** A compiled program. Inputs are read where they lie and outputs are written where the caller wants them. */
export class Session {
  readonly #session: NativeSession;
  readonly #model: Omit<ONNXModel, "bytes">;
  readonly #sentinel: boolean;
  readonly #profiling: boolean;

  constructor(program: Program, options: SessionOptions, written = nativeModel(program, options)) {
    const { binding } = loadNative();
    const traps = { ...ALL_HANDLED, ...options.traps };
    this.#sentinel = hasSentinel(options);
    const { bytes, ...model } = written;
    this.#model = model; // without the bytes: weights that are compiled in are in the session
    if (traps.refuseScatterND && model.opTypes.has("ScatterND"))
      fail("engine", {
        where: `building ${program.name}`,
        found: "ScatterND, which loses updates to repeated indices on two threads",
        expected: "ScatterElements",
        fix: "use scatterAddRows or scatterAddLast",
      });
    const { opTypes } = model;
    const multiplies = INTEGER_PRODUCTS.some((op) => opTypes.has(op)) && !opTypes.has("DequantizeLinear");
    const wideSums = traps.wideSums && multiplies && sumsAreCutOff();
    this.#profiling = options.profile !== undefined;
    this.#session = new binding.InferenceSession();
    const { buffer, byteOffset, byteLength } = bytes;
    try {
      this.#session.loadModel(buffer, byteOffset, byteLength, {
        executionProviders: ["cpu"],
        intraOpNumThreads: options.threads,
        interOpNumThreads: 1,
        graphOptimizationLevel: options.lacks === undefined ? "all" : "disabled", // it would put back what is done without
        enableMemPattern: !traps.noMemoryPattern,
        enableCpuMemArena: true,
        logSeverityLevel: 4, // what it would print is in the error that is thrown
        ...(options.profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: options.profile }),
        extra: {
          session: {
            set_denormal_as_zero: traps.flushDenormals ? "1" : "0",
            force_spinning_stop: traps.stopSpinning ? "1" : "0",
            x64quantprecision: wideSums ? "1" : "0",
          },
        },
      });
    } catch (cause) {
      engineError(`building ${program.name}`, cause);
    }
  }

  get inputs(): ReadonlyMap<string, TensorType> {
    return this.#model.inputs;
  }

  get outputs(): ReadonlyMap<string, TensorType> {
    return this.#model.outputs;
  }

  /**
   * Compute, as {@link Executable.run} says. Blocks the thread until done.
   */
  run(feeds: Slots, fetches: Slots, free: Readonly<Record<string, number>> = {}): void {
    const { Tensor } = loadNative();
    const inputs = tensorsOf(Tensor, this.#model, "inputs", feeds, memoryOf, free);
    const outputs = tensorsOf(Tensor, this.#model, "outputs", fetches, memoryOf, free);
    if (!this.#sentinel) {
      const results = this.#call(inputs, outputs);
      for (const name of this.#model.outputs.keys()) (memoryOf(fetches[name]) as HostArray).set(results[name].data);
      return;
    }
    try {
      this.#session.run(inputs, { [SENTINEL]: null, ...outputs }, {});
    } catch (cause) {
      if (messageOf(cause) === SENTINEL_MESSAGE) return;
      engineError(`running ${this.#model.name}`, cause);
    }
  }

  #call(inputs: object, outputs: object) {
    try {
      return this.#session.run(inputs, outputs, {});
    } catch (cause) {
      return engineError(`running ${this.#model.name}`, cause);
    }
  }

  dispose(): void {
    if (this.#profiling) this.#session.endProfiling();
    this.#session.dispose();
  }
}

let zeroCopy: boolean | undefined;

/** Whether this onnxruntime-node writes fetched buffers in place and stops at the sentinel. Tested once per process. */
export function zeroCopyWorks(): boolean {
  if (zeroCopy !== undefined) return zeroCopy;
  zeroCopy = true; // for the probe's own session
  try {
    const x = input("x", { N: 2 });
    const probe = new Session({ name: "probe", outputs: { y: add(x, x) } }, { threads: 1 });
    const y = new Float32Array(2);
    probe.run({ x: Float32Array.of(1, 2) }, { y });
    probe.dispose();
    zeroCopy = y[0] === 2 && y[1] === 4;
  } catch {
    zeroCopy = false;
  }
  return zeroCopy;
}

/** Ones [1, 64] times a matrix of 127 in each place [64, 8]: 64 times 127, whose pairs of products need 17 bits. */
export function largestProducts(traps: Partial<TrapHandling>): Float32Array {
  const [K, N] = [64, 8];
  const weight = stored(new Int8Array(K * N).fill(127), { K, N });
  const y = quantizedLinear(input("x", { R: 1, K }), weight, input("scales", { N }));
  const session = new Session({ name: "probe", outputs: { y } }, { threads: 1, traps });
  const products = new Float32Array(N);
  session.run({ x: new Float32Array(K).fill(1), scales: new Float32Array(N).fill(1) }, { y: products });
  session.dispose();
  return products;
}

let cutOff: boolean | undefined;

/** Whether sums of integer products are cut off on this processor. Tested once per process. */
function sumsAreCutOff(): boolean {
  cutOff ??= largestProducts({ wideSums: false }).some((product) => product < 64 * 126);
  return cutOff;
}

/** Memory of the host under the backend's name. */
class HostBuffer implements DeviceBuffer {
  readonly data: HostArray;

  constructor(data: HostArray) {
    this.data = data;
  }

  get dtype() {
    return this.data instanceof Float32Array ? "float32" : "int32";
  }

  get length(): number {
    return this.data.length;
  }
}

const memoryOf = (slot: Slot | undefined): unknown => (slot instanceof HostBuffer ? slot.data : slot);

/** ONNX Runtime on the CPU of a Node process. Nothing is copied on the way in or out. */
export class OrtNode implements Backend {
  readonly name = "cpu";
  readonly keeps = false;
  readonly lacks: ReadonlySet<string>;
  readonly threads: number;
  readonly #options: SessionOptions;

  constructor(options: SessionOptions) {
    this.threads = options.threads;
    this.lacks = options.lacks ?? new Set();
    this.#options = options;
  }

  onnx(program: Program): ONNXModel {
    return nativeModel(program, this.#options);
  }

  async compile(program: Program, model?: ONNXModel): Promise<Executable> {
    const session = new Session(program, this.#options, model);
    return {
      run: async (feeds, fetches, free) => session.run(feeds, fetches, free),
      dispose: () => session.dispose(),
    };
  }

  buffer(dtype: DeviceBuffer["dtype"], length: number): DeviceBuffer {
    return new HostBuffer(dtype === "float32" ? new Float32Array(length) : new Int32Array(length));
  }

  async write(to: DeviceBuffer, from: HostArray): Promise<void> {
    this.host(to).set(from);
  }

  async read(from: DeviceBuffer, to: HostArray): Promise<void> {
    to.set(this.host(from));
  }

  host(buffer: DeviceBuffer): HostArray {
    return (buffer as HostBuffer).data;
  }

  /** The garbage collector does it. */
  free(): void {}
}
