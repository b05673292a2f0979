/**
 * @file WebGPU in Node: the execution provider that is part of onnxruntime-node on some platforms, over Vulkan, Metal or Direct3D 12.
 * In a browser web/webgpu-runtime.ts takes this file's place.
 *
 * - Memory of the GPU is opaque there: it is made by a program that copies its input, and read by one that copies to the host.
 *   `Tensor.getData` ends the process (version 1.30.0).
 * - That the GPU is gone shows in what a run throws.
 * - With preferredOutputLocation results that are given a place are written elsewhere: only the program that makes memory has it.
 */
import { fail, messageOf } from "../base/errors.ts";
import { writeOnnx } from "../graph/onnx.ts";
import { stopGradient } from "../graph/ops/index.ts";
import { input } from "../graph/tensor.ts";
import { machine } from "../platform/process.ts";
import type { DeviceBuffer, HostArray } from "./backend.ts";
import { loadNative, type NativeSession } from "./ort-node.ts";
import { engineError } from "./slots.ts";

type DType = DeviceBuffer["dtype"];

/** onnxruntime-common's Tensor, as far as it is used here. */
export interface GPUTensor {
  readonly gpuBuffer: unknown;
  readonly data: HostArray;
  dispose(): void;
}

/** Memory of the GPU. */
export interface Memory {
  /** What onnxruntime-common calls a GPUBuffer. */
  readonly gpuBuffer: unknown;
  free(): void;
}

/** A compiled program. Outputs that are null come back on the host. */
export interface GPUSession {
  run(
    inputs: Readonly<Record<string, GPUTensor>>,
    outputs: Readonly<Record<string, GPUTensor | null>>,
  ): Promise<Readonly<Record<string, GPUTensor>>>;
  dispose(): void;
}

/** What Node and browsers do differently. */
export interface GPURuntime {
  readonly Tensor: (new (
    type: string,
    data: HostArray,
    dims: readonly number[],
  ) => GPUTensor) & {
    fromGpuBuffer(buffer: never, options: { dataType: never; dims: readonly number[] }): unknown;
  };
  compile(name: string, bytes: Uint8Array): Promise<GPUSession>;
  /** Fulfilled when the GPU is gone, with why. Where there is none, only errors of what was asked of it tell. */
  readonly lost?: Promise<string>;
  /** New memory, its contents undefined. */
  make(dtype: DType, length: number): Promise<Memory>;
  write(to: Memory, from: HostArray): Promise<void>;
  read(from: Memory, to: HostArray): Promise<void>;
}

const OPTIONS = {
  executionProviders: [{ name: "webgpu" }],
  enableMemPattern: false,
  logSeverityLevel: 4,
  // As ort-node.ts says of the first session of a process; "some operators run on the CPU" is not worth a word.
  extra: { session: { set_denormal_as_zero: "1" } },
};

let runtime: GPURuntime | undefined;

/** @throws engine - onnxruntime-node has no WebGPU on this platform; there is no adapter */
export function openGPU(): GPURuntime | Promise<GPURuntime> {
  runtime ??= new NodeGPU();
  return runtime;
}

class NodeGPU implements GPURuntime {
  readonly Tensor = loadNative().Tensor as GPURuntime["Tensor"];
  readonly #sessions: Readonly<Record<DType, { place: NativeSession; copy: NativeSession }>>;

  constructor() {
    requireSupport();
    const made = (dtype: DType) => {
      const program = { name: "copy", free: ["N"], outputs: { y: stopGradient(input("x", { N: 1 }, dtype)) } };
      const { bytes } = writeOnnx(program);
      return { place: create(bytes, { preferredOutputLocation: "gpu-buffer" }), copy: create(bytes) };
    };
    try {
      this.#sessions = { float32: made("float32"), int32: made("int32") };
    } catch (cause) {
      noAdapter(cause);
    }
  }

  async compile(name: string, bytes: Uint8Array): Promise<GPUSession> {
    let session: NativeSession;
    try {
      session = create(bytes);
    } catch (cause) {
      return engineError(`building ${name}`, cause);
    }
    return {
      run: async (inputs, outputs) => session.run(inputs, outputs, {}) as Record<string, GPUTensor>,
      dispose: () => session.dispose(),
    };
  }

  async make(dtype: DType, length: number): Promise<Memory> {
    const x = this.#tensor(dtype === "float32" ? new Float32Array(length) : new Int32Array(length));
    const { y } = this.#sessions[dtype].place.run({ x }, { y: null }, {}) as unknown as Record<string, GPUTensor>;
    return { gpuBuffer: y.gpuBuffer, free: () => y.dispose() };
  }

  async write(to: Memory, from: HostArray): Promise<void> {
    this.#of(from).copy.run({ x: this.#tensor(from) }, { y: this.#view(to, from) }, {});
  }

  async read(from: Memory, to: HostArray): Promise<void> {
    to.set(this.#of(to).copy.run({ x: this.#view(from, to) }, { y: null }, {}).y.data);
  }

  #of(array: HostArray) {
    return this.#sessions[dtypeOf(array)];
  }

  #tensor(data: HostArray): GPUTensor {
    return new this.Tensor(dtypeOf(data), data, [data.length]);
  }

  #view({ gpuBuffer }: Memory, like: HostArray) {
    return this.Tensor.fromGpuBuffer(gpuBuffer as never, { dataType: dtypeOf(like) as never, dims: [like.length] });
  }
}

const dtypeOf = (array: HostArray): DType => (array instanceof Float32Array ? "float32" : "int32");

function create({ buffer, byteOffset, byteLength }: Uint8Array, more: object = {}): NativeSession {
  const session = new (loadNative().binding.InferenceSession)();
  session.loadModel(buffer, byteOffset, byteLength, { ...OPTIONS, ...more });
  return session;
}

const WHERE = 'device "webgpu"';
/** As Node calls it: linux, darwin, win32. */
const system = () => machine().system.split(" ")[0];
const ANOTHER = 'the device "cpu" needs none';

function requireSupport(): void {
  const { binding } = loadNative();
  if (binding.listSupportedBackends().some(({ name }) => name === "webgpu")) return;
  fail("engine", {
    where: WHERE,
    found: `onnxruntime-node for ${system()} ${machine().arch}, which is built without WebGPU`,
    expected: "a platform that it is built with it for: Linux x64, macOS arm64, Windows x64 or arm64",
    fix: `use a browser on this machine, or one of those platforms; ${ANOTHER}`,
  });
}

/** What drives a GPU where there is none to be found. */
const DRIVERS: Readonly<Record<string, string>> = {
  linux:
    "install Vulkan's loader and a driver: apt-get install libvulkan1 mesa-vulkan-drivers (AMD, Intel), or NVIDIA's own with its graphics " +
    "libraries (in a container NVIDIA_DRIVER_CAPABILITIES=all); vulkaninfo --summary lists what is found",
  darwin: "Metal must see a GPU: system_profiler SPDisplaysDataType lists them",
  win32: "install the GPU's driver, with Direct3D 12",
};

function noAdapter(cause: unknown): never {
  const said = messageOf(cause);
  if (!/adapter/i.test(said)) engineError(WHERE, cause);
  return fail(
    "engine",
    {
      where: WHERE,
      found: `no GPU that WebGPU can use (${/Failed to get.*/.exec(said)?.[0] ?? said})`,
      expected: "a GPU and its driver",
      fix: `${DRIVERS[system()] ?? "install the GPU's driver"}; ${ANOTHER}`,
    },
    cause,
  );
}
