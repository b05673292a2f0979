/**
 * @file The disk fills while a run writes: it says which file and how much is missing, the checkpoint before is whole,
 * nothing half-written stays, and with room again the run ends with the same result. `npm run full-disk-test`, as root on
 * Linux: it mounts a small tmpfs. test/invariant/killed.test.ts does the same with a limit on file sizes, for which nobody must
 * be root.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { differences, ended, type SmallRun, startRun, wholeRun } from "./small-run.ts";

/** What is left free after the second checkpoint, in bytes: room for nothing, for lines of the logs, for part of a checkpoint. */
const FREE = [0, 20_000, 300_000, 700_000, 1_500_000, 2_200_000];

const ROOMY = 40e6;

const directory = mkdtempSync(join(tmpdir(), "valuehead-disk-"));
const run: SmallRun = { root: process.cwd(), directory, steps: 6 };
const disk = join(directory, "disk");
const flags = ["--keep-checkpoints", "9"];

function check(holds: boolean, what: string): void {
  console.log(`  ${holds ? "ok" : "NOT OK"}: ${what}`);
  if (!holds) process.exitCode = 1;
}

const resize = (bytes: number) => spawnSync("mount", ["-o", `remount,size=${bytes}`, disk]).status === 0;

/** Leaves so many bytes free; tried again when the run wrote more in between. */
function fill(free: number): void {
  for (let tries = 0; tries < 20; tries++) {
    const { blocks, bfree, bsize } = statfsSync(disk);
    if (resize((blocks - bfree) * bsize + free)) return;
  }
  throw new Error("the tmpfs cannot be made smaller");
}

mkdirSync(disk);
const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${ROOMY}`, "tmpfs", disk], { encoding: "utf8" });
try {
  if (mounted.status !== 0) throw new Error(`this needs root on Linux: ${mounted.stderr.trim()}`);
  await wholeRun(run, flags);
  for (const free of FREE) {
    console.log(`${free} bytes free after the second checkpoint`);
    const child = startRun(run, "disk/run", flags);
    let filled = false;
    const full = await ended(child, (stdout) => {
      if (filled || !stdout.includes('"type":"checkpoint","step":2')) return;
      filled = true;
      fill(free);
    });
    const { where: said, found } = JSON.parse(full.stderr.trim().split("\n").at(-1) ?? "").error;
    const where = relative(disk, resolve(directory, said));
    console.log(`  ${where}: found ${found}`);
    check(full.status === 1, `the run fails: exit code ${full.status}`);
    check(where.startsWith("run/") && /ENOSPC/.test(found), "the error names the file and the full disk");
    const space = /: \d+\.\d MB free, about 1\.7 MB needed$/.test(found);
    check(space || !/checkpoint-\d/.test(where), "for a checkpoint, it says what is free and what is needed");
    const left = readdirSync(join(disk, "run"));
    check(
      left.includes("checkpoint-2") && !left.includes("checkpoint-6"),
      `earlier checkpoints are there: ${left.join(" ")}`,
    );
    check(!left.some((name) => /\.(tmp|old)-/.test(name)), "nothing half-written is left");
    resize(ROOMY);
    const resumed = await ended(startRun(run, "disk/run", [...flags, "--resume"]));
    check(resumed.status === 0, `with room again, the run is resumed: exit code ${resumed.status} ${resumed.stderr}`);
    const other = differences(join(directory, "whole"), join(disk, "run"));
    check(other.length === 0, `it ends as one that never lacked room ${other.join(", ")}`);
    rmSync(join(disk, "run"), { recursive: true });
  }
} finally {
  if (mounted.status === 0) spawnSync("umount", [disk]);
  rmSync(directory, { recursive: true, force: true });
}
