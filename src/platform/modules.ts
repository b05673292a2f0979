/**
 * @file Loading a user's own module.
 */
import { spawnSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import { fail, messageOf } from "../base/errors.ts";
import { placeOf } from "../base/thrown.ts";
import { inheritedFlags } from "./child.ts";
import { codeOf } from "./file-errors.ts";
import { absolutePath, exists } from "./files.ts";

/**
 * The exports of the JavaScript or TypeScript module at `path`, relative to the working directory. TypeScript needs a Node
 * that strips types (22.18 or newer).
 *
 * Throws a `usage` error when there is no such file or this Node cannot load its kind; what the module itself throws while it
 * loads passes through.
 */
export async function importModule(path: string): Promise<Record<string, unknown>> {
  const file = absolutePath(path);
  if (!(await exists(file))) {
    fail("usage", {
      where: path,
      found: "nothing at this path",
      expected: "a JavaScript or TypeScript module",
      fix: "check the path; it is relative to the working directory",
    });
  }
  try {
    return await import(/* @vite-ignore */ /* webpackIgnore: true */ pathToFileURL(file).href);
  } catch (error) {
    if (error instanceof SyntaxError) locate(error, file);
    if (codeOf(error) !== "ERR_UNKNOWN_FILE_EXTENSION") throw error;
    return fail(
      "usage",
      {
        where: path,
        found: `a kind of file that Node ${process.versions.node} cannot load`,
        expected: ".js or .mjs, or .ts with Node 22.18 or newer",
        fix: "rename or compile the module, or use a newer Node",
      },
      error,
    );
  }
}

/**
 * An optional peer dependency, which npm does not install by itself.
 * @param wanted what needs it, for errors
 * @throws engine - it is not installed, or does not load
 */
export async function importPackage<Module>(name: string, wanted: string): Promise<Module> {
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as Module;
  } catch (cause) {
    return fail(
      "engine",
      {
        where: wanted,
        found: messageOf(cause).split("\n")[0],
        expected: `the package ${name}, which nothing else needs and npm therefore does not install by itself`,
        fix: `npm install ${name}`,
      },
      cause,
    );
  }
}

/**
 * Node does not tell the one who imports an ES module in which line a syntax error is, but prints it where the program ends
 * because of one. So the module is made a program of its own. Nothing of it runs, for all that it imports is parsed first;
 * only where it imports the broken file by import() it runs as far as that once more.
 */
function locate(error: SyntaxError, file: string): void {
  if (placeOf(error) !== undefined) return;
  const flags = inheritedFlags(process.execArgv);
  const { stderr } = spawnSync(process.execPath, [...flags, file], { encoding: "utf8", timeout: 5000, stdio: "pipe" });
  const excerpt = /^(?:file:|\/|[A-Za-z]:\\)[^\n]*:\d+\n.*?(?=\n\n)/s.exec(stderr ?? "");
  if (excerpt) error.stack = `${excerpt[0]}\n${error.stack}`;
}
