/** @file Who may write in a run directory, whatever other processes do, have done or did not live to do. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname, uptime } from "node:os";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { isLockFile, LOCK_FILE, RunLock, refuseWhereLocked, SILENCE } from "../../../src/platform/lock.ts";
import { thisProcess } from "../../../src/platform/process.ts";
import { buildCli, temporaryDirectory } from "../../support/cli.ts";

const directory = temporaryDirectory();
const at = (...names: string[]) => join(directory, ...names);
const file = at("run", LOCK_FILE);
const held = () => JSON.parse(readFileSync(file, "utf8"));
beforeAll(buildCli);
beforeEach(() => {
  rmSync(at("run"), { recursive: true, force: true });
  mkdirSync(at("run"));
});

/** A process that is gone. */
const gone = () => spawnSync(process.execPath, ["-e", ""]).pid;

const ID = "3f8a1b1e-7a53-4a8e-9a55-0d7b6d2f1c11";
/** A lock as somebody else would have left it, last touched `age` milliseconds ago. */
function leave(changes: object, age = 0): void {
  const since = "2026-11-26T10:00:00.000Z";
  writeFileSync(file, `${JSON.stringify({ ...thisProcess(), since, id: ID, ...changes })}\n`);
  const touched = new Date(Date.now() - age);
  utimesSync(file, touched, touched);
}
const take = () => RunLock.take(at("run"));
const taken = async () => {
  const lock = await take();
  expect(held().pid).toBe(process.pid);
  expect(readdirSync(at("run"))).toEqual([LOCK_FILE]);
  await lock.release();
  expect(readdirSync(at("run"))).toEqual([]);
};

test("a second is refused and told who holds it; given back, it can be had", async () => {
  const lock = await take();
  expect(held()).toMatchObject({ pid: process.pid, host: hostname() });
  expect(Math.abs(Date.parse(held().since) - Date.now())).toBeLessThan(60_000);
  const before = readFileSync(file, "utf8");
  await expect(take()).rejects.toMatchObject({
    kind: "checkpoint",
    problem: { where: at("run"), fix: "end that run first, or choose another directory" },
  });
  await expect(take()).rejects.toThrow(
    /a run that is going on there: this very process \(\d+\), since 2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d UTC/,
  );
  await expect(refuseWhereLocked(at("run"))).rejects.toThrow("going on there");
  expect(readFileSync(file, "utf8")).toBe(before);
  await lock.release();
  await lock.release();
  await refuseWhereLocked(at("run"));
  await taken();
});

describe("a stale lock is taken:", () => {
  test("its process is gone", async () => {
    leave({ pid: gone() });
    await refuseWhereLocked(at("run"));
    await taken();
  });
  test.runIf(process.platform === "linux")("its pid is another process's now", async () => {
    leave({ started: "1" });
    await taken();
  });
  test.runIf(process.platform === "linux")("its process is a zombie", async () => {
    // A shell that replaces itself with one that never asks how its child ended.
    const parent = spawn("sh", ["-c", "sleep 0.01 & echo $!; exec sleep 60"]);
    const [line] = await once(parent.stdout, "data");
    const pid = Number(String(line));
    const stat = () => readFileSync(`/proc/${pid}/stat`, "latin1");
    const started = stat()
      .replace(/^.*\) /s, "")
      .split(" ")[19];
    while (!/\) Z /.test(stat())) await new Promise((resolve) => setTimeout(resolve, 10));
    leave({ pid, started });
    await taken();
    parent.kill("SIGKILL");
  });
  test("the machine was started anew since", async () => {
    leave({ place: "another-boot pid:[1]" }, 1000 * uptime() + 60_000);
    await taken();
  });
  test("another machine was silent for too long", async () => {
    leave({ host: "elsewhere" }, SILENCE + 1000);
    await taken();
  });
  test.each([
    ["empty", ""],
    ["cut off", '{"pid": 1'],
    ["of other things", '{"pid": -1, "host": "\\u001b[31m"}'],
    ["no object", "null"],
  ])("%s, by a process that was killed while it wrote it", async (_, text) => {
    writeFileSync(file, text);
    await taken();
  });
  test("with the lock on taking over left behind too", async () => {
    const pid = gone();
    leave({ pid });
    for (const name of [".takeover", ".takeover.takeover"]) cpSync(file, file + name);
    await taken();
  });
});

describe("a lock that may be alive is not taken:", () => {
  test.each([
    [
      "a process that runs, of somebody else",
      { pid: process.ppid, started: "" },
      /process \d+ on .*, since 2026-11-26 10:00:00 UTC/,
      /kill \d+\), or/,
    ],
    [
      "another machine",
      { host: "elsewhere" },
      /process \d+ on elsewhere/,
      /kill \d+ on elsewhere\).*delete .*\.lock \(last sign of life 5 s ago; after 10 minutes/,
    ],
    [
      "another container of this machine",
      { place: `${thisProcess().place.split(" ")[0]} pid:[1]`, pid: gone() },
      /process/,
      /delete .*\.lock/,
    ],
    ["a machine of the same name", { place: "another-boot pid:[1]" }, /process/, /delete/],
  ])("%s", async (_, changes, found, fix) => {
    leave(changes, 5000);
    const before = readFileSync(file, "utf8");
    const error = await take().catch((error) => error);
    expect(error.problem.found).toMatch(found);
    expect(error.problem.fix).toMatch(fix);
    expect(readFileSync(file, "utf8")).toBe(before);
    expect(readdirSync(at("run"))).toEqual([LOCK_FILE]);
  });
});

