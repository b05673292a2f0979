/** @file Which process this is, and whether another one still runs. */
import { execFileSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { arch, availableParallelism, cpus, hostname, platform, release, totalmem, uptime } from "node:os";
import { z } from "zod";

const word = z
  .string()
  .max(255)
  .regex(/^[\x20-\x7e]*$/); // it comes from a file and goes to a terminal

/** A process as others can recognise it. Plain data, safe for JSON. */
export const processIdentity = z.object({
  pid: z.number().int().min(1),
  host: word,
  /** The boot and the process namespace in which the pid means something; "" where the system does not say. */
  place: word,
  /** When it started, in the system's own terms: a pid that is used again has another. "" where the system does not say. */
  started: word,
});
export type ProcessIdentity = z.infer<typeof processIdentity>;

const orEmpty = (read: () => string): string => {
  try {
    return read().trim();
  } catch {
    return "";
  }
};

/** "" for a process that is not there, or only as a zombie that has not been reaped. */
function startOf(pid: number): string {
  if (process.platform === "linux") {
    // pid (name) state ppid ...: the name may hold spaces and brackets. The start is field 22, in ticks since the boot.
    const fields = orEmpty(() => readFileSync(`/proc/${pid}/stat`, "latin1"))
      .replace(/^.*\) /s, "")
      .split(" ");
    return /^[ZX]/.test(fields[0]) ? "" : (fields[19] ?? "");
  }
  if (process.platform === "win32") return "";
  const ps = () => execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "latin1", stdio: "pipe" });
  return orEmpty(ps);
}

function here(): string {
  const boot = orEmpty(() => readFileSync("/proc/sys/kernel/random/boot_id", "latin1"));
  return boot === "" ? "" : `${boot} ${orEmpty(() => readlinkSync("/proc/self/ns/pid"))}`.trim();
}

let own: ProcessIdentity | undefined;

/** The same for all threads of this process. */
export function thisProcess(): ProcessIdentity {
  own ??= { pid: process.pid, host: hostname().slice(0, 255), place: here(), started: startOf(process.pid) };
  return own;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"; // EPERM: another user's process
  }
}

/**
 * Whether a process still runs; undefined where that cannot be seen from here: another machine, another container.
 * @param lastSeen milliseconds since 1970 when it last gave a sign of life
 */
export function isAlive(other: ProcessIdentity, lastSeen: number): boolean | undefined {
  const me = thisProcess();
  if (other.host !== me.host) return undefined;
  if (other.place === me.place) {
    if (!isRunning(other.pid)) return false;
    const started = startOf(other.pid);
    if (process.platform === "linux" && started === "") return false; // a zombie
    return other.started === "" || started === "" || started === other.started;
  }
  const sameBoot = other.place.split(" ")[0] === me.place.split(" ")[0];
  return !sameBoot && lastSeen < Date.now() - 1000 * uptime() ? false : undefined; // silent since this machine started anew
}

/** Cores this process may use. */
export const availableCores = (): number => availableParallelism();

/** What a run was made on, for whoever wants to make it again. Nothing in it names the machine. */
export const machine = () => ({
  node: process.version,
  system: `${platform()} ${release()}`,
  arch: arch(),
  cpu: cpus()[0]?.model.trim() ?? "",
  cores: availableCores(),
  memory: totalmem(),
});
