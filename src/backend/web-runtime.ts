/** @file Where onnxruntime-web comes from in Node: installed by those who want it. In a browser web/web-runtime.ts takes this file's place. */
import { fail, messageOf } from "../base/errors.ts";
import { packageRequire } from "../platform/package.ts";
import { engineError } from "./slots.ts";

export type Runtime = typeof import("onnxruntime-common");

const PACKAGE = "onnxruntime-web";
/** The one whose behaviour was measured. */
const VERSION = "1.30.0";

/** @throws engine - it is not installed */
export function loadRuntime(): Runtime | Promise<Runtime> {
  try {
    return packageRequire()(PACKAGE);
  } catch (cause) {
    return fail(
      "engine",
      {
        where: 'device "wasm"',
        found: messageOf(cause).split("\n")[0],
        expected: `the package ${PACKAGE}, which the CPU does not need and npm therefore does not install by itself`,
        fix: `npm install --ignore-scripts ${PACKAGE}@${VERSION}`,
      },
      cause,
    );
  }
}

/** What became of a session that could not be made. */
export const sessionError = (where: string, cause: unknown): never => engineError(where, cause);
