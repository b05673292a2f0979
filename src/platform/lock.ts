/**
 * @file One run at a time in a directory. `.lock` in it says who is at work there. It is created by the one call that cannot
 * succeed twice (O_EXCL); a lock whose process is gone is taken over by whoever holds the lock on taking over.
 */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import {
  createExclusive,
  deleteAtExit,
  deleteFile,
  keepAtExit,
  readIfThere,
  removeEmptyDirectories,
  touch,
  WatchedDirectory,
} from "./exclusive.ts";
import { joinPath, makeDirectory, writeTextAtomic } from "./files.ts";
import { randomId } from "./hash.ts";
import { isAlive, processIdentity, thisProcess } from "./process.ts";

export const LOCK_FILE = ".lock";

/** What locking leaves in a directory: nothing of a run. */
export const isLockFile = (name: string): boolean => /^\.lock(\.takeover)*(\.tmp-\d+-\d+)?$/.test(name);

/** How often a lock is touched, so that other machines see that its run goes on. A run's thread may compute for minutes. */
const TOUCH_EVERY = 30_000;
/** Another machine's lock that has not been touched for this long is stale. */
export const SILENCE = 600_000;

const holder = processIdentity.extend({ since: z.iso.datetime(), id: z.uuid() });
type Holder = z.infer<typeof holder>;

/** A lock file as it was read. Without a holder it is just being written, or was left half written. */
interface Seen {
  text: string;
  touched: number;
  holder?: Holder;
}

const textOf = (me: Holder) => `${JSON.stringify(me)}\n`;

async function look(file: string): Promise<Seen | undefined> {
  const found = await readIfThere(file);
  if (found === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(found.text);
  } catch {} // half written
  return { ...found, holder: holder.safeParse(json).data };
}

function isStale({ holder, touched }: Seen): boolean {
  if (holder === undefined) return true;
  return !(isAlive(holder, touched) ?? Date.now() - touched < SILENCE);
}

/** Milliseconds between looks at a lock that is about to change, and how often it is looked at. */
const [WAIT, LOOKS] = [25, 40];

/** Become the holder. @returns who is; undefined: it worked */
async function claim(file: string, me: Holder): Promise<Seen | undefined> {
  const text = textOf(me);
  for (let looks = 0; ; ) {
    await createExclusive(file, text);
    const seen = await look(file);
    if (seen?.text === text) return undefined;
    if (seen === undefined) continue; // released just now
    const beingWritten = seen.holder === undefined && looks++ < LOOKS;
    if (!beingWritten) {
      if (!isStale(seen)) return seen;
      // Among those who see a stale lock, one at a time may replace it, and only while it is the one that was seen.
      const guard = `${file}.takeover`;
      const busy = await claim(guard, me);
      if (busy === undefined) {
        try {
          const now = await look(file);
          if (now?.text === seen.text && isStale(now)) {
            await writeTextAtomic(file, text);
            return undefined;
          }
        } finally {
          await deleteFile(guard);
        }
      } else if (looks++ >= LOOKS) return busy;
    }
    await new Promise((resolve) => setTimeout(resolve, WAIT));
  }
}

/** Releases the lock of a run that could not do so itself because its thread was ended. */
export async function dropLock(directory: string, id: string): Promise<void> {
  const file = joinPath(directory, LOCK_FILE);
  keepAtExit(file);
  const seen = await look(file).catch(() => undefined);
  if (seen?.holder?.id === id) await deleteFile(file).catch(() => {});
}

/** @throws checkpoint - somebody is at work in that directory */
export async function refuseWhereLocked(directory: string): Promise<void> {
  const seen = await look(joinPath(directory, LOCK_FILE)).catch(() => undefined);
  if (seen?.holder && !isStale(seen)) refuse(directory, seen);
}

/** Whether somebody is at work in that directory, this process included. */
export async function isLocked(directory: string): Promise<boolean> {
  const seen = await look(joinPath(directory, LOCK_FILE)).catch(() => undefined);
  return seen?.holder !== undefined && !isStale(seen);
}

const isThisProcess = (other: Holder): boolean =>
  Object.entries(thisProcess()).every(([name, value]) => other[name as keyof Holder] === value);

