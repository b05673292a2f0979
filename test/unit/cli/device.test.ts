/** @file `--device`: another backend computes the same, a run remembers it, and one that is not installed is told at once. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it, test } from "vitest";
import {
  buildCli,
  jsonLines,
  startValuehead,
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
  writePrompts(at("p.txt"));
  writeFileSync(at("text.txt"), "This movie was one of the best that I have ever seen.\n\n".repeat(40));
});
const sizes = ["--batch-size", "4", "--mini-batch-size", "2", "--max-new-tokens", "5"];
const train = ["train", "--model", "m", "--prompts", "p.txt", "--reward", "length", "--no-eval", ...sizes];
const pretrain = ["pretrain", "--model", "m", "--data", "text.txt", "--batch-size", "2", "--sequence-length", "16"];

test.each(["train", "train --algorithm sft", "pretrain", "demo", "generate", "score", "info"])(
  "%s has it",
  (command) => {
    const { stdout } = valuehead(cwd, ...command.split(" "), "--help");
    expect(stdout).toMatch(/--device <name>\s+what computes: cpu, webgpu/);
  },
);

it.each([
  [
    "--device",
    "cuda",
    "one of cpu, wasm, webgpu",
    "what computes: cpu, webgpu (a GPU), or wasm, which needs the package onnxruntime-web (default: cpu)",
  ],
  ["--threads", "0", "a whole number from 1 to 1000000000", "number of engine threads (default: all cores)"],
])("%s %s is refused, with what it may be", (flag, value, expected, meaning) => {
  const { status, stderr } = valuehead(cwd, "score", "--model", "m", "--text", "a", flag, value);
  expect(status).toBe(2);
  expect(stderr).toContain(`error: ${flag}\n`);
  expect(stderr).toContain(`  expected  ${expected}\n`);
  expect(stderr).toContain(`correct ${flag}: ${meaning}\n`);
});

it("scores and samples on WebAssembly as on the CPU", () => {
  const on = (device: string, ...args: string[]) => {
    const { status, stdout, stderr } = valuehead(cwd, ...args, "--model", "m", "--json", "--device", device);
    expect([status, stderr]).toEqual([0, ""]);
    return jsonLines(stdout);
  };
  const [cpu, wasm] = ["cpu", "wasm"].map((device) => on(device, "score", "--text", "This movie was")[0].tokens);
  expect(wasm).toHaveLength(cpu.length);
  for (const [i, { logprob, value }] of cpu.entries()) {
    expect(wasm[i].logprob ?? 0).toBeCloseTo(logprob ?? 0, 4);
    expect(wasm[i].value).toBeCloseTo(value, 4);
  }
  const sample = ["generate", "--prompt", "This movie", "--max-new-tokens", "6"];
  const [said, again] = ["cpu", "wasm"].map((device) => on(device, ...sample)[0]);
  expect(again.tokens).toEqual(said.tokens);
  expect(valuehead(cwd, "info", "--model", "m", "--device", "wasm").status).toBe(0);
});

it.each([
  ["train", train],
  ["pretrain", pretrain],
])("%s: a run remembers its device, and is told of another one", (name, command) => {
  const out = ["--out", name];
  const begun = valuehead(cwd, ...command, ...out, "--steps", "1", "--device", "wasm", "--quiet");
  expect([begun.status, begun.stderr]).toEqual([0, expect.not.stringContaining("device")]);
  const recorded = () => JSON.parse(readFileSync(at(name, "config.json"), "utf8")).device;
  expect(recorded()).toBe("wasm");
  const resume = (steps: string, ...more: string[]) =>
    valuehead(cwd, "train", "--resume", ...out, "--steps", steps, ...more);
  const same = resume("2");
  expect([same.status, recorded()]).toEqual([0, "wasm"]);
  expect(same.stdout + same.stderr).not.toContain("device");
  const other = resume("3", "--device", "cpu");
  expect([other.status, recorded()]).toEqual([0, "cpu"]);
  expect(other.stdout + other.stderr).toMatch(/device cpu from here on, wasm before: its kernels\s+round otherwise/);
});

it("says how to get WebAssembly where it is not installed, before anything is written", async () => {
  // As Node finds the package where it was not installed.
  writeFileSync(
    at("without.cjs"),
    `const Module = require("node:module");
     const find = Module._resolveFilename;
     Module._resolveFilename = function (name, ...rest) {
       if (/^onnxruntime-web/.test(name)) throw Object.assign(new Error("Cannot find module 'onnxruntime-web'"), { code: "MODULE_NOT_FOUND" });
       return find.call(this, name, ...rest);
     };`,
  );
  const more = { NODE_OPTIONS: `--require ${at("without.cjs")}` };
  const score = ["score", "--model", "m", "--text", "This"];
  expect((await startValuehead(cwd, score, undefined, { more })).status).toBe(0);
  const commands = [score, [...train, "--out", "none"], [...pretrain, "--out", "none"], ["info", "--model", "m"]];
  for (const command of commands) {
    const { status, stderr } = await startValuehead(cwd, [...command, "--device", "wasm"], undefined, { more });
    expect(status, stderr).toBe(1);
    expect(stderr).toContain('device "wasm"');
    expect(stderr).toContain("Cannot find module 'onnxruntime-web'");
    expect(stderr).toContain("npm install --ignore-scripts onnxruntime-web@1.30.0");
  }
  expect(existsSync(at("none", "config.json"))).toBe(false);
});