const lockModule = JSON.stringify(new URL("../../../dist/platform/lock.js", import.meta.url).href);
const contender = (script: string) =>
  spawn(process.execPath, ["--input-type=module", "-e", `import { RunLock } from ${lockModule};\n${script}`], {
    cwd: directory,
  });

test("of many processes that want the same stale locks at once, each lock goes to one", async () => {
  const names = Array.from({ length: 25 }, (_, i) => `race-${i}`);
  leave({ pid: gone() });
  for (const name of names) {
    mkdirSync(at(name));
    cpSync(file, at(name, LOCK_FILE));
    if (name.endsWith("7")) cpSync(file, at(name, `${LOCK_FILE}.takeover`));
    if (name.endsWith("3")) rmSync(at(name, LOCK_FILE));
  }
  const script = `
    process.stdout.write("ready\\n");
    process.stdin.once("data", async () => {
      const mine = [];
      for (const name of ${JSON.stringify(names)}) await RunLock.take(name).then(() => mine.push(name), (e) => { if (!/going on there/.test(e.message)) mine.push(String(e)); });
      process.stdout.write(JSON.stringify(mine) + "\\n");
    });
    process.stdin.on("end", () => process.exit());`;
  const children = Array.from({ length: 5 }, () => contender(script));
  await Promise.all(children.map((child) => once(child.stdout, "data")));
  const answers = children.map((child) => once(child.stdout, "data"));
  for (const child of children) child.stdin.write("go\n");
  const winners = (await Promise.all(answers)).flatMap(([line]) => JSON.parse(String(line)) as string[]);
  expect(winners.sort()).toEqual([...names].sort());
  for (const name of names) expect(readdirSync(at(name))).toEqual([LOCK_FILE]);
  for (const child of children) child.stdin.end();
  await Promise.all(children.map((child) => once(child, "exit")));
  for (const name of names) expect(readdirSync(at(name))).toEqual([]); // process.exit() gave them back
});

test("a process killed with SIGKILL holds nothing; one that is stopped does", async () => {
  const child = contender('await RunLock.take("run"); console.log("held"); setInterval(() => {}, 1e6);');
  await once(child.stdout, "data");
  child.kill("SIGSTOP");
  await expect(take()).rejects.toThrow(`process ${child.pid} on `);
  child.kill("SIGKILL");
  await once(child, "exit");
  await taken();
});

describe("the directory of a lock", () => {
  const lose = async (change: () => void) => {
    const lock = await take();
    expect(await lock.lost()).toBeUndefined();
    change();
    const lost = await lock.lost();
    await lock.release();
    return lost;
  };
  const moved = () => renameSync(at("run"), at("elsewhere"));
  beforeEach(() => rmSync(at("elsewhere"), { recursive: true, force: true }));
  const linux = process.platform === "linux";

  test("renamed", async () => {
    const lost = await lose(moved);
    expect(lost).toMatch(/^nothing at this path/);
    if (linux) expect(lost).toBe(`nothing at this path; the run's own directory is now ${at("elsewhere")}`);
    expect(existsSync(at("run"))).toBe(false);
  });
  test("deleted", async () =>
    expect(await lose(() => rmSync(at("run"), { recursive: true }))).toBe("nothing at this path"));
  test("deleted and made anew, with a copy of the lock in it", async () => {
    const lost = await lose(() => {
      const text = readFileSync(file);
      rmSync(at("run"), { recursive: true });
      mkdirSync(at("run"));
      writeFileSync(file, text);
    });
    expect(lost).toBe("another directory");
  });
  test("replaced by a copy", async () => {
    const lost = await lose(() => {
      moved();
      cpSync(at("elsewhere"), at("run"), { recursive: true });
    });
    expect(lost).toMatch(/^another directory/);
    expect(existsSync(file)).toBe(true); // it is not this run's to delete
  });
  test("replaced by a file", async () => {
    const lost = await lose(() => {
      moved();
      writeFileSync(at("run"), "");
    });
    expect(lost).toMatch(/^a file/);
  });
  test("locked by another", async () => {
    expect(await lose(() => leave({ pid: process.ppid, started: "" }))).toMatch(
      /^a lock that another run has taken: process \d+ on/,
    );
    expect(held().id).toBe(ID);
  });
  test("whose lock was deleted is locked again", async () => {
    const lock = await take();
    rmSync(file);
    expect(await lock.lost()).toBeUndefined();
    await expect(take()).rejects.toThrow("this very process");
    await lock.release();
  });
  test("made for a run that did not begin goes, with those above it that were made", async () => {
    const lock = await RunLock.take(at("new", "deep", "run"), { create: true });
    await lock.release();
    expect(existsSync(at("new"))).toBe(false);
    mkdirSync(at("kept"));
    const other = await RunLock.take(at("kept", "run"), { create: true });
    writeFileSync(at("kept", "run", "x"), "");
    await other.release();
    expect(readdirSync(at("kept", "run"))).toEqual(["x"]);
  });
});

test("names that locking leaves", () => {
  for (const name of [".lock", ".lock.takeover", ".lock.takeover.takeover", ".lock.tmp-12-0"])
    expect(isLockFile(name)).toBe(true);
  for (const name of ["lock", ".locked", ".lock.json", "x.lock"]) expect(isLockFile(name)).toBe(false);
});
