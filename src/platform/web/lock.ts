/**
 * @file One run at a time in a directory, by the browser's own locks: they hold over all tabs and workers of an origin, and a
 * tab that is closed loses them.
 */
import { fail } from "../../base/errors.ts";
import { exists, makeDirectory, remove } from "./files.ts";
import { absolutePath } from "./paths.ts";

export const LOCK_FILE = ".lock";

/** Locking leaves nothing in a directory; this is what Node leaves. */
export const isLockFile = (name: string): boolean => /^\.lock(\.takeover)*(\.tmp-\d+-\d+)?$/.test(name);

/** The browser's, in secure contexts. */
const locks = (): LockManager | undefined => globalThis.navigator?.locks;

const nameOf = (directory: string) => `valuehead:${absolutePath(directory)}`;

/** What this worker holds; all that there is where the browser has no locks. */
const held = new Map<string, () => void>();

/** Whether somebody is at work in that directory, this worker included. */
export async function isLocked(directory: string): Promise<boolean> {
  const name = nameOf(directory);
  if (held.has(name)) return true;
  const known = await locks()?.query();
  return known?.held?.some((lock) => lock.name === name) ?? false;
}

/** @throws checkpoint - somebody is at work in that directory */
export async function refuseWhereLocked(directory: string): Promise<void> {
  if (await isLocked(directory)) refuse(directory);
}

function refuse(directory: string): never {
  fail("checkpoint", {
    where: directory,
    found: "a run that is going on there, in this tab or another",
    expected: "a run directory that no other run is at work in",
    fix: "end that run or close its tab, or choose another directory",
  });
}

/** Nothing is left of a worker that ended. */
export async function dropLock(_directory: string, _id: string): Promise<void> {}

export interface LockOptions {
  id?: string;
  /** Make the directory if there is none. */
  create?: boolean;
}

/** A run's hold on its directory. */
export class RunLock {
  readonly directory: string;
  #made?: string;
  #released = false;

  private constructor(directory: string, made: string | undefined) {
    this.directory = directory;
    this.#made = made;
  }

  /** @throws checkpoint - somebody else is at work there */
  static async take(directory: string, { create = false }: LockOptions = {}): Promise<RunLock> {
    const name = nameOf(directory);
    if (held.has(name)) refuse(directory);
    if (!locks()) held.set(name, () => {});
    else {
      const taken = await new Promise<boolean>((resolve, reject) => {
        const whileHeld = (lock: Lock | null) => {
          resolve(lock !== null);
          return lock ? new Promise<void>((release) => held.set(name, release)) : undefined;
        };
        (locks() as LockManager).request(name, { ifAvailable: true }, whileHeld).catch(reject);
      });
      if (!taken) refuse(directory);
    }
    try {
      return new RunLock(directory, create ? await makeDirectory(directory) : undefined);
    } catch (error) {
      held.get(name)?.();
      held.delete(name);
      throw error;
    }
  }

  /** From now on the directory stays, whatever happens. */
  keepDirectory(): void {
    this.#made = undefined;
  }

  /** What has become of the directory, in words; undefined while it is there. */
  async lost(): Promise<string | undefined> {
    return (await exists(this.directory)) ? undefined : "nothing at this path";
  }

  /** A run that did not begin also removes the directory that was made for it. */
  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    if (this.#made !== undefined) await remove(this.#made);
    const name = nameOf(this.directory);
    held.get(name)?.();
    held.delete(name);
  }
}
