/** @file Comparisons, loaded in a browser when they are asked for. */
import type * as there from "../compare.ts";

export type * from "../compare.ts";

export const compareModels: typeof there.compareModels = async (...given) =>
  (await import("../compare.ts")).compareModels(...given);
