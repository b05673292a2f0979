/**
 * @file Child processes for user code: starting them, exchanging messages and ending them. They begin with
 * in-child.ts.
 *
 * A process, not a thread: a thread cannot change directory, shares memory, standard streams and native crashes with its parent
 * it, and takes the whole process along when it runs out of memory outside the heap.
 */
import { type ChildProcess, fork } from "node:child_process";
import type { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { fail } from "../base/errors.ts";
import { type PlainError, whereAndWhy } from "../base/thrown.ts";

/** What a process reports before it exits; see in-child.ts. */
export type LastWords =
  /** process.exit(): `error` was made where it was called. */
  | { type: "exit"; code: number; error: PlainError }
  /** An error that nothing caught, thrown outside of a call, or the rejection of a promise that nothing awaited. */
  | { type: "stray"; rejection: boolean; error: PlainError };

/** How a process ended. */
export interface Ending {
  /** In words: `exit code 0, by process.exit at /a/reward.mjs:3:5`. */
  how: string;
  signal: string | null;
  lastWords?: LastWords;
  outOfMemory: boolean;
}

export interface Child {
  readonly pid: number | undefined;
  /** @throws DataCloneError - a message that cannot be cloned */
  post(message: unknown): void;
  // biome-ignore lint/suspicious/noExplicitAny: each end declares the messages it expects
  onMessage(handler: (message: any) => void): void;
  /** Fulfilled when the process has ended, in whatever way. */
  readonly ended: Promise<Ending>;
  /** Kills it at once, with every process it started that is still in its group. */
  kill(): void;
  /** Ask it to end; a second later it is killed. */
  close(): Promise<void>;
  /** Whether the child keeps this process alive. */
  hold(busy: boolean): void;
}

/** Flags of Node that concern the current program, not how modules are loaded and run. */
const OWN_FLAGS =
  /^(-[cpei]+$|--(eval|print|check|interactive|input-type|inspect|debug|test|watch|run$|run=|(cpu|heap)-prof|prof|build-snapshot))/;
const WITH_VALUE = /^(-e|-p|-pe|--eval|--print|--input-type|--run)$/;

/** The flags of this process for one that runs a file: --import and --max-old-space-size are kept, --eval is not. */
export function inheritedFlags(flags: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < flags.length; i++) {
    if (!OWN_FLAGS.test(flags[i])) kept.push(flags[i]);
    else if (WITH_VALUE.test(flags[i])) i++;
  }
  return kept;
}

/** Bytes kept of what a process wrote to stderr last: V8 reports there that memory ran out. */
const TAIL = 8192;

/**
 * Milliseconds without output after which an ended process has no more to say: another process may still hold its pipes, and
 * may go on writing, hence the limit.
 */
const QUIET = 200;
const LONGEST_DRAIN = 10_000;

/** Milliseconds without output that a process has to exit when asked to. */
const FAREWELL = 1000;

/** An environment variable: with --import the program that starts processes may itself be loaded in them. */
const STARTED_BY = "VALUEHEAD_STARTED_BY";

/** The descriptor in the child of a pipe that only closes when this process is gone; back come {@link LastWords}. */
export const LIFELINE = 4;

/**
 * Start a module as a process in a group and session of its own, so that what a terminal sends (Ctrl-C) does not reach it. It ends
 * when this process does, whatever either is doing.
 * @param onOutput what it writes to stdout or stderr. Until a Promise that this returns is fulfilled no more is read
 */
