/** @file Where a run and its prompts come from: a file alone, a run's own config.json, --resume alone, stdin. */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import {
  buildCli,
  expectProblem,
  jsonLines,
  root,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
beforeAll(async () => {
  buildCli();
  await writeModel(at("m"));
  writePrompts(at("p.txt"), 90);
  const file = { model: "m", prompts: "p.txt", reward: "length", out: "a", steps: 1, batchSize: 4, maxNewTokens: 4 };
  writeFileSync(at("run.json"), JSON.stringify(file));
});
const config = (run: string) => JSON.parse(readFileSync(at(run, "config.json"), "utf8"));
const fed = (input: string, ...args: string[]) =>
  spawnSync(process.execPath, [join(root, "bin", "valuehead.js"), ...args, "--threads", "1"], {
    cwd,
    input,
    encoding: "utf8",
  });

it("--config alone runs; --resume alone goes on; a run's own config.json begins another; flags win", () => {
  const first = valuehead(cwd, "train", "--config", "run.json");
  expect(first.status, first.stderr).toBe(0);
  const recorded = {
    promptsPath: at("p.txt"),
    promptColumn: null,
    evalPrompts: null,
    heldOut: 9,
    prompts: 81,
    model: at("m"),
  };
  expect(config("a")).toMatchObject(recorded);
  const more = valuehead(cwd, "train", "--resume", "a", "--steps", "2");
  expect(more.status, more.stderr).toBe(0);
  expect(config("a")).toMatchObject({ ...recorded, options: { steps: 2, batchSize: 4, miniBatchSize: 4 } });
  const again = valuehead(
    cwd,
    "train",
    "--config",
    join("a", "config.json"),
    "--out",
    "b",
    "--batch-size",
    "2",
    "--steps",
    "1",
  );
  expect(again.status, again.stderr).toBe(0);
  expect(config("b")).toMatchObject({
    ...recorded,
    options: { steps: 1, batchSize: 2, miniBatchSize: 2, maxNewTokens: 4 },
  });
  // A run as a model is the checkpoint that it means today.
  const on = valuehead(cwd, "train", "--config", "run.json", "--model", "a", "--out", "c", "--no-eval");
  expect(on.status, on.stderr).toBe(0);
  const { checkpoint } = JSON.parse(readFileSync(at("a", "best.json"), "utf8"));
  expect(on.stderr).toContain(`note: a is a run: its best checkpoint is used, ${join("a", checkpoint)}\n`);
  expect(config("c")).toMatchObject({ model: at("a", checkpoint), heldOut: 0, prompts: 90 });
  expectProblem(
    valuehead(cwd, "train", "--resume", "a", "--out", "b").stderr,
    "--resume, --out",
    "two directories, a and b",
  );
});

it("prompts from stdin: lines, JSON, nothing, twice", () => {
  const generate = ["generate", "--model", "m", "--max-new-tokens", "1", "--json", "--prompts", "-"];
  const prompts = (input: string) => jsonLines(fed(input, ...generate).stdout).map(({ prompt }) => prompt);
  expect(prompts("\uFEFFone\r\n\r\n[two\n")).toEqual(["one", "[two"]);
  expect(prompts('["one", "two"]')).toEqual(["one", "two"]);
  expect(prompts('{"prompt": "one"}\n{"prompt": "two"}\n')).toEqual(["one", "two"]);
  expect(fed("", "generate", "--model", "m", "--prompts", "-").stderr).toContain(
    "error: stdin\n  found     nothing in it\n",
  );
  const column = fed('[{"Question": "x"}]', "generate", "--model", "m", "--prompts", "-");
  expect(column.stderr).toContain("fix       use --prompt-column Question\n");
  const both = fed("x", "train", "--config", "run.json", "--prompts", "-", "--eval-prompts", "-", "--out", "d");
  expect([both.status, existsSync(at("d"))]).toEqual([2, false]);
  const twice = fed("x", "pretrain", "--data", "-", "-", "--tokenizer", "m", "--out", "d");
  expect(twice.stderr).toContain("found     stdin (-) 2 times\n");
});

it("a run from stdin says what --resume needs, and goes on with it", () => {
  copyFileSync(at("run.json"), at("e.json"));
  const input = readFileSync(at("p.txt"), "utf8");
  expect(fed(input, "train", "--config", "run.json", "--prompts", "-", "--out", "e").status).toBe(0);
  const without = valuehead(cwd, "train", "--resume", "e", "--steps", "2");
  expect(without.status).toBe(2);
  expectProblem(without.stderr, "--prompts", `no path in ${join("e", "config.json")}`);
  const resumed = fed(input, "train", "--resume", "e", "--steps", "2", "--prompts", "-");
  expect(resumed.status, resumed.stderr).toBe(0);
});

it("language-model training goes on with what it began with: its own model, text from stdin given again", () => {
  const text = Array.from({ length: 40 }, (_, i) => `Text ${i} tells of ${i} things, all of them good.\n\n`).join("");
  writeFileSync(at("d.txt"), text);
  const args = ["pretrain", "--data", "-", "--model", "m", "--sequence-length", "16", "--steps", "1", "--quiet"];
  const begun = fed(text, ...args, "--out", "p4");
  expect(begun.status, begun.stderr).toBe(0);
  const without = valuehead(cwd, "train", "--resume", "p4", "--steps", "2");
  expect(without.status).toBe(2);
  expectProblem(without.stderr, "--data", "no path in config.json of the run: its text came from stdin");
  const other = valuehead(cwd, "train", "--resume", "p4", "--data", "d.txt", "--model", "tiny");
  expectProblem(other.stderr, "--model", "tiny, for a run that goes on");
  const on = valuehead(cwd, "train", "--resume", "p4", "--data", "d.txt", "--steps", "2", "--quiet");
  expect(on.status, on.stderr).toBe(0);
  expect(existsSync(at("p4", "checkpoint-2"))).toBe(true);
  const ppo = ["train", "--algorithm", "ppo", "--resume", "p4", "--prompts", "p.txt", "--reward", "length"];
  const refused = valuehead(cwd, ...ppo);
  expect(refused.status).toBe(2);
  expectProblem(refused.stderr, "p4", "a run of the algorithm sft");
});

it.runIf(existsSync("/dev/full"))(
  "a full disk behind stdout: the run is saved, the cause is named, and it is no bug",
  () => {
    const command = `"${process.execPath}" "${join(root, "bin", "valuehead.js")}" train --config run.json --out f --steps 50 --threads 1 > /dev/full`;
    const { status, stderr } = spawnSync("sh", ["-c", command], { cwd, encoding: "utf8" });
    expect(status).toBe(1);
    expectProblem(stderr, "stdout", "a full disk (ENOSPC)");
    expect(stderr).not.toContain("bug");
    expect(readdirSync(at("f")).some((name) => name.startsWith("checkpoint-"))).toBe(true);
  },
);
