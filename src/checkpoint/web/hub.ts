/** @file Models of the hub, whose fetching a browser loads when one is asked for. */
import { isDirectory, packagePath } from "../../platform/web/files.ts";
import type * as there from "../hub.ts";
import { EMBEDDED } from "../hub-id.ts";

export type * from "../hub.ts";
export { EMBEDDED, looksLikePath } from "../hub-id.ts";

export const resolveModel: typeof there.resolveModel = async (id, options) => {
  if (id === EMBEDDED && !(await isDirectory(id))) return packagePath("models", EMBEDDED);
  return (await import("../hub.ts")).resolveModel(id, options);
};
