/** @file Runs that are killed, or meet a full disk, at a bad moment. The long forms are `npm run kill-test` and `full-disk-test`. */
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { killTest } from "../../tools/kill-test.ts";
import { differences, type Ended, ended, type SmallRun, startRun, wholeRun } from "../../tools/small-run.ts";
import { buildCli, root, temporaryDirectory } from "../support/cli.ts";

const run: SmallRun = { root, directory: temporaryDirectory(), steps: 6 };
beforeAll(() => {
  buildCli();
  return wholeRun(run);
});

test("killed with SIGKILL and resumed, a run ends with the same result", async () => {
  const report = await killTest(run, 3, 5, () => {}, "PPO");
  expect(report).toMatchObject({ kills: 3, differences: [] });
  // The comparison sees a difference when there is one.
  cpSync(join(run.directory, "whole"), join(run.directory, "other"), { recursive: true });
  writeFileSync(join(run.directory, "other", "checkpoint-6", "trainer.json"), "{}");
  expect(differences(join(run.directory, "whole"), join(run.directory, "other"))).toEqual([
    "checkpoint-6/trainer.json",
  ]);
});

test.each([
  ["PPO with LoRA", 1],
  ["GRPO", 2],
  ["RLOO with LoRA", 1],
  ["DPO", 1],
  ["DPO with LoRA", 1],
  ["reward model", 1],
  ["SFT on responses", 1],
  ["SFT on text", 2],
])("so does one of the kind %s", async (kind, kills) => {
  const report = await killTest(run, kills, 6, () => {}, kind);
  expect(report).toMatchObject({ kills, differences: [] });
  expect(report.runs).toBeGreaterThan(0);
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

/** What is held by a process that runs. */
const held = (out: string) => JSON.parse(readFileSync(join(run.directory, out, ".lock"), "utf8"));

test("--resume while the run goes on is refused at once and told who is there; the run ends with the same result", async () => {
  const child = startRun(run, "twice");
  let refused: Promise<Ended> | undefined;
  const first = await ended(child, (stdout) => {
    if (!refused && stdout.includes('"type":"checkpoint"')) {
      refused = ended(startRun(run, "twice", ["--resume"]));
      // The first waits for the second, so that it cannot be done before the second has looked.
      child.kill("SIGSTOP");
      refused.then(() => child.kill("SIGCONT"));
      expect(held("twice").pid).toBe(child.pid);
    }
  });
  const second = (await refused) as Ended;
  expect(second.status).toBe(1);
  const { error } = JSON.parse(second.stderr);
  expect(error).toMatchObject({ kind: "checkpoint", where: "twice" });
  expect(error.found).toMatch(new RegExp(`^a run that is going on there: process ${child.pid} on .*, since .* UTC$`));
  expect(error.fix).toContain(`stop it (kill ${child.pid})`);
  expect(first.status, first.stderr).toBe(0);
  expect(differences(join(run.directory, "whole"), join(run.directory, "twice"))).toEqual([]);
});

test("a run whose directory is renamed ends with an error, and goes on where it says", async () => {
  const moved = join(run.directory, "moved-away");
  let done = false;
  const { status, stderr } = await ended(startRun(run, "moved"), (stdout) => {
    if (done || !stdout.includes('"type":"step","step":2')) return;
    done = true;
    renameSync(join(run.directory, "moved"), moved);
  });
  expect(status).toBe(1);
  expect(existsSync(join(run.directory, "moved"))).toBe(false);
  const { error } = JSON.parse(stderr.trim().split("\n").at(-1) as string);
  expect(error.found).toMatch(/^nothing at this path/);
  const place = /go on with it in (.*) \(--resume\)$/.exec(error.fix)?.[1] as string;
  expect(place).toMatch(/moved\.rescued$/);
  const resumed = await ended(startRun(run, place, ["--resume"]));
  expect(resumed.status, resumed.stderr).toBe(0);
  const last = `checkpoint-${run.steps}`;
  const changed = differences(join(run.directory, "whole"), place);
  expect(changed.filter((name) => name.startsWith(last) || name.endsWith(".jsonl"))).toEqual([]);
});

test.skipIf(process.platform === "win32")(
  "a closed terminal (SIGHUP): the step is finished and saved, nothing is lost",
  async () => {
    let sent = false;
    const child = startRun(run, "hung-up", ["--steps", "200"]);
    const { status } = await ended(child, (stdout) => {
      if (sent || !stdout.includes('"type":"step","step":2')) return;
      sent = true;
      // The terminal is gone: whatever is written to it fails from here on.
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.kill("SIGHUP");
    });
    expect(status).not.toBe(null); // it was not ended by the signal
    const out = join(run.directory, "hung-up");
    const logged = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n").length;
    expect(existsSync(join(out, `checkpoint-${logged}`))).toBe(true);
    expect(existsSync(join(out, ".lock"))).toBe(false);
  },
);

/** `script` gives a process a terminal, and takes it away when it is killed: SIGHUP, and EIO for whatever writes to it. */
const hasScript = process.platform === "linux" && spawnSync("script", ["--version"]).status === 0;

test.skipIf(!hasScript)("a terminal that vanishes: what is written to it fails, and the run is saved", async () => {
  const out = join(run.directory, "vanished");
  const command = [
    `exec '${process.execPath}' '${join(root, "bin", "valuehead.js")}' train --model model --prompts prompts.txt --reward length`,
    "--batch-size 8 --mini-batch-size 4 --max-new-tokens 8 --threads 1 --no-eval --steps 500 --out vanished",
  ].join(" ");
  const terminal = spawn("script", ["-qfc", command, "/dev/null"], { cwd: run.directory, stdio: "ignore" });
  const until = async (what: () => boolean) => {
    while (!what()) await new Promise((resolve) => setTimeout(resolve, 50));
  };
  const metrics = () =>
    existsSync(join(out, "metrics.jsonl")) ? readFileSync(join(out, "metrics.jsonl"), "utf8") : "";
  await until(() => metrics().includes('"step":2'));
  terminal.kill("SIGKILL");
  await until(() => !existsSync(join(out, ".lock")));
  const steps = metrics().trim().split("\n").length;
  expect(steps).toBeLessThan(500);
  expect(existsSync(join(out, `checkpoint-${steps}`, "SHA256SUMS"))).toBe(true);
});

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
