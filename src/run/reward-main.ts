/**
 * @file What the process of a reward module runs; see reward-process.ts. An entry: started by its address and imported by
 * nothing.
 */
import { ValueheadError } from "../base/errors.ts";
import { plainError } from "../base/thrown.ts";
import { type RewardFunction, resolveReward } from "../experience/reward-functions.ts";
import { askReward } from "../experience/score.ts";
import { serveParent } from "../platform/in-child.ts";
import type { FromReward, ToReward } from "./reward-process.ts";

const parent = await serveParent();
const [file, given] = parent.args;
const post = (message: FromReward) => parent.post(message);

try {
  serve(await resolveReward(file));
  post({ type: "ready" });
} catch (error) {
  post({ type: "unusable", error: plainError(asGiven(error)) });
}

/** Who gave the path knows it as it was given. */
function asGiven(error: unknown): unknown {
  if (!(error instanceof ValueheadError) || error.problem.where !== file) return error;
  return new ValueheadError(error.kind, { ...error.problem, where: given }, { cause: error.cause });
}

function serve(reward: RewardFunction): void {
  const calls = new Map<number, AbortController>();
  parent.onMessage(async (message: ToReward) => {
    const { id } = message;
    if (message.type === "abandon") {
      calls.get(id)?.abort();
      return post({ type: "abandoned", id });
    }
    const call = new AbortController();
    calls.set(id, call);
    try {
      // Checked where it was made: of a Map or a function only the name could be sent.
      post({ type: "scores", id, scores: await askReward(reward, message.batch, file, { signal: call.signal }) });
    } catch (error) {
      post({ type: "failed", id, error: plainError(error) });
    }
    calls.delete(id);
  });
}
