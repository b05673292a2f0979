/**
 * @file A reward module in a process of its own, where it cannot take the trainer down: whatever it does there, a call ends with
 * scores or with an error that says what happened. What runs in that process begins with reward-main.ts.
 */
import { ValueheadError } from "../base/errors.ts";
import { type PlainError, reviveError, whatWasThrown, whereAndWhy } from "../base/thrown.ts";
import { pause } from "../experience/patience.ts";
import {
  isRewardPath,
  type RewardContext,
  type RewardFunction,
  type RewardSample,
  resolveReward,
} from "../experience/reward-functions.ts";
import type { ModelReward } from "../experience/rewards/model-reward.ts";
import { type Child, type Ending, startChild } from "../platform/child.ts";
import { absolutePath } from "../platform/files.ts";
import { writeToStderr } from "../platform/output.ts";
import { packageModule } from "../platform/package.ts";

export type ToReward = { type: "score"; id: number; batch: RewardSample[] } | { type: "abandon"; id: number };
export type FromReward =
  | { type: "ready" }
  | { type: "unusable"; error: PlainError }
  | { type: "scores"; id: number; scores: number[] }
  | { type: "failed"; id: number; error: PlainError }
  | { type: "abandoned"; id: number };

/** A reward function that runs elsewhere. */
export interface RewardProcess {
  /**
   * Scores a batch: one finite number per sample, in order.
   * @throws reward - an error there, the end of the process, or a call after close()
   */
  (batch: RewardSample[], context?: RewardContext): Promise<number[]>;
  /** End the process. Calls that are open are rejected. Without it the process ends with this one. */
  close(): Promise<void>;
}

/** How a reward module is run in a process of its own. */
export interface RewardProcessOptions {
  /** Seconds in which the module must have loaded; 0: any time. */
  loadTimeout?: number;
  /** What the module prints, on stdout or stderr; default: it goes to this process's stderr. */
  onOutput?: (bytes: Uint8Array) => void | Promise<void>;
  /** Hears what is worth telling but is no error of a call. */
  onNote?: (message: string) => void;
}

/** Seconds after which a note says that the module is still loading. */
const PATIENCE = 5;

/** Seconds in which a process that is not stuck says that it has abandoned a call. */
const REPLY = 0.5;

/**
 * The default export of a reward module, in a process of its own. Endless loops, process.exit, stray rejections, crashes and lack of
 * memory there are errors of the call here; the next call starts the process anew. A call whose signal aborts is abandoned, and
 * when the process does not even hear that, the process is ended.
 *
 * The process ignores Ctrl-C and ends when this one does. It does not keep this one alive but while a call is open.
 *
 * @param path of a module whose default export is a {@link RewardFunction}; relative to the working directory
 * @throws usage, reward - no such file, a module that fails to load, or none with a default function
 */
export async function rewardProcess(path: string, options: RewardProcessOptions = {}): Promise<RewardProcess> {
  const host = new RewardHost(path, options);
  await host.start();
  return Object.assign((batch: RewardSample[], context?: RewardContext) => host.ask(batch, context), {
    close: () => host.close(),
  });
}

/**
 * A built-in reward or a reward model by its name, here, or that of a module by its path, in a process of its own.
 * @throws usage, reward - as {@link resolveReward} and {@link rewardProcess}
 */
export async function openReward(
  nameOrPath: string,
  options: RewardProcessOptions = {},
): Promise<{ reward: RewardFunction; close: () => Promise<void> }> {
  if (!isRewardPath(nameOrPath)) {
    const reward = await resolveReward(nameOrPath);
    return { reward, close: async () => (reward as Partial<ModelReward>).dispose?.() };
  }
  const reward = await rewardProcess(nameOrPath, options);
  return { reward, close: reward.close };
}

interface OpenCall {
  resolve(scores: number[]): void;
  reject(error: unknown): void;
}

class RewardHost {
  readonly #given: string;
  readonly #file: string;
  readonly #options: RewardProcessOptions;
  readonly #open = new Map<number, OpenCall>();
  #calls = 0;
  /** The process, from its start to its end. */
  #child: Child | undefined;
  /** The same, as soon as it can be asked. */
  #ready: Promise<Child> | undefined;
  /** Why the process ended between two calls, for the error of the next one. */
  #fault: ValueheadError | undefined;
  #loading = false;
  #closed = false;

  constructor(path: string, options: RewardProcessOptions) {
    this.#given = path;
    this.#file = absolutePath(path); // the working directory may be another when it is started anew
    this.#options = options;
  }

