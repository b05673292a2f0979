/** @file Threads: a worker that runs what would block, and messages to and from it. */
import { parentPort, Worker, workerData } from "node:worker_threads";
import { fail } from "../base/errors.ts";

export interface Channel {
  post(message: unknown): void;
  // biome-ignore lint/suspicious/noExplicitAny: each end declares the messages it expects
  onMessage(handler: (message: any) => void): void;
}

export interface SpawnedWorker extends Channel {
  /** Resolves when the worker has ended; rejects with what it threw. */
  readonly ended: Promise<void>;
  terminate(): Promise<unknown>;
}

/** Start a module as a worker; `data` arrives there as {@link workerInput}. */
export function spawnWorker(url: URL, data: unknown): SpawnedWorker {
  // Not the flags of this process: --input-type refuses files, and --import would run the user's program in the thread.
  const worker = new Worker(url, { workerData: data, execArgv: [] });
  const ended = new Promise<void>((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", () => resolve());
  });
  return {
    post: (message) => worker.postMessage(message),
    onMessage: (handler) => worker.on("message", handler),
    ended,
    terminate: () => worker.terminate(),
  };
}

/** Inside a worker: the way back to who started it. Only the entry of a worker may ask for it. */
export function parentChannel(): Channel & { close(): void } {
  const port =
    parentPort ??
    fail("usage", {
      where: "the entry of a worker",
      found: "the main thread of a process",
      expected: "a thread that runInWorker started",
      fix: 'import "valuehead" and call runInWorker',
    });
  return { post: (m) => port.postMessage(m), onMessage: (h) => port.on("message", h), close: () => port.close() };
}

export function workerInput<T>(): T {
  return workerData as T;
}

/** Let timers, messages and signals through: a run of the engine blocks them. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
