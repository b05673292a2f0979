/** @file onnxruntime-web in a browser. Its WebAssembly is fetched from where the package's files are served. */
import { fail, messageOf } from "../../base/errors.ts";
import { browserFiles } from "../../platform/web/package.ts";
import { engineError } from "../slots.ts";
import type { Runtime } from "../web-runtime.ts";

export type { Runtime } from "../web-runtime.ts";

/** @throws engine - it cannot be loaded */
export async function loadRuntime(): Promise<Runtime> {
  const { runtime } = browserFiles();
  const module = (await import("onnxruntime-web/wasm")) as Runtime & { default?: Runtime };
  const ort = module.InferenceSession ? module : (module.default as Runtime);
  ort.env.wasm.wasmPaths ??= runtime;
  return ort;
}

/**
 * What became of a session that could not be made: mostly the runtime's files are not where they should be.
 * @param build name of the files of the build that is used
 */
export function sessionError(where: string, cause: unknown, build = "ort-wasm-simd-threaded"): never {
  if (!/no available backend|wasm failed|module script|dynamically imported/i.test(messageOf(cause)))
    engineError(where, cause);
  const found = messageOf(cause).split("\n")[0];
  return fail(
    "engine",
    {
      where: browserFiles().runtime,
      found,
      expected: `the files of onnxruntime-web: ${build}.mjs and ${build}.wasm`,
      fix: "serve the folder onnxruntime-web/dist of node_modules, and say where: setBrowserFiles({ runtime })",
    },
    cause,
  );
}
