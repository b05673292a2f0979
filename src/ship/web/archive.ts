/** @file Packing a directory, loaded in a browser when it is asked for. */
import type * as there from "../archive.ts";

export const packDirectory: typeof there.packDirectory = async (...given) =>
  (await import("../archive.ts")).packDirectory(...given);
