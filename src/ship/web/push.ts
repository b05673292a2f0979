/** @file Uploads, loaded in a browser when they are asked for. */
import type * as there from "../push.ts";

export type * from "../push.ts";

export const push: typeof there.push = async (...given) => (await import("../push.ts")).push(...given);
export const uploadList: typeof there.uploadList = async (...given) =>
  (await import("../push.ts")).uploadList(...given);
