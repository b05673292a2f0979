/** @file The names of the backends there are; engine.ts opens them. Apart from it, so that a name can be checked without loading any. */

/** What {@link Device} may be. */
export const DEVICES = ["cpu", "wasm"] as const;

/** cpu: ONNX Runtime in this process. wasm: the same on WebAssembly, from the package onnxruntime-web. */
export type Device = (typeof DEVICES)[number];
