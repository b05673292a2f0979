/** @file What this processor has, where Linux says so. */
import { readFileSync } from "node:fs";

function instructionSets(): Set<string> | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return undefined;
  return new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1].trim().split(" "));
}
const known = instructionSets();

/** Whether it is known to have none of these instruction sets, as /proc/cpuinfo calls them. */
export const lacksAll = (...names: string[]): boolean => known !== undefined && !names.some((name) => known.has(name));
