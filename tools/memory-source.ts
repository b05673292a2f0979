/** @file Bytes in memory in place of a file, for what reads files. */
import { endsTooEarly } from "../src/base/bytes.ts";
import type { ByteSource } from "../src/platform/files.ts";

export function memorySource(name: string, bytes: Uint8Array): ByteSource {
  const part = (offset: number, length: number) => {
    if (offset + length > bytes.length) endsTooEarly(name, bytes.length, offset, length);
    return bytes.subarray(offset, offset + length);
  };
  return {
    name,
    size: bytes.length,
    read: async (offset, length) => part(offset, length).slice(),
    readInto: async (offset, target) => target.set(part(offset, target.length)),
    close: async () => {},
  };
}
