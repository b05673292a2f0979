/** @file Exporting, loaded in a browser when it is asked for. */
import type * as there from "../export.ts";

export type * from "../export.ts";

export const exportOnnx: typeof there.exportOnnx = async (...given) =>
  (await import("../export.ts")).exportOnnx(...given);
