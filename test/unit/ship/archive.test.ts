/** @file A directory as a tar archive: tar unpacks what was packed. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { packDirectory } from "../../../src/ship/archive.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-tar-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("what was packed is unpacked by tar", async () => {
  const contents = { empty: Buffer.alloc(0), "whole.bin": Buffer.alloc(1024, 7), "inner/ä.txt": Buffer.from("text\n") };
  mkdirSync(join(directory, "run", "inner"), { recursive: true });
  for (const [name, bytes] of Object.entries(contents)) writeFileSync(join(directory, "run", name), bytes);
  writeFileSync(
    join(directory, "run.tar"),
    new Uint8Array(await (await packDirectory(join(directory, "run"))).arrayBuffer()),
  );
  mkdirSync(join(directory, "out"));
  const { status, stderr } = spawnSync("tar", ["-xf", "../run.tar"], { cwd: join(directory, "out"), encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
  for (const [name, bytes] of Object.entries(contents))
    expect(readFileSync(join(directory, "out", "run", name)).equals(bytes)).toBe(true);
});

test("nothing there, and names that tar cannot write, are errors", async () => {
  await expect(packDirectory(join(directory, "none"))).rejects.toThrow(/nothing at this path/);
  const long = join(directory, "x", "y".repeat(120));
  mkdirSync(long, { recursive: true });
  await expect(packDirectory(join(directory, "x"))).rejects.toThrow(/too long a name/);
});
