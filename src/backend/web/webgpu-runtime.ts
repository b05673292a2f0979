/** @file WebGPU in a browser: browser-gpu.ts, loaded when it is asked for. */
import type { GPURuntime } from "../webgpu-runtime.ts";

/** The promise fails where there is no adapter, and where the runtime's files are not. */
export const openGPU = async (): Promise<GPURuntime> => (await import("./browser-gpu.ts")).openGPU();
