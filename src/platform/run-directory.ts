/** @file A run directory: how a run takes possession of it, and what becomes of the run's work when the directory is lost. */
import { fail, messageOf } from "../base/errors.ts";
import {
  absolutePath,
  baseName,
  exists,
  joinPath,
  makeDirectory,
  refuseFilledDirectory,
  temporaryPlace,
} from "./files.ts";
import { isLockFile, RunLock, refuseWhereLocked } from "./lock.ts";

/**
 * Lock the directory of a new run, made if need be, or of a run that goes on. Nothing in it is read or changed before.
 * @param id whose lock it is, for `dropLock`
 * @throws checkpoint - another run is at work there
 * @throws usage - a new run, and the directory holds something
 */
export async function enterRunDirectory(path: string, resume: boolean, id?: string): Promise<RunLock> {
  if (resume) return RunLock.take(path, { id });
  await refuseWhereLocked(path);
  await refuseFilledDirectory(path, isLockFile); // before a name is written in what is not ours
  const lock = await RunLock.take(path, { id, create: true });
  try {
    await refuseFilledDirectory(path, isLockFile);
    return lock;
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/**
 * Save what a run has done when its directory is gone: in a new directory beside it, or else in the working directory, or
 * else where the system keeps temporary files.
 * @param save writes into a new, empty directory
 * @returns that directory
 */
export async function rescue(runDirectory: string, save: (directory: string) => Promise<void>): Promise<string> {
  const path = absolutePath(runDirectory);
  const name = `${baseName(path)}.rescued`;
  const problems: string[] = [];
  for (const place of [`${path}.rescued`, absolutePath(name), joinPath(temporaryPlace(), name)]) {
    let free = place;
    for (let n = 2; await exists(free); n++) free = `${place}-${n}`;
    try {
      await makeDirectory(free);
      await save(free);
      return free;
    } catch (error) {
      problems.push(messageOf(error));
    }
  }
  return fail("checkpoint", {
    where: path,
    found: `no place to save to (${problems.join("; ")})`,
    expected: "one that can be written",
    fix: "free some space or change the permissions",
  });
}

/**
 * @param found   what is there instead of the run's directory, in words
 * @param rescued where the run was saved, and how it goes on; undefined: there was nothing to save
 */
export function lostDirectory(path: string, found: string, rescued: string | undefined, cause?: unknown): never {
  return fail(
    "checkpoint",
    {
      where: path,
      found,
      expected: "the directory this run began in, with its lock and its logs, until the run has ended",
      fix: rescued ?? "nothing was done since it was last saved; start again",
    },
    cause,
  );
}