export function startChild(
  entry: URL,
  args: readonly string[],
  onOutput: (bytes: Uint8Array) => void | Promise<void>,
): Child {
  const windows = process.platform === "win32";
  if (process.env[STARTED_BY] === String(process.ppid))
    fail("usage", {
      where: "a process that runs a reward module",
      found: "a program that starts another such process, and so on for ever",
      expected: "the program in the first process only",
      fix: "start the program as `node program.mjs`, not with --import",
    });
  const child = fork(fileURLToPath(entry), args, {
    execArgv: inheritedFlags(process.execArgv),
    env: { ...process.env, [STARTED_BY]: String(process.pid) },
    serialization: "advanced",
    detached: !windows,
    windowsHide: true,
    stdio: ["ignore", "pipe", "pipe", "ipc", "pipe"],
  } as Parameters<typeof fork>[2]); // windowsHide is passed on to spawn()
  const killGroup = () => {
    try {
      if (windows || child.pid === undefined) child.kill("SIGKILL");
      else process.kill(-child.pid, "SIGKILL");
    } catch {
      // nothing is left of it
    }
  };
  const streams = [child.stdout, child.stderr, child.stdio[LIFELINE]] as Socket[];
  const output = forward(child, onOutput);
  const words = collectWords(streams[2]);
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const ended = new Promise<Ending>((resolve) => {
    const end = (how: string, signal: string | null) => {
      const lastWords = words();
      const outOfMemory = /JavaScript heap out of memory|Allocation failed/.test(output.tail());
      const by = lastWords?.type === "exit" ? whereAndWhy(lastWords.error).replace(/^ at/, ", by process.exit at") : "";
      resolve({ how: `${how}${by}`, signal, lastWords, outOfMemory });
    };
    child.once("error", (error) => {
      if (child.pid === undefined) end(`it could not be started (${error.message})`, null);
    });
    child.once("exit", async (code, signal) => {
      killGroup();
      const until = Date.now() + LONGEST_DRAIN;
      for (let isQuiet = false; !isQuiet && (output.waits() || Date.now() < until); ) {
        const before = output.pieces();
        let timer: NodeJS.Timeout | undefined;
        const late = new Promise<boolean>((done) => {
          timer = setTimeout(() => done(!output.waits() && output.pieces() === before), QUIET);
        });
        isQuiet = await Promise.race([closed.then(() => true), late]);
        clearTimeout(timer);
      }
      end(signal === null ? `exit code ${code}` : `signal ${signal}`, signal);
    });
  });
  child.on("error", () => {}); // a message sent too late; `ended` says why
  return {
    pid: child.pid,
    post: (message) => void child.send(message as object, () => {}),
    onMessage: (handler) => void child.on("message", handler),
    ended,
    kill: killGroup,
    async close() {
      this.hold(true);
      if (child.connected) child.disconnect(); // in-child.ts ends then
      const until = Date.now() + LONGEST_DRAIN;
      let before = -1; // it goes on writing while its output is read
      const timer = setInterval(() => {
        const now = output.pieces();
        if (!output.waits() && (now === before || Date.now() > until)) killGroup();
        before = now;
      }, FAREWELL / 2);
      await ended;
      clearInterval(timer);
    },
    hold(busy) {
      const parts = [child, child.channel, ...streams];
      for (const part of parts) busy ? part?.ref() : part?.unref();
    },
  };
}

/** Pass on what it writes. */
function forward(child: ChildProcess, onOutput: (bytes: Uint8Array) => void | Promise<void>) {
  let tail = Buffer.alloc(0);
  let pieces = 0;
  let waiting = 0;
  child.stderr?.on("data", (bytes: Buffer) => {
    tail = Buffer.concat([tail, bytes]).subarray(-TAIL);
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (bytes: Buffer) => {
      pieces++;
      const taken = onOutput(bytes);
      if (!taken) return;
      stream.pause();
      waiting++;
      void taken.then(() => {
        waiting--;
        stream.resume();
      });
    });
    stream?.on("error", () => {});
  }
  return {
    /** What it wrote to stderr last. */
    tail: () => tail.toString("latin1"),
    /** How many pieces of output have come. */
    pieces: () => pieces,
    /** Whether what came is still to be taken: its reader decides how long that lasts. */
    waits: () => waiting > 0,
  };
}

function collectWords(lifeline: Socket): () => LastWords | undefined {
  let text = "";
  lifeline.setEncoding("utf8");
  lifeline.on("data", (piece) => {
    if (text.length < 1 << 20) text += piece;
  });
  lifeline.on("error", () => {});
  return () => {
    try {
      return JSON.parse(text.split("\n")[0]) as LastWords;
    } catch {
      return undefined; // it was killed, or crashed outside of JavaScript
    }
  };
}
