/** @file Waiting: a limit on what runs at once, how long something may take, and pauses that can be cut short. */
import { breathe } from "../platform/worker.ts";

/** Runs tasks, at most `limit` of them at a time, in the order they came. */
export function limiter(limit: number): <T>(task: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (task) => {
    if (running === limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await task();
    } finally {
      const next = waiting.shift(); // takes over this place
      if (next) next();
      else running--;
    }
  };
}

/** Whether a promise is fulfilled or rejected within that many seconds. */
export async function settledWithin(promise: Promise<unknown>, seconds: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    // The engine may have blocked the thread past the time. An answer that came meanwhile is still in time: it is read first.
    timer = setTimeout(() => breathe().then(() => resolve(false)), 1000 * seconds);
  });
  const settled = promise.then(
    () => true,
    () => true,
  );
  try {
    return await Promise.race([settled, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Whether that many seconds have passed; false as soon as `signal` aborts. Leaves no listener behind. */
export function pause(seconds: number, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve(false);
    const end = (whole: boolean) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", early);
      resolve(whole);
    };
    const early = () => end(false);
    const timer = setTimeout(() => end(true), 1000 * seconds);
    signal?.addEventListener("abort", early);
  });
}
