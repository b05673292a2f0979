/** @file Every backend a test can loop over, by name. */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import { DEFAULT_DEVICE } from "../../src/backend/devices.ts";
import type { Engine } from "../../src/backend/engine.ts";
import { OrtNode } from "../../src/backend/ort-node.ts";
import { OrtWeb } from "../../src/backend/ort-web.ts";

const cpu: [string, () => Backend] = ["cpu", () => new OrtNode({ threads: 2 })];

/** Those there are; a tab has no CPU (suites.test.ts). */
export const backends: [string, () => Backend][] = [
  ...(DEFAULT_DEVICE === "cpu" ? [cpu] : []),
  ["wasm", () => new OrtWeb({ threads: 2 })],
];

/**
 * A backend whose memory cannot be seen, so that whatever is over it computes with programs alone.
 * @param keeps weights, gradients and moments lie in its memory too
 */
export function hidden(backend: Backend, keeps = false): Backend {
  return {
    name: `hidden ${backend.name}`,
    keeps,
    lacks: backend.lacks,
    threads: backend.threads,
    onnx: (program) => backend.onnx(program),
    compile: (program, model) => backend.compile(program, model),
    buffer: (dtype, length) => backend.buffer(dtype, length),
    write: (to, from) => backend.write(to, from),
    read: (from, to) => backend.read(from, to),
    host: () => undefined,
    free: (buffer) => backend.free(buffer),
  };
}

/** What is in a buffer of a backend whose memory the host sees. */
export const seen = ({ engine }: { engine: Engine }, buffer: DeviceBuffer): Float32Array =>
  engine.backend.host(buffer) as Float32Array;

/** A copy of what is in a buffer of floats, wherever it is. */
export async function contents({ engine }: { engine: Engine }, buffer: DeviceBuffer): Promise<Float32Array> {
  const copy = new Float32Array(buffer.length);
  await engine.backend.read(buffer, copy);
  return copy;
}
