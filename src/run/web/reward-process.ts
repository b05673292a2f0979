/** @file A browser starts no processes for rewards. */
import { fail } from "../../base/errors.ts";
import type * as there from "../reward-process.ts";

export type * from "../reward-process.ts";

/** @throws usage - always */
export const rewardProcess: typeof there.rewardProcess = async (path) =>
  fail("usage", {
    where: `rewardProcess ${JSON.stringify(path)}`,
    found: "a browser, which starts no processes",
    expected: "Node",
    fix: "pass a reward function; what may never end belongs into a Worker of your own",
  });