  /** Start the process unless it runs. */
  start(): Promise<Child> {
    if (!this.#ready) {
      const ready = this.#started();
      this.#ready = ready;
      ready.catch(() => {
        if (this.#ready === ready) this.#ready = undefined;
      });
    }
    return this.#ready;
  }

  async ask(batch: RewardSample[], { signal }: RewardContext = {}): Promise<number[]> {
    if (this.#closed) throw this.#problem("a call after close()", "calls before it", "close it at the end");
    const fault = this.#fault;
    this.#fault = undefined;
    if (fault) throw fault;
    signal?.throwIfAborted();
    const ready = this.start();
    const child = await ready;
    signal?.throwIfAborted();
    if (this.#ready !== ready) return this.ask(batch, { signal }); // it has ended in the meantime
    const id = ++this.#calls;
    let abandon = () => {};
    child.hold(true);
    try {
      return await new Promise<number[]>((resolve, reject) => {
        this.#open.set(id, { resolve, reject });
        abandon = () => {
          reject(signal?.reason);
          void this.#abandon(child, id);
        };
        signal?.addEventListener("abort", abandon, { once: true });
        child.post({ type: "score", id, batch } satisfies ToReward);
      });
    } finally {
      signal?.removeEventListener("abort", abandon);
      this.#open.delete(id);
      if (this.#open.size === 0) child.hold(false);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    const child = this.#child;
    const idle = this.#open.size === 0 && this.#ready !== undefined && !this.#loading;
    for (const { reject } of this.#open.values()) reject(new Error("the reward was closed"));
    if (!idle) child?.kill();
    await child?.close();
    if (this.#fault) this.#options.onNote?.(this.#fault.message);
    this.#fault = undefined;
  }

  async #started(): Promise<Child> {
    const { onOutput = writeToStderr, onNote, loadTimeout = 0 } = this.#options;
    const child = startChild(packageModule("run/reward-main"), [this.#file, this.#given], onOutput);
    this.#child = child;
    this.#loading = true;
    const loaded = new AbortController();
    let ended: Ending | undefined;
    const ready = new Promise<void>((resolve, reject) => {
      child.onMessage((message: FromReward) => {
        if (message.type === "ready") resolve();
        else if (message.type === "unusable") reject(reviveError(message.error));
        else this.#hear(message);
      });
      void child.ended.then((ending) => {
        ended = ending;
        reject(this.#endedBy(ending, "while it loaded"));
      });
      void pause(PATIENCE, loaded.signal).then((late) => late && onNote?.(`waiting for ${this.#given} to load`));
      if (loadTimeout > 0)
        void pause(loadTimeout, loaded.signal).then((late) => late && reject(this.#problem(...notLoaded(loadTimeout))));
    });
    try {
      await ready;
    } catch (error) {
      child.kill();
      await child.ended;
      this.#child = undefined;
      throw error;
    } finally {
      this.#loading = false;
      loaded.abort();
    }
    void child.ended.then((ending) => this.#hasEnded(ending));
    if (!ended) child.hold(false);
    return child;
  }

  #hear(message: Extract<FromReward, { id: number }>): void {
    const call = this.#open.get(message.id);
    if (message.type === "scores") call?.resolve(message.scores);
    else if (message.type === "failed") call?.reject(reviveError(message.error));
    else this.#replies.get(message.id)?.();
  }

  readonly #replies = new Map<number, () => void>();

  /** Tell the process that nobody waits for a call; a process that does not hear it is stuck in one, and is ended. */
  async #abandon(child: Child, id: number): Promise<void> {
    const replied = new AbortController();
    this.#replies.set(id, () => replied.abort());
    child.post({ type: "abandon", id } satisfies ToReward);
    void child.ended.then(() => replied.abort());
    const stuck = await pause(REPLY, replied.signal);
    this.#replies.delete(id);
    if (!stuck) return;
    this.#stuck = true;
    child.kill();
  }

  /** Whether the process is ended because a call kept it from hearing anything. */
  #stuck = false;

  #hasEnded(ending: Ending): void {
    this.#child = undefined;
    this.#ready = undefined;
    const stuck = this.#stuck;
    this.#stuck = false;
    if (this.#closed) return;
    const error = stuck ? this.#problem(...WAS_STUCK, { transient: true }) : this.#endedBy(ending);
    if (this.#open.size === 0 && !stuck) this.#fault = error;
    for (const { reject } of this.#open.values()) reject(error);
  }

  #problem(
    found: string,
    expected: string,
    fix: string,
    options: { cause?: unknown; transient?: boolean } = {},
  ): ValueheadError {
    return new ValueheadError("reward", { where: `reward ${this.#file}`, found, expected, fix }, options);
  }

  #endedBy({ how, signal, lastWords, outOfMemory }: Ending, when = ""): ValueheadError {
    const during = when && ` ${when}`;
    if (lastWords?.type === "stray") {
      const cause = reviveError(lastWords.error);
      const what = `(${whatWasThrown(cause)})${whereAndWhy(cause)}${during}`;
      return lastWords.rejection
        ? this.#problem(`a rejected Promise that nothing awaited ${what}`, ...AWAITED, { cause })
        : this.#problem(`an error that nothing caught ${what}`, ...CAUGHT, { cause });
    }
    const transient = { transient: true };
    if (outOfMemory) return this.#problem(`no memory left in its process${during}`, ...ENOUGH_MEMORY, transient);
    const fix = lastWords ? LEFT : signal === "SIGKILL" ? KILLED : CRASHED;
    return this.#problem(`the end of its process${during} (${how})`, "a process that goes on", fix, transient);
  }
}

const notLoaded = (seconds: number) =>
  [
    `no end of loading within ${seconds} seconds`,
    "a module that loads",
    "raise rewardTimeout, or look for an endless loop or an await that never ends outside of the function",
  ] as const;
const WAS_STUCK = [
  "the end of its process, which another call kept busy past its time",
  "calls that end in time",
  "raise rewardTimeout, or look for an endless loop in the function",
] as const;
const AWAITED = [
  "Promises that are awaited, or have a catch()",
  "await it inside the call, or catch what it throws",
] as const;
const CAUGHT = ["errors inside a call, which can be answered", "catch errors in timers and event handlers"] as const;
const ENOUGH_MEMORY = [
  "less than the limit of Node's heap",
  "keep less between calls, lower rolloutBatchSize, or raise the limit: NODE_OPTIONS=--max-old-space-size=8192 (MB)",
] as const;
const LEFT = "throw an error instead: process.exit ends the process without scores";
const KILLED = "see who ended it: the system does where memory runs out";
const CRASHED = "look at what it printed before; native code in it may have crashed";
