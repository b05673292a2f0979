/** @file The command as a user runs it: compiled, in a process of its own, on a model of a few thousand weights. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";

export const root = new URL("../..", import.meta.url).pathname;
const bin = join(root, "bin", "valuehead.js");

const newestOf = (folder: string): number =>
  Math.max(...readdirSync(folder, { recursive: true }).map((name) => statSync(join(folder, String(name))).mtimeMs));

/** Bundle the page to dist/dashboard unless it is there and newer than its source. */
export function buildPage(): void {
  const page = join(root, "dist", "dashboard", "compare-main.js");
  const newest = Math.max(newestOf(join(root, "apps")), statSync(join(root, "src", "rl", "metrics.ts")).mtimeMs);
  if (existsSync(page) && statSync(page).mtimeMs > newest) return;
  const { status, stderr } = spawnSync("npm", ["run", "-s", "build:page"], { cwd: root, encoding: "utf8" });
  expect(status, stderr).toBe(0);
}

/** Compile src/ to dist/ unless dist/ is that already: tests never run a stale command, nor find what has no source any more. */
export function buildCli(): void {
  const lock = join(root, ".cache", "building");
  mkdirSync(join(root, ".cache"), { recursive: true });
  while (!taken(lock)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  try {
    buildUnlessFresh();
  } finally {
    rmSync(lock, { recursive: true });
  }
}

/** Whether this process builds now: another test file may be at it. One that was killed while it built does not count. */
function taken(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    if (Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0) > 180_000)
      rmSync(lock, { recursive: true, force: true });
    return false;
  }
}

function buildUnlessFresh(): void {
  const main = join(root, "dist", "cli", "main.js");
  const left = existsSync(join(root, "dist"))
    ? readdirSync(join(root, "dist"), { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".js") && !/^(dashboard|browser|playground|programs)[\\/]/.test(name))
        .filter((name) => !existsSync(join(root, "src", name.replace(/\.js$/, ".ts"))))
    : [];
  if (left.length > 0) rmSync(join(root, "dist"), { recursive: true });
  buildPage();
  const newest = newestOf(join(root, "src"));
  if (existsSync(main) && statSync(main).mtimeMs > newest) return;
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  for (const step of [[tsc, "-p", "tsconfig.build.json"], [join("tools", "programs-build.mjs")]]) {
    const { status, stdout, stderr } = spawnSync(process.execPath, step, { cwd: root, encoding: "utf8" });
    expect(status, stdout + stderr).toBe(0);
  }
}

/** A directory that is gone after the tests of the file. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "valuehead-cli-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface Finished {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** The environment of a user without a hub. */
const env = { ...process.env, HF_HUB_OFFLINE: "1", NO_COLOR: "1" };

/** One thread: two that wait for each other on busy cores take many times as long. */
const withThreads = (args: readonly string[]) =>
  /^(train|demo|generate|score|pretrain)$/.test(args[0]) && !args.includes("--help") && !args.includes("--threads")
    ? [...args, "--threads", "1"]
    : args;

/** `valuehead ...args` in a directory, to its end. */
export function valuehead(cwd: string, ...args: string[]): Finished {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...withThreads(args)], {
    cwd,
    env,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

/**
 * The same, with the process in hand: `onStdout` sees everything printed so far whenever there is more, `onStderr` likewise.
 * `more` is added to its environment.
 */
export function startValuehead(
  cwd: string,
  args: string[],
  onStdout: (soFar: string, child: ChildProcess) => void = () => {},
  { onStderr = () => {}, more = {} }: { onStderr?: typeof onStdout; more?: Record<string, string> } = {},
): Promise<Finished & { signal: string | null }> {
  const child = spawn(process.execPath, [bin, ...withThreads(args)], { cwd, env: { ...env, ...more } });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (piece) => {
    stdout += piece;
    onStdout(stdout, child);
  });
  child.stderr.on("data", (piece) => {
    stderr += piece;
    onStderr(stderr, child);
  });
  return new Promise((resolve) => child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr })));
}

/** Every `valuehead ...` line that was printed, run by a shell as it stands. */
export function runPrinted(cwd: string, text: string): (Finished & { line: string })[] {
  const shim = join(cwd, ".bin");
  mkdirSync(shim, { recursive: true });
  writeFileSync(join(shim, "valuehead"), `#!/bin/sh\nexec "${process.execPath}" "${bin}" "$@"\n`, { mode: 0o755 });
  const printed = text.split("\n").filter((line) => /^\s*valuehead \S/.test(line));
  return printed.map((line) => {
    const asked = { cwd, env: { ...env, PATH: `${shim}:${process.env.PATH}` }, encoding: "utf8" as const };
    const { status, stdout, stderr } = spawnSync("sh", ["-c", line], asked);
    return { line, status, stdout, stderr };
  });
}

/** Every line of stdout as JSON; a line that is not JSON fails. */
// biome-ignore lint/suspicious/noExplicitAny: whatever the command says
export const jsonLines = (stdout: string): any[] =>
  stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));

/** A model with random weights, the embedded tokenizer, a context of 48, one layer. */
export async function writeModel(directory: string): Promise<string> {
  const config = makeConfig({
    vocabSize: 8192,
    nPositions: 48,
    nEmbd: 16,
    nLayer: 1,
    nHead: 2,
    eosTokenId: 8191,
    bosTokenId: 8191,
  });
  const model = GPT2HeadWithValueModel.fromConfig(config, { seed: 1, threads: 1 });
  await model.savePretrained(directory);
  for (const name of ["tokenizer.json", "tokenizer_config.json"])
    copyFileSync(join(root, "models", "tiny", name), join(directory, name));
  return directory;
}

export function writePrompts(path: string, count = 6): void {
  writeFileSync(path, Array.from({ length: count }, (_, i) => `This movie number ${i} is\n`).join(""));
}

/** Four lines for people: where, found, expected, fix. */
export function expectProblem(stderr: string, where: string, found: string): void {
  const first = stderr.split("\n").find((line) => line.startsWith("error: "));
  expect(first).toContain(where); // train says the model's whole path

  expect(stderr).toContain(`  found     ${found}`);
  expect(stderr).toMatch(/\n {2}expected {2}\S.*\n {2}fix {7}\S/);
  expect(stderr).not.toContain("    at "); // no stack
}
