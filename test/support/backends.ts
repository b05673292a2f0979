/** @file Every backend a test can loop over, by name. */
import type { Backend, DeviceBuffer } from "../../src/backend/backend.ts";
import type { Engine } from "../../src/backend/engine.ts";
import { OrtNode } from "../../src/backend/ort-node.ts";
import { OrtWeb } from "../../src/backend/ort-web.ts";

export const backends: [string, () => Backend][] = [
  ["cpu", () => new OrtNode({ threads: 2 })],
  ["wasm", () => new OrtWeb({ threads: 2 })],
];

/** A backend whose memory cannot be seen, so that whatever is over it computes with programs alone. */
export function hidden(backend: Backend): Backend {
  return {
    name: `hidden ${backend.name}`,
    lacks: backend.lacks,
    threads: backend.threads,
    compile: (program) => backend.compile(program),
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
