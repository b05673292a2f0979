/** @file Errors that nothing caught and that are not ours: of a module loaded with --import, for instance. */
import { ValueheadError } from "../base/errors.ts";
import { placesIn, whatWasThrown, whereAndWhy } from "../base/thrown.ts";
import { packagePath } from "../platform/files.ts";

/** The same error, named by its file and line where those lie outside of this package and of what it uses. */
export function nameForeign(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof ValueheadError) return error;
  const [innermost] = placesIn(error.stack ?? "").filter((place) => !/[/\\]node_modules[/\\]/.test(place));
  if (innermost === undefined || innermost.startsWith(packagePath("dist")) || innermost.startsWith(packagePath("bin")))
    return error;
  const found = `an error that nothing caught (${whatWasThrown(error)})${whereAndWhy(error)}`;
  const fix = "await every Promise, and catch errors in timers and event handlers";
  return new ValueheadError(
    "code",
    { where: innermost, found, expected: "errors that are caught", fix },
    { cause: error },
  );
}
