/**
 * @file A run in a thread of its own, so that the caller's thread stays free for progress bars, Ctrl-C and reward functions:
 * those are called on the caller's thread, the reward of one part of a batch while the next part is being sampled. What runs
 * in that thread is worker-main.ts, which nothing imports.
 */
import { messageOf } from "../base/errors.ts";
import { type PlainError, plainError, reviveError } from "../base/thrown.ts";
import type { RewardFunction, RewardSample } from "../experience/sample.ts";
import { askReward } from "../experience/score.ts";
import { randomId } from "../platform/hash.ts";
import { dropLock } from "../platform/lock.ts";
import { packageModule } from "../platform/package.ts";
import { spawnWorker } from "../platform/worker.ts";
import type { RunEvent } from "./events.ts";
import { noReward, type RewardAndOptions, type RunOptions, rewardAndOptions, type SaveRequests } from "./options.ts";
import { withSinks } from "./sinks/sink.ts";
import type { DataSpec, RewardedSpec } from "./spec.ts";

export type ToWorker =
  | { type: "stop" }
  /** A checkpoint after the step in progress. */
  | { type: "save" }
  /** Nobody listens any more. */
  | { type: "leave" }
  | { type: "scores"; id: number; scores: number[] }
  | { type: "failed"; id: number; error: PlainError };
export type ToParent =
  | { type: "event"; event: RunEvent }
  | { type: "score"; id: number; batch: RewardSample[] }
  /** Nobody waits for these scores any more. */
  | { type: "abandon"; id: number }
  | { type: "error"; error: PlainError };

export interface WorkerInput {
  spec: RewardedSpec | DataSpec;
  lockId: string;
}

/**
 * The events of {@link run}, from a worker thread. Reward function and sinks are called on this thread.
 * @throws what {@link run} throws
 */
export function runInWorker(spec: RewardedSpec, reward: RewardFunction, options?: RunOptions): AsyncGenerator<RunEvent>;
/** Language-model training and DPO need no reward. */
export function runInWorker(spec: DataSpec, options?: RunOptions): AsyncGenerator<RunEvent>;
export function runInWorker(spec: RewardedSpec | DataSpec, ...rest: RewardAndOptions): AsyncGenerator<RunEvent> {
  const { reward, options } = rewardAndOptions(rest);
  const { sinks = [], saves } = options;
  return withSinks((signal) => workerEvents(spec, reward, { signal, saves }), sinks, options);
}

async function* workerEvents(
  spec: RewardedSpec | DataSpec,
  reward: RewardFunction | undefined,
  { signal, saves }: { signal: AbortSignal; saves?: SaveRequests | undefined },
): AsyncGenerator<RunEvent> {
  const lockId = randomId();
  const worker = spawnWorker(packageModule("run/worker-main"), { spec, lockId } satisfies WorkerInput);
  const queue: (RunEvent | Error | null)[] = [];
  let wake = () => {};
  const push = (item: RunEvent | Error | null) => {
    queue.push(item);
    wake();
  };
  const calls = new Map<number, AbortController>();
  const score = async ({ id, batch }: Extract<ToParent, { type: "score" }>) => {
    const call = new AbortController();
    calls.set(id, call);
    try {
      const scores = await askReward(reward ?? noReward(), batch, (spec as RewardedSpec).rewardName, {
        signal: call.signal,
      });
      worker.post({ type: "scores", id, scores } satisfies ToWorker);
    } catch (error) {
      worker.post({ type: "failed", id, error: plainError(error) } satisfies ToWorker);
    } finally {
      calls.delete(id);
    }
  };
  worker.onMessage((message: ToParent) => {
    if (message.type === "event") push(message.event);
    else if (message.type === "error") push(reviveError(message.error));
    else if (message.type === "abandon") calls.get(message.id)?.abort();
    else void score(message);
  });
  worker.ended.then(
    () => push(null),
    (error) => push(error instanceof Error ? error : new Error(messageOf(error))),
  );
  const stop = () => worker.post({ type: "stop" } satisfies ToWorker);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop);
  saves?.passOn(() => worker.post({ type: "save" } satisfies ToWorker));
  try {
    for (;;) {
      while (queue.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      const item = queue.shift() as RunEvent | Error | null;
      if (item === null) return;
      if (item instanceof Error) throw item;
      yield item;
    }
  } finally {
    signal.removeEventListener("abort", stop);
    for (const call of calls.values()) call.abort();
    // Not terminate(): ended inside a call of the engine, the thread takes the whole process with it.
    worker.post({ type: "leave" } satisfies ToWorker);
    await worker.ended.catch(() => {});
    await dropLock(spec.out, lockId); // a thread that ended with a fault could not
  }
}
