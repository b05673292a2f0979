/**
 * @file Where this package's own files are. Code may have been bundled into somebody's program, where its own address is that
 * program's; the package is therefore found by its name.
 */
import { existsSync, readFileSync } from "node:fs";
import Module from "node:module"; // webpack takes a call of an imported createRequire for one of its own require, and drops it
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { fail } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";

const NAME = "valuehead";
const ROOT_FIX = `npm install ${NAME}@${VERSION} where the program runs, bundled or not`;

/** `require` from where this code is. Bundled as CommonJS there is no import.meta.url, but there is a __filename. */
const requireHere = () => Module.createRequire(import.meta.url ?? pathToFileURL(__filename).href);

/** The path of the package's package.json: from here, or from the program that runs, for webpack writes into a bundle where code once was. */
function findManifest(): string {
  const name = `${NAME}/package.json`;
  try {
    return requireHere().resolve(name);
  } catch (error) {
    if (!process.argv[1]) throw error;
    return Module.createRequire(process.argv[1]).resolve(name);
  }
}

let root: string | undefined;

/**
 * The folder of the installed package, or of this repository.
 * @throws engine - a bundle with no package beside it, or with one of another version
 */
function packageRoot(): string {
  if (root !== undefined) return root;
  const place = {
    where: `the files of the package ${NAME}`,
    expected: `${NAME} ${VERSION} in a node_modules folder above the program`,
    fix: ROOT_FIX,
  };
  let manifest: string;
  try {
    manifest = findManifest();
  } catch (cause) {
    return fail("engine", { ...place, found: "no such package: this code was bundled without it" }, cause);
  }
  const { version } = JSON.parse(readFileSync(manifest, "utf8"));
  if (version !== VERSION) fail("engine", { ...place, found: `version ${version} in ${dirname(manifest)}` });
  root = dirname(manifest);
  return root;
}

/** A file or directory of this package, whether the code runs from `src/`, from `dist/` or from a bundle. */
export function packagePath(...parts: string[]): string {
  return join(packageRoot(), ...parts);
}

/**
 * The address of a compiled module of this package, to start as a thread or process. Never the address of the code that asks:
 * in a bundle that is the user's program, which would run once more.
 * @param module its path in `src/` without the extension: `run/worker-main`
 * @throws engine - as {@link packagePath}, and in a source checkout that was not compiled
 */
export function packageModule(module: string): URL {
  const path = packagePath("dist", `${module}.js`);
  if (!existsSync(path))
    fail("engine", { where: path, found: "nothing", expected: "the compiled module", fix: "npm run build" });
  return pathToFileURL(path);
}

/** `require` as seen from this package's files: its dependencies are found where npm put them for it. */
export function packageRequire(): NodeJS.Require {
  try {
    return Module.createRequire(packagePath("package.json"));
  } catch {
    return requireHere(); // a bundle that brings the package's dependencies without the package
  }
}

/** Where the pieces of the package are served from, for a browser. */
export interface BrowserFiles {
  /** The folder `models/` of the package. */
  models?: string | URL;
  /** The module of the package that runs in a worker: `dist/browser/worker.js`. */
  worker?: string | URL;
  /** The folder `dist/` of onnxruntime-web. */
  runtime?: string | URL;
}

/**
 * In a browser: say where the package's files are served from, before anything is loaded. What is left out lies beside the
 * code as in node_modules. In Node it does nothing: files are found by the package's name.
 */
export function setBrowserFiles(_files: BrowserFiles): void {}
