/**
 * @file The WebGPU backend: memory on the GPU, and programs that read and write it there. Nothing comes back to the host but what is
 * fetched into the host's memory. What Node and browsers do differently is in webgpu-runtime.ts.
 *
 * - Memory that one dispatch reads and writes is an error of WebGPU: what is written where an input lies goes into other memory, and
 *   the two change places.
 * - ONNX Runtime for browsers runs one session at a time: everything waits its turn.
 */
import { type ONNXModel, type Program, writeOnnx } from "../graph/onnx.ts";
import { elementCount, type TensorType } from "../graph/tensor.ts";
import type { Backend, DeviceBuffer, Executable, HostArray, Slot, Slots } from "./backend.ts";
import { checkMemory, engineError, sized } from "./slots.ts";
import { type GPURuntime, type GPUSession, type GPUTensor, type Memory, openGPU } from "./webgpu-runtime.ts";

type DType = DeviceBuffer["dtype"];

/** Memory of the GPU, made when it is first used. */
class OnGPU implements DeviceBuffer {
  readonly dtype: DType;
  readonly length: number;
  memory?: Memory;

  constructor(dtype: DType, length: number) {
    this.dtype = dtype;
    this.length = length;
  }
}

/** What lies on the GPU, and what went there and back since the backend was made. */
export interface GPUTraffic {
  /** Buffers that exist, and their bytes. What the runtime keeps for itself is not among them. */
  buffers: number;
  bytes: number;
  /** Bytes that were sent to the GPU, and that were read from it. */
  sent: number;
  received: number;
}

/** What ONNX Runtime has no kernel for on WebGPU (1.30.0): on the CPU instead, each run would wait for the way there and back. */
const LACKS = [
  "com.microsoft.FusedMatMul",
  "com.microsoft.MatMulIntegerToFloat",
  "LogSoftmax",
  "QuantizeLinear",
  "Round",
  "SimplifiedLayerNormalization", // its second result is not what it should be
];

/** Memory kept for what is written where it is read. */
const SPARES = 8;

/** ONNX Runtime on a GPU, by way of WebGPU. */
export class WebGPU implements Backend {
  readonly name = "webgpu";
  readonly lacks: ReadonlySet<string> = new Set(LACKS);
  readonly threads: number;
  /** @internal */
  readonly traffic: GPUTraffic = { buffers: 0, bytes: 0, sent: 0, received: 0 };
  readonly #runtime: GPURuntime | Promise<GPURuntime>;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #spares: OnGPU[] = [];

  /** @throws engine - in Node: there is no GPU, or no WebGPU on this platform. In a browser the first program says so */
  constructor({ threads }: { threads: number }) {
    this.threads = threads;
    this.#runtime = openGPU();
  }

  async compile(program: Program): Promise<Executable> {
    const { bytes, ...model } = writeOnnx(program, { lacks: this.lacks }); // before anything is awaited: its numbers may change
    const session = await this.#inTurn((gpu) => gpu.compile(program.name, bytes));
    return {
      run: (feeds, fetches, free = {}) => this.#inTurn((gpu) => this.#run(gpu, session, model, feeds, fetches, free)),
      dispose: () => {
        this.#inTurn(async () => session.dispose()).catch(() => {}); // nothing can be done about it, and nobody waits
      },
    };
  }

  buffer(dtype: DType, length: number): DeviceBuffer {
    return new OnGPU(dtype, length);
  }

