/** @file Every backend a test can loop over, by name. */
import type { Backend } from "../../src/backend/backend.ts";
import { OrtNode } from "../../src/backend/ort-node.ts";
import { OrtWeb } from "../../src/backend/ort-web.ts";

export const backends: [string, () => Backend][] = [
  ["cpu", () => new OrtNode({ threads: 2 })],
  ["wasm", () => new OrtWeb({ threads: 2 })],
];
