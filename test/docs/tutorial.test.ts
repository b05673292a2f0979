/** @file docs/first-reward.md can be typed as it stands, in an empty folder where the package is installed, and its reward is learned. */
import { spawnSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildCli, root } from "../support/cli.ts";
import { emptyProject } from "../support/project.ts";

const page = readFileSync(join(root, "docs", "first-reward.md"), "utf8");
const project = emptyProject();

test("every block runs; the reward rises as the page says, and the page of the run is there", () => {
  buildCli();
  const blocks = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, code]) => code);
  expect(blocks.length).toBeGreaterThan(6);
  const script = blocks.map((code, i) => `echo "--- block ${i}"\n${code}`).join("\n");
  const { status, stdout, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", script], {
    cwd: project,
    encoding: "utf8",
    env: { ...process.env, HF_HUB_OFFLINE: "1" },
  });
  expect(status, stdout + stderr).toBe(0);

  const steps = readFileSync(join(project, "runs", "first", "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(steps).toHaveLength(20);
  const mean = (from: number, to: number) =>
    steps.slice(from, to).reduce((sum, step) => sum + step["env/reward_mean"], 0) / (to - from);
  expect(mean(0, 2)).toBeLessThan(0.25);
  expect(mean(17, 20)).toBeGreaterThan(0.8);
  expect(statSync(join(project, "runs", "first", "report.html")).size).toBeGreaterThan(10_000);

  const said = stdout.split(/--- block \d+\n/).slice(1);
  // "The last one gets the highest score there is."
  expect(said[blocks.findIndex((code) => code.includes("node try.mjs"))].trim()).toBe("[ 0, 0.75, 1 ]");
  const compared = said[blocks.findIndex((code) => code.includes("valuehead compare"))];
  expect(compared).toMatch(/reward/);
  for (const command of ["generate --model tiny", "generate --model runs/first", "node use.mjs"])
    expect(said[blocks.findIndex((code) => code.includes(command))]).toMatch(/\w{3}/);
}, 300_000);
