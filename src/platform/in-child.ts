/**
 * @file The other end of {@link startChild}: what a process does that runs somebody's code, before it loads that code. Only the
 * entry of such a process calls this.
 */
import { writeFileSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { plainError } from "../base/thrown.ts";
import type { LastWords } from "./child.ts";
import { packageModule } from "./package.ts";

/** As in child.ts, which the child does not load. */
const LIFELINE = 4;

export interface Parent {
  readonly args: readonly string[];
  post(message: unknown): void;
  // biome-ignore lint/suspicious/noExplicitAny: each end declares the messages it expects
  onMessage(handler: (message: any) => void): void;
}

/** Keep this process from harming others and have it report why it ends; fulfilled when user code may be loaded. */
export async function serveParent(): Promise<Parent> {
  const send = process.send?.bind(process);
  if (!send) throw new Error("not the entry of a process that valuehead started");
  // Whatever the code prints goes to pipes whose reader may be gone.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  // From a terminal these do not come (see startChild), but a supervisor may send them to everyone: the parent decides.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});
  dieFirst();
  const parent: Parent = {
    args: process.argv.slice(2),
    post: (message) => void send(message, undefined, undefined, () => {}),
    onMessage: (handler) => void process.on("message", handler),
  };
  // The channel is ours: a module that finds it might take itself for something that was forked, and talk. Node itself calls
  // process.disconnect when the parent closes the channel.
  Object.assign(process, { send: undefined });
  sayWhy();
  await watchLifeline();
  return parent;
}

/** When memory runs out, Linux kills this process rather than the one that trains. */
function dieFirst(): void {
  try {
    if (process.platform === "linux") writeFileSync("/proc/self/oom_score_adj", "900");
  } catch {
    // not allowed here
  }
}

function sayWhy(): void {
  let said = false;
  const say = (words: LastWords) => {
    if (said) return;
    said = true;
    try {
      writeSync(LIFELINE, `${JSON.stringify(words)}\n`); // at once: nothing asynchronous happens any more
    } catch {
      // nobody is there to hear it
    }
  };
  for (const event of ["uncaughtException", "unhandledRejection"] as const)
    process.on(event, (thrown: unknown) => {
      if (process.listenerCount(event) > 1) return; // the module has a handler of its own
      say({ type: "stray", rejection: event === "unhandledRejection", error: plainError(thrown) });
      process.exit(1);
    });
  process.once("disconnect", async () => {
    said = true;
    // What was printed may still wait for its reader. The parent ends this process when nothing comes any more.
    const written = (stream: NodeJS.WriteStream) =>
      new Promise<void>((done) => (stream.writable ? stream.write("", () => done()) : done()));
    setInterval(() => {}, 1000); // a write to stdout does not keep a process alive
    await Promise.all([process.stdout, process.stderr].map(written));
    process.exit(0);
  });
  process.on("exit", (code) => say({ type: "exit", code, error: plainError(calledExit()) }));
}

/** An error whose stack begins where process.exit was called; with no place in it when nobody did. */
function calledExit(): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 50;
  const error = new Error("process.exit");
  Error.stackTraceLimit = limit;
  const lines = (error.stack ?? "").split("\n");
  const call = lines.findIndex(
    (line) => /\bprocess\.(reallyE|e)xit\b/.test(line) && line.trimStart().startsWith("at "),
  );
  error.stack = call < 0 ? error.message : [error.message, ...lines.slice(call + 1)].join("\n");
  return error;
}

/** A thread that ends this process when the parent is gone, also while the code here is in an endless loop. */
function watchLifeline(): Promise<void> {
  const watcher = new Worker(packageModule("platform/lifeline-main"), { execArgv: [], workerData: LIFELINE });
  watcher.unref();
  return new Promise((resolve, reject) => {
    watcher.once("message", () => resolve());
    watcher.once("error", reject);
  });
}
