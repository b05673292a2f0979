/** @file Runs, whose code a page loads when one begins; mostly it is a worker that does. */
import type * as there from "../run.ts";

export type { Asked } from "../run.ts";

export const run = async function* (...given: Parameters<typeof there.run>) {
  yield* (await import("../run.ts")).run(...given);
} as typeof there.run;

export const lockedRun: typeof there.lockedRun = async function* (...given) {
  yield* (await import("../run.ts")).lockedRun(...given);
};
