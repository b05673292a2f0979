/**
 * @file What runs programs. A backend compiles a program and owns buffers; nothing else in the library knows which one it is,
 * or where its memory is.
 */
import type { ONNXModel, Program } from "../graph/onnx.ts";

/** Memory of the host: what weights lie in, what is returned to a caller. */
export type HostArray = Float32Array | Int32Array | Int8Array;

/** Memory of a backend, on the host or on a GPU. Only the backend that made it can look inside. */
export interface DeviceBuffer {
  readonly dtype: "float32" | "int32";
  /** Elements. */
  readonly length: number;
}

/** What a program is fed and where results go: a backend's own memory, or the host's, copied where that is needed. */
export type Slot = DeviceBuffer | HostArray;
export type Slots = Readonly<Record<string, Slot>>;

/** A compiled program. */
export interface Executable {
  /**
   * Compute.
   * @param feeds   one slot for each input, as long as its shape says; others are ignored
   * @param fetches one slot for each output, overwritten. May be an input's slot where the operation that writes it is the last
   *                to read it: a backend that cannot write where it reads changes the memory behind the slot
   * @param free    sizes of the program's free axes, by name
   * @throws engine - a slot that is missing or of another type or length; what the runtime reports
   */
  run(feeds: Slots, fetches: Slots, free?: Readonly<Record<string, number>>): Promise<void>;
  dispose(): void;
}

export interface Backend {
  readonly name: string;
  /** ONNX operators it has no kernel for, such as `com.microsoft.FusedMatMul`: src/graph/lower.ts writes them otherwise. */
  readonly lacks: ReadonlySet<string>;
  /** Threads inside one operation. */
  readonly threads: number;
  /** Whether what stays from run to run is kept in its own memory (kept.ts): the host's it would have to be sent each time. */
  readonly keeps: boolean;
  /** A program as it is compiled here. */
  onnx(program: Program): ONNXModel;
  /**
   * The program, and the numbers stored in it, are read before this returns: they may change while it compiles.
   * @param model what {@link onnx} made of it, where that is known
   */
  compile(program: Program, model?: ONNXModel): Promise<Executable>;
  /** New memory, its contents undefined. */
  buffer(dtype: DeviceBuffer["dtype"], length: number): DeviceBuffer;
  write(to: DeviceBuffer, from: HostArray): Promise<void>;
  read(from: DeviceBuffer, to: HostArray): Promise<void>;
  /** The memory itself where it is the host's: loops over activations then need no program. undefined elsewhere. */
  host(buffer: DeviceBuffer): HostArray | undefined;
  /** Give memory back. */
  free(buffer: DeviceBuffer): void;
}
