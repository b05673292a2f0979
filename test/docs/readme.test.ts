/** @file What README.md says to type works as it stands, in an empty folder where the package is installed. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { buildCli, root, valuehead } from "../support/cli.ts";
import { emptyProject } from "../support/project.ts";

const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = (language: string) =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, "g"))].map(([, code]) => code);

const project = emptyProject();
beforeAll(buildCli);

test("the first block is what a fresh clone needs, and nothing else", () => {
  const [block] = /(^ {4}.*\n)+/m.exec(readme) as RegExpExecArray;
  const commands = block
    .trim()
    .split("\n")
    .map((line) => line.replace(/#.*/, "").trim());
  expect(commands).toEqual(["npm install && npx valuehead demo --dashboard", "npm install && npm test"]);
});

test("the commands in README.md make a reward and prompts, and train", () => {
  const [commands, ...others] = blocks("sh");
  expect(others).toEqual([]);
  const { status, stdout, stderr } = spawnSync("bash", ["-euo", "pipefail", "-c", commands], {
    cwd: project,
    encoding: "utf8",
  });
  expect(status, stdout + stderr).toBe(0);
  const steps = readFileSync(join(project, "runs", "first", "metrics.jsonl"), "utf8")
    .trim()
    .split("\n");
  expect(steps).toHaveLength(5);
  expect(existsSync(join(project, "runs", "first", "checkpoint-5", "model.safetensors"))).toBe(true);
});

test("the program in README.md trains, reports ten steps and saves a model that the command line loads", async () => {
  const [program, ...others] = blocks("ts");
  expect(others).toEqual([]);
  const folder = join(root, ".cache", "docs");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "readme.ts"), program.replace('"valuehead"', '"../../src/index.ts"'));

  const printed: unknown[][] = [];
  const { log } = console;
  const before = process.cwd();
  console.log = (...args) => printed.push(args);
  process.chdir(project);
  try {
    await import(/* @vite-ignore */ join(folder, "readme.ts"));
  } finally {
    console.log = log;
    process.chdir(before);
  }
  expect(printed.map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  for (const [, mean] of printed) expect(mean).toBeTypeOf("number");

  const [, advice] = /`npx valuehead (generate .*)` has all it needs/.exec(program) as RegExpExecArray;
  const words = [...advice.matchAll(/"([^"]*)"|\S+/g)].map(([word, quoted]) => quoted ?? word);
  const { status, stdout, stderr } = valuehead(project, ...words);
  expect(status, stderr).toBe(0);
  expect(stdout).toContain("This movie was");
});
