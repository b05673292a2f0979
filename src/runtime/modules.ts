/**
 * @file Loading a user's own module.
 */
import { pathToFileURL } from "node:url";
import { fail } from "../base/errors.ts";
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
    return await import(/* @vite-ignore */ pathToFileURL(file).href);
  } catch (error) {
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
