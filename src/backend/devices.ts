/** @file The names of the backends there are; engine.ts opens them. Apart from it, so that a name can be checked without loading any. */

/** cpu: ONNX Runtime in this process. wasm: the same on WebAssembly, from the package onnxruntime-web. webgpu: on a GPU. */
export type Device = "cpu" | "wasm" | "webgpu";

/** Every one of them. */
export const DEVICES = ["cpu", "wasm", "webgpu"] as const satisfies readonly Device[];

/** What computes where nothing is said; in a browser wasm. */
export const DEFAULT_DEVICE: Device = "cpu";
