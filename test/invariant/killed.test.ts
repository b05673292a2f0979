/** @file Runs that are killed, or meet a full disk, at a bad moment. The long forms are `npm run kill-test` and `full-disk-test`. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { killTest } from "../../tools/kill-test.ts";
import { differences, ended, type SmallRun, startRun, wholeRun } from "../../tools/small-run.ts";
import { buildCli, root, temporaryDirectory } from "../support/cli.ts";

const run: SmallRun = { root, directory: temporaryDirectory(), steps: 6 };
beforeAll(() => {
  buildCli();
  return wholeRun(run);
});

test("killed with SIGKILL and resumed, a run ends as if nothing had happened", async () => {
  const report = await killTest(run, 3, 5);
  expect(report).toMatchObject({ kills: 3, differences: [] });
  // The comparison sees a difference when there is one.
  writeFileSync(join(run.directory, "killed-0", "checkpoint-6", "trainer.json"), "{}");
  expect(differences(join(run.directory, "whole"), join(run.directory, "killed-0"))).toEqual([
    "checkpoint-6/trainer.json",
  ]);
});

// In the shell's units of 512 bytes: less than the optimizer's moments (1.1 MB), more than any other file.
const limit = ["sh", "-c", 'ulimit -f 1600 && exec "$@"', "sh"];

test.skipIf(process.platform === "win32")(
  "no room for a checkpoint: the file is named, the one before is whole, nothing half-written is left",
  async () => {
    const keep = ["--keep-checkpoints", "2"];
    expect((await ended(startRun(run, "small", [...keep, "--steps", "2"]))).status).toBe(0);
    const full = await ended(startRun(run, "small", [...keep, "--resume"], limit));
    expect(full.status).toBe(1);
    const { error } = JSON.parse(full.stderr);
    expect(error.where).toMatch(/small\/checkpoint-3\/trainer\.safetensors$/);
    expect(error.found).toMatch(
      /^a file larger than the system lets this process write \(EFBIG\): \d+\.\d MB free, about 1\.7 MB needed$/,
    );
    expect(error.fix).toMatch(/^raise the limit \(ulimit -f\)/);
    const names = readdirSync(join(run.directory, "small"));
    expect(names.filter((name) => /^checkpoint|tmp|old/.test(name))).toEqual(["checkpoint-1", "checkpoint-2"]);
    const resumed = await ended(startRun(run, "small", [...keep, "--resume"]));
    expect(resumed.status, resumed.stderr).toBe(0);
    expect(differences(join(run.directory, "whole"), join(run.directory, "small"))).toEqual([]);
  },
);

test("a run that was killed before it wrote anything is begun by --resume", async () => {
  const out = join(run.directory, "unwritten");
  mkdirSync(out);
  writeFileSync(join(out, "config.json.tmp-12-0"), '{"ver');
  const refused = await ended(startRun(run, "unwritten", ["--steps", "1"]));
  expect(refused.status).toBe(2);
  expect(JSON.parse(refused.stderr).error.fix).toContain("--resume");
  const begun = await ended(startRun(run, "unwritten", ["--steps", "1", "--resume"]));
  expect(begun.status, begun.stderr).toBe(0);
  expect(begun.stdout).toContain("unwritten has no checkpoint yet: the run begins at its first step");
  expect(existsSync(join(out, "config.json.tmp-12-0"))).toBe(false);
  expect(JSON.parse(readFileSync(join(out, "best.json"), "utf8"))).toMatchObject({
    checkpoint: "checkpoint-1",
    step: 1,
    overSteps: 1,
  });
  rmSync(out, { recursive: true });
});
