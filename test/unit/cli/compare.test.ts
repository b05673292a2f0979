/** @file `valuehead compare`: the table, the texts beside each other, JSON, and what it refuses. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import {
  buildCli,
  expectProblem,
  jsonLines,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";

const cwd = temporaryDirectory();
beforeAll(async () => {
  buildCli();
  await writeModel(join(cwd, "m"));
  writePrompts(join(cwd, "prompts.txt"), 6);
  writeFileSync(join(cwd, "reward.mjs"), "export default (batch) => batch.map(({ tokens }) => tokens[0] / 1000);\n");
  const sizes = [
    "--steps",
    "2",
    "--batch-size",
    "2",
    "--mini-batch-size",
    "2",
    "--max-new-tokens",
    "4",
    "--learning-rate",
    "0.01",
  ];
  const given = ["--model", "m", "--prompts", "prompts.txt", "--reward", "length", "--out", "run"];
  const { status, stderr } = valuehead(cwd, "train", ...given, ...sizes);
  expect(status, stderr).toBe(0);
});

const asked = ["--prompts", "prompts.txt", "--reward", "./reward.mjs", "--max-new-tokens", "4", "--threads", "1"];

test("a model and a run of it: a table with intervals, and texts", () => {
  const { status, stdout, stderr } = valuehead(cwd, "compare", "m", "run", ...asked, "--show", "2", "--num", "2");
  expect(status, stderr).toBe(0);
  expect(stderr).toContain("run is a run: its");
  expect(stdout).toMatch(/^A {2}m\nB {2}run\n/);
  expect(stdout.match(/^This movie number \d is$/gm)).toHaveLength(2);
  expect(stdout).toMatch(/^reward +-?[\d.]+ +-?[\d.]+ {2}-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]$/m);
  expect(stdout).toMatch(/^distinct-2 +[\d.]+ +[\d.]+ {2}-?[\d.]+ \[/m);
  expect(stdout).toMatch(/^KL\(B \|\| A\) of responses, nats: [\d.]+ \[-?[\d.]+, [\d.]+\]$/m);
  expect(stdout).toContain("6 prompts, 2 responses each");
});

test("--html writes a page, and a place where it cannot is refused at once", () => {
  const { status, stderr } = valuehead(cwd, "compare", "m", "run", ...asked, "--limit", "2", "--html", "c.html");
  expect(status, stderr).toBe(0);
  expect(stderr).toContain("c.html  ");
  expect(readFileSync(join(cwd, "c.html"), "utf8")).toMatch(/^<!doctype html>[\s\S]*<title>m and run<\/title>/);
  const refused = valuehead(cwd, "compare", "m", "run", ...asked, "--html", "nowhere/c.html");
  expect(refused.status).toBe(2);
  expectProblem(refused.stderr, "--html", "nowhere/c.html, and no directory");
});

test("--json has it all, --limit takes the first prompts", () => {
  const { status, stdout } = valuehead(cwd, "compare", "m", "run", ...asked, "--json", "--limit", "3");
  expect(status).toBe(0);
  const [json] = jsonLines(stdout);
  expect(json.models).toEqual({ a: "m", b: "run" });
  expect(json.samples).toHaveLength(3);
  expect(Object.keys(json.difference)).toEqual(["reward", "length", "ended", "distinct1", "distinct2"]);
  expect(json.kl.mean).toBeGreaterThan(0);
  const rewards = json.samples.map((s: { a: { reward: number }[] }) => s.a[0].reward);
  expect(json.a.reward.mean).toBeCloseTo((rewards[0] + rewards[1] + rewards[2]) / 3, 9);
});

test("what is missing is named; one model that is no adapter has nothing to be compared with", () => {
  const alone = valuehead(cwd, "compare", "m", ...asked);
  expect(alone.status).toBe(2);
  expectProblem(alone.stderr, "compare", "m alone, which is no adapter");
  const without = valuehead(cwd, "compare", "m", "run", "--reward", "length");
  expect(without.status).toBe(2);
  expectProblem(without.stderr, "--prompts", "nothing: it was not given");
});
