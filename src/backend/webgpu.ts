/**
 * @file The WebGPU backend: memory on the GPU, and programs that read and write it there. Nothing comes back to the host but what is
 * fetched into the host's memory. What Node and browsers do differently is in webgpu-runtime.ts.
 *
 * - Memory that one dispatch reads and writes is an error of WebGPU: what is written where an input lies goes into other memory, and
 *   the two change places.
 * - ONNX Runtime for browsers runs one session at a time: everything waits its turn.
 */
import { fail, messageOf } from "../base/errors.ts";
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
  /** Bytes of all buffers that were ever made. */
  made: number;
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

/** Memory kept for what is written where it is read: so many bytes, and as a share of all other memory. */
const [SPARE_BYTES, SPARE_SHARE] = [16e6, 0.5];

/** What ONNX Runtime and browsers say of a program whose GPU is gone. */
const LOST = /\bdevice\b.{0,40}\blost\b|\blost\b.{0,40}\bdevice\b|device is destroyed/i;

/** ONNX Runtime on a GPU, by way of WebGPU. */
export class WebGPU implements Backend {
  readonly name = "webgpu";
  readonly keeps = true;
  readonly lacks: ReadonlySet<string> = new Set(LACKS);
  readonly threads: number;
  /** @internal */
  readonly traffic: GPUTraffic = { buffers: 0, bytes: 0, sent: 0, received: 0, made: 0 };
  readonly #runtime: GPURuntime | Promise<GPURuntime>;
  #turn: Promise<unknown> = Promise.resolve();
  /** Why the GPU is gone; undefined: it is there. */
  #lost?: string;
  /** Gives up what is being computed. */
  #giveUp = () => {};
  #watched = false;
  readonly #spares: OnGPU[] = [];

  /** @throws engine - in Node: there is no GPU, or no WebGPU on this platform. In a browser the first program says so */
  constructor({ threads }: { threads: number }) {
    this.threads = threads;
    this.#runtime = openGPU();
  }

  onnx(program: Program): ONNXModel {
    return writeOnnx(program, { lacks: this.lacks });
  }

  async compile(program: Program, written = this.onnx(program)): Promise<Executable> {
    const { bytes, ...model } = written; // before anything is awaited: its numbers may change
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
    const done = this.#turn.then(async () => this.#unlessLost(await this.#runtime, work));
    this.#turn = done.catch(() => {});
    return done;
  }

  /** @throws engine - the GPU is gone: what would then never end is not waited for */
  async #unlessLost<T>(gpu: GPURuntime, work: (gpu: GPURuntime) => Promise<T>): Promise<T> {
    if (!this.#watched) this.#watch(gpu);
    if (this.#lost !== undefined) lostGPU(this.#lost);
    const gone = new Promise<never>((_, reject) => {
      this.#giveUp = () => reject(new Error(`the device was lost: ${this.#lost}`));
    });
    try {
      return await Promise.race([work(gpu), gone]);
    } catch (error) {
      await new Promise((resolve) => setTimeout(resolve)); // that it is lost may be told after what failed because of it
      const said = messageOf((error as Error).cause ?? error);
      if (LOST.test(said)) this.#lost ??= said;
      if (this.#lost !== undefined) lostGPU(this.#lost, error);
      throw error;
    }
  }

  #watch(gpu: GPURuntime): void {
    this.#watched = true;
    gpu.lost?.then((why) => {
      this.#lost = why;
      this.#giveUp();
    });
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
      this.#spares.push(to);
    }
    this.#dropSpares();
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

  /** Drops those that were not used for longest, while all together are more than is worth keeping. */
  #dropSpares(): void {
    let bytes = this.#spares.reduce((sum, { length }) => sum + 4 * length, 0);
    const limit = Math.max(SPARE_BYTES, SPARE_SHARE * (this.traffic.bytes - bytes));
    for (; bytes > limit; bytes -= 4 * this.#spares[0].length, this.#spares.shift()) this.#drop(this.#spares[0]);
  }

  async #memoryOf(gpu: GPURuntime, buffer: OnGPU): Promise<Memory> {
    buffer.memory ??= this.#counted(buffer, await gpu.make(buffer.dtype, buffer.length));
    return buffer.memory;
  }

  #counted(buffer: OnGPU, memory: Memory, sign = 1): Memory {
    this.traffic.buffers += sign;
    this.traffic.bytes += 4 * sign * buffer.length;
    if (sign > 0) this.traffic.made += 4 * buffer.length;
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

function lostGPU(why: string, cause?: unknown): never {
  return fail(
    "engine",
    {
      where: 'device "webgpu"',
      found: `a GPU that was lost while it was at work (${why})`,
      expected:
        "one that stays: a driver that is restarted, a machine that sleeps, or too little memory of the GPU takes it away",
      fix:
        "start again (in a browser load the page anew) and resume the run from its last checkpoint (--resume); where it happens again take a " +
        'smaller miniBatchSize or rolloutBatchSize, or the device "cpu" or "wasm"',
    },
    cause,
  );
}