function who(holder: Holder): string {
  const at = `since ${holder.since.replace("T", " ").replace(/\.\d+Z$/, " UTC")}`;
  if (isThisProcess(holder)) return `this very process (${holder.pid}), ${at}`;
  return `process ${holder.pid} on ${holder.host}, ${at}`;
}

function refuse(directory: string, { holder, touched }: Seen): never {
  const file = joinPath(directory, LOCK_FILE);
  const expected = "a run directory that no other run is at work in";
  if (holder === undefined)
    return fail("checkpoint", {
      where: directory,
      found: `a lock that cannot be read (${file})`,
      expected,
      fix: "try again, or delete that file when no run is going on there",
    });
  const local = isAlive(holder, touched) !== undefined;
  const seconds = Math.max(0, Math.round((Date.now() - touched) / 1000));
  const stop = local ? `kill ${holder.pid}` : `kill ${holder.pid} on ${holder.host}`;
  const end = isThisProcess(holder) ? "end that run first" : `wait for it, or stop it (${stop})`;
  const elsewhere =
    `; or, if that process is gone, delete ${file} (last sign of life ${seconds} s ago; after ${SILENCE / 60_000} minutes ` +
    "without one the lock no longer counts)";
  return fail("checkpoint", {
    where: directory,
    found: `a run that is going on there: ${who(holder)}`,
    expected,
    fix: `${end}, or choose another directory${local ? "" : elsewhere}`,
  });
}

export interface LockOptions {
  /** Whose lock it is, for {@link dropLock}. */
  id?: string;
  /** Make the directory if there is none. */
  create?: boolean;
}

/** A run's hold on its directory. */
export class RunLock {
  readonly directory: string;
  readonly #file: string;
  readonly #me: Holder;
  readonly #watched: WatchedDirectory;
  /** The topmost directory that was made for it, until something is written there. */
  #made?: string;
  readonly #timer: ReturnType<typeof setInterval>;
  #released = false;

  private constructor(directory: string, me: Holder, watched: WatchedDirectory, made: string | undefined) {
    this.directory = directory;
    this.#file = joinPath(directory, LOCK_FILE);
    this.#me = me;
    this.#watched = watched;
    this.#made = made;
    this.#timer = setInterval(() => void this.#touch().catch(() => {}), TOUCH_EVERY);
    this.#timer.unref?.();
  }

  /**
   * @throws checkpoint - somebody else is at work there; no permission to write
   */
  static async take(directory: string, { id = randomId(), create = false }: LockOptions = {}): Promise<RunLock> {
    const made = create ? await makeDirectory(directory) : undefined;
    const me = { ...thisProcess(), since: new Date().toISOString(), id };
    const file = joinPath(directory, LOCK_FILE);
    let watched: WatchedDirectory | undefined;
    try {
      watched = await WatchedDirectory.open(directory);
      const other = await claim(file, me);
      if (other) refuse(directory, other);
    } catch (error) {
      await watched?.close();
      if (made !== undefined) await removeEmptyDirectories(directory, made);
      throw error;
    }
    deleteAtExit(file, textOf(me));
    return new RunLock(directory, me, watched, made);
  }

  /** From now on the directory stays, whatever happens. */
  keepDirectory(): void {
    this.#made = undefined;
  }

  /** What has become of the directory, in words; undefined while it is this run's own. Counts as a sign of life. */
  async lost(): Promise<string | undefined> {
    const change = await this.#watched.change();
    if (change !== undefined) return change;
    for (;;) {
      const seen = await look(this.#file);
      if (seen?.text === textOf(this.#me)) break;
      if (seen)
        return seen.holder ? `a lock that another run has taken: ${who(seen.holder)}` : "a lock of something else";
      if (await createExclusive(this.#file, textOf(this.#me))) break; // somebody deleted it, and nobody has come since
    }
    await touch(this.#file);
    return undefined;
  }

  async #touch(): Promise<void> {
    if (this.#released || (await this.#watched.change()) !== undefined) return;
    await touch(this.#file);
  }

  /** A run that did not begin also removes the directory that was made for it. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    clearInterval(this.#timer);
    const own = (await this.#watched.change().catch(() => "")) === undefined;
    if (own) await dropLock(this.directory, this.#me.id);
    keepAtExit(this.#file);
    await this.#watched.close().catch(() => {});
    if (own && this.#made !== undefined) await removeEmptyDirectories(this.directory, this.#made);
  }
}
