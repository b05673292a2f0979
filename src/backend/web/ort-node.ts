/** @file The CPU backend's place in a browser, where there is no native library. */
import { fail } from "../../base/errors.ts";

export class OrtNode {
  /** @throws engine - always */
  constructor(_options: unknown) {
    fail("engine", {
      where: 'device "cpu"',
      found: "a browser",
      expected: "Node, which has a native library",
      fix: 'use the device "wasm", which is the default here',
    });
  }
}
