/**
 * @file What the thread of {@link runInWorker} runs. An entry: started by its address and imported by nothing, so that
 * importing the library, in whatever thread or process, starts nothing.
 */
import { ValueheadError } from "../base/errors.ts";
import { plainError, reviveError } from "../base/thrown.ts";
import type { RewardFunction } from "../experience/reward-functions.ts";
import { parentChannel, workerInput } from "../platform/worker.ts";
import { SaveRequests } from "./options.ts";
import { lockedRun } from "./run.ts";
import type { ToParent, ToWorker, WorkerInput } from "./worker.ts";

const GONE = new ValueheadError("reward", {
  where: "reward",
  found: "nobody to ask: the events of the run are not listened to any more",
  expected: "an answer",
  fix: "read the events to the end, or abort the signal",
});

async function serve(parent: ReturnType<typeof parentChannel>): Promise<void> {
  const { spec, lockId } = workerInput<WorkerInput>();
  const controller = new AbortController();
  const saves = new SaveRequests();
  let left = false;
  const waiting = new Map<number, { resolve: (scores: number[]) => void; reject: (error: Error) => void }>();
  parent.onMessage((message: ToWorker) => {
    if (message.type === "stop") return controller.abort();
    if (message.type === "save") return saves.ask();
    if (message.type === "leave") {
      left = true;
      for (const { reject } of waiting.values()) reject(GONE);
      return waiting.clear();
    }
    const asked = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.type === "scores") asked?.resolve(message.scores);
    else asked?.reject(reviveError(message.error));
  });
  let calls = 0;
  const ask: RewardFunction = (batch, { signal } = {}) =>
    new Promise((resolve, reject) => {
      if (left) return reject(GONE);
      const id = ++calls;
      waiting.set(id, { resolve, reject });
      signal?.addEventListener("abort", () => {
        if (waiting.delete(id)) parent.post({ type: "abandon", id } satisfies ToParent);
        reject(signal.reason);
      });
      parent.post({ type: "score", id, batch } satisfies ToParent);
    });
  const reward = ["sft", "dpo", "reward"].includes(spec.algorithm ?? "ppo") ? undefined : ask;
  try {
    for await (const event of lockedRun(spec, reward, { signal: controller.signal, saves, lockId })) {
      if (left) break; // the run ends as if its iterator had been left here
      parent.post({ type: "event", event } satisfies ToParent);
    }
  } catch (error) {
    parent.post({ type: "error", error: plainError(error) } satisfies ToParent);
  }
  parent.close();
}

void serve(parentChannel());
