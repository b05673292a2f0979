/** @file A training run of the command line small enough to be killed many times, and how two such runs are compared. */
import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeConfig } from "../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../src/families/index.ts";

/** The source checkout with dist/ in it. */
export interface SmallRun {
  root: string;
  /** Model, prompts and run directories. */
  directory: string;
  steps: number;
}

/** A random model of two layers with the embedded tokenizer, and a few prompts. */
async function prepare({ root, directory }: SmallRun): Promise<void> {
  const shape = { vocabSize: 8192, nPositions: 48, nEmbd: 16, nLayer: 2, nHead: 2, eosTokenId: 8191, bosTokenId: 8191 };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { seed: 1, threads: 1 });
  mkdirSync(directory, { recursive: true });
  await model.savePretrained(join(directory, "model"));
  model.dispose();
  for (const name of ["tokenizer.json", "tokenizer_config.json"])
    copyFileSync(join(root, "models", "tiny", name), join(directory, "model", name));
  const prompts = Array.from({ length: 10 }, (_, i) => `This movie number ${i} is\n`).join("");
  writeFileSync(join(directory, "prompts.txt"), prompts);
  const pairs = Array.from({ length: 10 }, (_, i) => ({
    prompt: `This movie number ${i} is`,
    chosen: ` good, ${"really ".repeat(i % 4)}`,
    rejected: " bad",
  }));
  writeFileSync(join(directory, "pairs.jsonl"), pairs.map((pair) => `${JSON.stringify(pair)}\n`).join(""));
  const answers = pairs.map(({ prompt, chosen }) => `${JSON.stringify({ prompt, response: chosen })}\n`);
  writeFileSync(join(directory, "responses.jsonl"), answers.join("").repeat(10));
  writeFileSync(join(directory, "text.txt"), prompts.repeat(20).replaceAll("\n", " good or bad.\n\n"));
}

/** `valuehead train` on it with a checkpoint after every step, on one thread, events as JSON. PPO, unless the flags say otherwise. */
export function startRun(
  run: SmallRun,
  out: string,
  flags: readonly string[] = [],
  prefix: readonly string[] = [],
): ChildProcess {
  const text = flags.includes("--responses") ? "responses.jsonl" : "text.txt";
  const files = flags.includes("sft")
    ? text
    : flags.some((flag) => /^(dpo|reward)$/.test(flag))
      ? "pairs.jsonl"
      : undefined;
  const data = files ? ["--data", files] : ["--prompts", "prompts.txt", "--reward", "length"];
  const sizes = files
    ? ["--batch-size", "4", "--held-out-fraction", "0.2", "--eval-every", "2"]
    : ["--batch-size", "8", "--mini-batch-size", "4", "--max-new-tokens", "8", "--learning-rate", "1e-3"];
  if (flags.includes("sft")) sizes.push("--sequence-length", "16");
  const rest = ["--steps", String(run.steps), "--save-every", "1", "--threads", "1", "--json"];
  const command = [
    process.execPath,
    join(run.root, "bin", "valuehead.js"),
    "train",
    ...["--model", "model", ...data, "--out", out],
    ...sizes,
    ...rest,
    ...flags,
  ];
  const [program, ...args] = [...prefix, ...command];
  return spawn(program, args, { cwd: run.directory, env: { ...process.env, HF_HUB_OFFLINE: "1" } });
}

export interface Ended {
  status: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

/** The process to its end; `onOutput` sees all of stdout so far whenever there is more. */
export function ended(child: ChildProcess, onOutput: (soFar: string) => void = () => {}): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (piece) => {
    stdout += piece;
    onOutput(stdout);
  });
  child.stderr?.on("data", (piece) => {
    stderr += piece;
  });
  return new Promise((resolve) => child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr })));
}

/** {@link prepare}, and a run that nothing happens to, in `out`. */
export async function wholeRun(run: SmallRun, flags: readonly string[] = [], out = "whole"): Promise<void> {
  await prepare(run);
  const { status, stderr } = await ended(startRun(run, out, flags));
  if (status !== 0) throw new Error(`the run that nothing happens to failed: ${stderr}`);
}

/** What of a run directory does not depend on the clock, by file name. */
export function contents(out: string): Map<string, Buffer> {
  const all = new Map<string, Buffer>();
  for (const name of readdirSync(out, { recursive: true, encoding: "utf8" }).sort()) {
    if (name.startsWith("tb") || /^(events\.jsonl|report\.html)$/.test(name)) continue; // with the time in them
    const path = join(out, name);
    if (name === "config.json") all.set(name, Buffer.from(withoutCommand(readFileSync(path, "utf8"))));
    else if (name.endsWith("README.md")) all.set(name, Buffer.from(withoutPlace(readFileSync(path, "utf8"))));
    else if (name === "metrics.jsonl") all.set(name, Buffer.from(withoutTimes(readFileSync(path, "utf8"))));
    else if (statSync(path).isFile()) all.set(name, readFileSync(path));
  }
  return all;
}

const withoutTimes = (text: string) => text.replace(/,"(time|memory)\/[^"]*":[^,}]*/g, "");
/** The lines of a card that name the checkpoint's directory are left out. */
const withoutPlace = (text: string) => text.replace(/^.*\/checkpoint-.*$/gm, "");
/** What was typed names the directory, and workers have a name of the run at random. */
const withoutCommand = (text: string) =>
  JSON.stringify({ ...JSON.parse(text), command: undefined, workers: undefined });

/** Names of files that only one of two runs has or that differ. */
export function differences(a: string, b: string): string[] {
  const [left, right] = [contents(a), contents(b)];
  const names = [...new Set([...left.keys(), ...right.keys()])];
  return names.filter((name) => !right.get(name)?.equals(left.get(name) ?? Buffer.alloc(0)));
}