  write(to: DeviceBuffer, from: HostArray): Promise<void> {
    return this.#inTurn(async (gpu) => {
      this.traffic.sent += from.byteLength;
      await gpu.write(await this.#memoryOf(gpu, to as OnGPU), from);
    });
  }

  read(from: DeviceBuffer, to: HostArray): Promise<void> {
    return this.#inTurn(async (gpu) => {
      this.traffic.received += to.byteLength;
      await gpu.read(await this.#memoryOf(gpu, from as OnGPU), to);
    });
  }

  host(): undefined {}

  free(buffer: DeviceBuffer): void {
    this.#inTurn(async () => this.#drop(buffer as OnGPU)).catch(() => {}); // of a runtime that could not be opened
  }

  #inTurn<T>(work: (gpu: GPURuntime) => Promise<T>): Promise<T> {
    const done = this.#turn.then(async () => work(await this.#runtime));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #run(
    gpu: GPURuntime,
    session: GPUSession,
    model: Omit<ONNXModel, "bytes">,
    feeds: Slots,
    fetches: Slots,
    free: Readonly<Record<string, number>>,
  ): Promise<void> {
    const inputs: Record<string, GPUTensor> = {};
    const read = new Set<Slot>();
    for (const [name, type] of sized(model, "inputs", free)) {
      const slot = feeds[name];
      check(`input ${name} of ${model.name}`, type, slot);
      inputs[name] = await this.#tensor(gpu, type, slot);
      read.add(slot);
    }
    const outputs: Record<string, GPUTensor | null> = {};
    const moved: [OnGPU, OnGPU][] = [];
    for (const [name, type] of sized(model, "outputs", free)) {
      const slot = fetches[name];
      check(`output ${name} of ${model.name}`, type, slot);
      if (!(slot instanceof OnGPU)) outputs[name] = null;
      else {
        const to = read.has(slot) ? this.#spare(slot) : slot;
        outputs[name] = await this.#tensor(gpu, type, to);
        if (to !== slot) moved.push([slot, to]);
      }
    }
    const results = await session.run(inputs, outputs).catch((cause) => engineError(`running ${model.name}`, cause));
    for (const [slot, to] of moved) {
      [slot.memory, to.memory] = [to.memory, slot.memory];
      if (this.#spares.push(to) > SPARES) this.#drop(this.#spares.shift() as OnGPU);
    }
    for (const [name, slot] of Object.entries(fetches))
      if (outputs[name] === null) {
        (slot as HostArray).set(results[name].data);
        this.traffic.received += (slot as HostArray).byteLength;
      }
  }

  /** The runtime's tensor of that type around the memory of a slot. */
  async #tensor(gpu: GPURuntime, { dtype, shape }: TensorType, slot: Slot): Promise<GPUTensor> {
    const dims = shape.map(({ size }) => size);
    if (!(slot instanceof OnGPU)) {
      this.traffic.sent += (slot as HostArray).byteLength;
      return new gpu.Tensor(dtype, slot as HostArray, dims);
    }
    const { gpuBuffer } = await this.#memoryOf(gpu, slot);
    return gpu.Tensor.fromGpuBuffer(gpuBuffer as never, { dataType: dtype as never, dims }) as GPUTensor;
  }

  #spare({ dtype, length }: OnGPU): OnGPU {
    const i = this.#spares.findIndex((one) => one.dtype === dtype && one.length === length);
    return i < 0 ? new OnGPU(dtype, length) : this.#spares.splice(i, 1)[0];
  }

  async #memoryOf(gpu: GPURuntime, buffer: OnGPU): Promise<Memory> {
    buffer.memory ??= this.#counted(buffer, await gpu.make(buffer.dtype, buffer.length));
    return buffer.memory;
  }

  #counted(buffer: OnGPU, memory: Memory, sign = 1): Memory {
    this.traffic.buffers += sign;
    this.traffic.bytes += 4 * sign * buffer.length;
    return memory;
  }

  #drop(buffer: OnGPU): void {
    if (buffer.memory) this.#counted(buffer, buffer.memory, -1).free();
    buffer.memory = undefined;
  }
}

function check(where: string, type: TensorType, slot: Slot | undefined): asserts slot is Slot {
  const fits = slot instanceof OnGPU && slot.dtype === type.dtype && slot.length === elementCount(type);
  if (!fits) checkMemory(where, type, slot);
}
