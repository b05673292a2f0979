/**
 * @file The disk fills while a checkpoint is written: the run says which file and how much is missing, the checkpoint before
 * is whole, nothing half-written stays, and with room again the run ends as if nothing had happened. `npm run
 * full-disk-test`, as root on Linux: it mounts a small tmpfs. test/invariant/full-disk.test.ts does the same with a limit
 * on file sizes, for which nobody must be root.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { differences, ended, type SmallRun, startRun, wholeRun } from "./small-run.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-disk-"));
const run: SmallRun = { root: process.cwd(), directory, steps: 4 };
const disk = join(directory, "disk");
const mount = (...args: string[]) => spawnSync("mount", [...args, disk], { encoding: "utf8" });

function check(holds: boolean, what: string): void {
  console.log(`${holds ? "ok" : "NOT OK"}: ${what}`);
  if (!holds) process.exitCode = 1;
}

mkdirSync(disk);
// A checkpoint of the small run is 2.2 MB: room for three.
const mounted = mount("-t", "tmpfs", "-o", "size=7m", "tmpfs");
try {
  if (mounted.status !== 0) throw new Error(`this needs root on Linux: ${mounted.stderr.trim()}`);
  await wholeRun(run, ["--keep-checkpoints", "9"]);
  const full = await ended(startRun(run, "disk/run", ["--keep-checkpoints", "9"]));
  console.log(full.stderr.trim());
  check(full.status === 1, `the run fails: exit code ${full.status}`);
  check(
    /checkpoint-\d\/[\w.]+/.test(full.stderr) && /ENOSPC.* MB free, about .* MB needed/.test(full.stderr),
    "the error names file and space",
  );
  const left = readdirSync(join(disk, "run"));
  console.log(left.join(", "));
  check(left.includes("checkpoint-1") && !left.includes("checkpoint-4"), "there is an earlier checkpoint");
  check(!left.some((name) => /\.(tmp|old)-/.test(name)), "nothing half-written is left");
  check(mount("-o", "remount,size=100m").status === 0, "more room");
  const resumed = await ended(startRun(run, "disk/run", ["--keep-checkpoints", "9", "--resume"]));
  check(resumed.status === 0, `the run is resumed: exit code ${resumed.status} ${resumed.stderr}`);
  const found = differences(join(directory, "whole"), join(disk, "run"));
  check(found.length === 0, `it ends as one that never lacked room ${found.join(", ")}`);
} finally {
  if (mounted.status === 0) spawnSync("umount", [disk]);
  rmSync(directory, { recursive: true, force: true });
}
