/** @file Workers: a run in one leaves the page free. What runs there lies in one file, for import maps do not reach it. */
import type { Channel, SpawnedWorker } from "../worker.ts";
import { browserFiles, setBrowserFiles } from "./package.ts";

export type { Channel, SpawnedWorker } from "../worker.ts";

interface Start {
  valuehead: "start";
  data: unknown;
  files: ReturnType<typeof browserFiles>;
}
/** The worker has nothing more to do. */
const CLOSED = "valuehead:closed";

/** Start a module as a worker; `data` arrives there as {@link workerInput}. */
export function spawnWorker(url: URL, data: unknown): SpawnedWorker {
  const worker = new Worker(url, { type: "module", name: "valuehead" });
  let end = () => {};
  const ended = new Promise<void>((resolve, reject) => {
    end = resolve;
    worker.onerror = (event) => {
      event.preventDefault();
      const message = event.message ?? `the worker could not be loaded from ${url}: serve it, and say where`;
      reject(new Error(message));
      worker.terminate();
    };
  });
  worker.postMessage({ valuehead: "start", data, files: browserFiles() } satisfies Start);
  const handlers: ((message: unknown) => void)[] = [];
  worker.addEventListener("message", ({ data: message }) => {
    if (message !== CLOSED) for (const handler of handlers) handler(message);
    else {
      worker.terminate();
      end();
    }
  });
  return {
    post: (message) => worker.postMessage(message),
    onMessage: (handler) => void handlers.push(handler),
    ended,
    terminate: async () => {
      worker.terminate();
      end();
    },
  };
}

let input: unknown;
/** Messages that came before somebody listened. */
const early: unknown[] = [];
let handler: ((message: unknown) => void) | undefined;

/** Inside a worker, before anything else: wait for what it is started with. */
export function receiveInput(): Promise<void> {
  return new Promise((resolve) => {
    addEventListener("message", ({ data }: MessageEvent) => {
      if ((data as Start | null)?.valuehead === "start") {
        input = (data as Start).data;
        setBrowserFiles((data as Start).files);
        resolve();
      } else if (handler) handler(data);
      else early.push(data);
    });
  });
}

/** Inside a worker: the way back to who started it. */
export function parentChannel(): Channel & { close(): void } {
  const post = (message: unknown) => (globalThis as unknown as Worker).postMessage(message);
  return {
    post,
    onMessage: (listener) => {
      handler = listener;
      for (const message of early.splice(0)) listener(message);
    },
    close: () => post(CLOSED),
  };
}

export function workerInput<T>(): T {
  return input as T;
}

const doors = typeof MessageChannel === "undefined" ? undefined : new MessageChannel();
const waiting: (() => void)[] = [];
if (doors) doors.port1.onmessage = () => waiting.shift()?.();

/** Let timers, messages and drawing through. A timeout would wait 4 ms, and a second where the tab is hidden. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    doors?.port2.postMessage(null);
  });
}
