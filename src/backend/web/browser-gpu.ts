/**
 * @file WebGPU in a browser: the build of onnxruntime-web that is made for it. Its sessions work on buffers of its device, which are
 * made, written and read here.
 */
import type * as common from "onnxruntime-common";
import { fail, messageOf } from "../../base/errors.ts";
import { writeOnnx } from "../../graph/onnx.ts";
import { neg } from "../../graph/ops/elementwise.ts";
import { input } from "../../graph/tensor.ts";
import { browserFiles } from "../../platform/web/package.ts";
import type { DeviceBuffer, HostArray } from "../backend.ts";
import type { GPURuntime, GPUSession, GPUTensor, Memory } from "../webgpu-runtime.ts";
import { sessionError } from "./web-runtime.ts";

/** GPUBufferUsage, and GPUMapMode. */
const [MAP_READ, COPY_SRC, COPY_DST, STORAGE] = [1, 4, 8, 0x80];
const READ = 1;

let runtime: Promise<GPURuntime> | undefined;

/** The promise fails where there is no adapter, and where the runtime's files are not. */
export function openGPU(): GPURuntime | Promise<GPURuntime> {
  runtime ??= open();
  runtime.catch(() => {
    runtime = undefined; // the next tries again
  });
  return runtime;
}

async function open(): Promise<GPURuntime> {
  await requireAdapter();
  const module = (await import("onnxruntime-web/webgpu")) as typeof common & { default?: typeof common };
  const ort = module.InferenceSession ? module : (module.default as typeof common);
  ort.env.wasm.wasmPaths ??= browserFiles().runtime;
  ort.env.wasm.numThreads = 1; // the GPU computes
  // The device comes with the first session and goes with the last: this one stays.
  await compile(
    ort,
    "the first program",
    writeOnnx({ name: "first", outputs: { y: neg(input("x", { N: 1 })) } }).bytes,
  );
  return new BrowserGPU(ort, (await ort.env.webgpu.device) as GPUDevice);
}

class BrowserGPU implements GPURuntime {
  readonly Tensor: GPURuntime["Tensor"];
  readonly lost: Promise<string>;
  readonly #ort: typeof common;
  readonly #device: GPUDevice;

  constructor(ort: typeof common, device: GPUDevice) {
    this.#ort = ort;
    this.#device = device;
    this.lost = device.lost.then(({ reason, message }) => message || reason);
    this.Tensor = ort.Tensor as unknown as GPURuntime["Tensor"];
  }

  compile(name: string, bytes: Uint8Array): Promise<GPUSession> {
    return compile(this.#ort, name, bytes);
  }

  async make(_dtype: DeviceBuffer["dtype"], length: number): Promise<Memory> {
    const gpuBuffer = this.#device.createBuffer({ size: bytesOf(length), usage: STORAGE | COPY_SRC | COPY_DST });
    return { gpuBuffer, free: () => gpuBuffer.destroy() };
  }

  async write(to: Memory, from: HostArray): Promise<void> {
    this.#device.queue.writeBuffer(to.gpuBuffer as GPUBuffer, 0, from);
  }

  async read(from: Memory, to: HostArray): Promise<void> {
    const size = to.byteLength;
    const copy = this.#device.createBuffer({ size, usage: MAP_READ | COPY_DST });
    try {
      const commands = this.#device.createCommandEncoder();
      commands.copyBufferToBuffer(from.gpuBuffer as GPUBuffer, 0, copy, 0, size);
      this.#device.queue.submit([commands.finish()]);
      await copy.mapAsync(READ);
      const Numbers = to.constructor as new (memory: ArrayBuffer) => HostArray;
      to.set(new Numbers(copy.getMappedRange()));
    } finally {
      copy.destroy();
    }
  }
}

/** ONNX Runtime binds memory in steps of 16 bytes. */
const bytesOf = (length: number) => Math.ceil(length / 4) * 16;

async function compile(ort: typeof common, name: string, bytes: Uint8Array): Promise<GPUSession> {
  const options: common.InferenceSession.SessionOptions = {
    executionProviders: ["webgpu"],
    enableMemPattern: false,
    logSeverityLevel: 4,
  };
  const session = await ort.InferenceSession.create(bytes, options).catch((cause) =>
    sessionError(`building ${name}`, cause, "ort-wasm-simd-threaded.asyncify"),
  );
  return {
    run: async (inputs, outputs) =>
      (await session.run(inputs as never, outputs as never, { logSeverityLevel: 4 })) as unknown as Record<
        string,
        GPUTensor
      >,
    dispose: () => {
      session.release().catch(() => {}); // nothing can be done about it, and nobody waits
    },
  };
}

/** @throws engine - the browser has no WebGPU, or no GPU that it lets pages use */
async function requireAdapter(): Promise<void> {
  const { gpu } = navigator as { gpu?: GPU };
  let said = gpu
    ? "a browser that gives this page no GPU"
    : "a browser without WebGPU, or a page that is neither https nor localhost";
  try {
    if (await gpu?.requestAdapter()) return;
  } catch (cause) {
    said = messageOf(cause);
  }
  fail("engine", {
    where: 'device "webgpu"',
    found: said,
    expected: "a browser with WebGPU on a machine with a GPU",
    fix:
      "use Chrome or Edge 113, Safari 26 or Firefox 141, or a newer one (on Linux Chrome wants --enable-unsafe-webgpu --enable-features=Vulkan); " +
      'chrome://gpu says what is off; the device "wasm" needs no GPU',
  });
}
