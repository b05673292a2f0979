/** @file The names of the backends, in a browser. */
import type { Device } from "../devices.ts";

export { DEVICES, type Device } from "../devices.ts";

export const DEFAULT_DEVICE: Device = "wasm";
