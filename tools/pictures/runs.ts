/** @file The short runs that docs/healthy.md shows: one that is well, and others with one thing wrong. All of them on the embedded model. */
import { type SpawnSyncOptions, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Metrics } from "../../src/rl/metrics.ts";

export interface DocumentedRun {
  readonly name: string;
  readonly steps: number;
  /** What is different from the demo's options. */
  readonly flags: readonly string[];
  /** A reward module; without one it is the demo's own. */
  readonly reward?: string;
}

/** The demo's options, as flags of `train`. */
const DEMO = [
  ...["--model", "tiny", "--batch-size", "64", "--mini-batch-size", "32", "--max-new-tokens", "24"],
  ...["--min-new-tokens", "24", "--temperature", "0.7", "--learning-rate", "1e-4"],
  ...["--kl-coef", "0.07", "--kl-target", "6", "--kl-horizon", "400"],
];

/** Beside the demo itself, which is the run that is well. */
export const RUNS: readonly DocumentedRun[] = [
  { name: "too-fast", steps: 16, flags: ["--learning-rate", "2e-3"] },
  {
    name: "large-scores",
    steps: 14,
    flags: [],
    reward: `import { builtInRewards } from "valuehead";
export default async (batch) => (await builtInRewards.positive(batch)).map((score) => 50 * score);
`,
  },
  {
    name: "hacked",
    steps: 16,
    flags: ["--kl-controller", "fixed", "--kl-coef", "0", "--learning-rate", "3e-4"],
    reward: `// Meant: personal reviews. Measured: words for oneself, eight of them for full marks.
const me = /\\b(I|me|my|mine|myself)\\b/g;
export default (batch) => batch.map(({ response }) => Math.min(8, response.match(me)?.length ?? 0) / 8);
`,
  },
];

export const DEMO_STEPS = 50;
/** Columns of the terminal that the demo is shown in. */
export const COLUMNS = 96;

/** Where a run is in the folder of all. */
export const directoryOf = (folder: string, name: string): string =>
  name === "healthy"
    ? join(folder, "demo", "runs", "demo-0")
    : join(folder, ...(name.startsWith("padding-") ? ["exploits", name] : [name]));
/** What the demo wrote to its terminal. */
export const capturePath = (folder: string): string => join(folder, "demo", "terminal.txt");

/** Run what is not there yet, in `folder`; the demo in a terminal, which `script` of util-linux makes. */
export function makeRuns(root: string, folder: string, prefix: readonly string[] = []): void {
  if (!existsSync(capturePath(folder))) {
    const demo = join(folder, "demo");
    rmSync(demo, { recursive: true, force: true });
    mkdirSync(demo, { recursive: true });
    const command = `stty cols ${COLUMNS} && "${process.execPath}" "${join(root, "bin", "valuehead.js")}" demo --threads 2 2>/dev/null`;
    console.log(`the demo: ${DEMO_STEPS} steps`);
    must(demo, [...prefix, "script", "-qec", command, "terminal.part"]);
    renameSync(join(demo, "terminal.part"), capturePath(folder));
  }
  const models = join(root, "models", "tiny");
  const prompts = ["--prompts", join(models, "prompts.txt"), "--no-eval"];
  mkdirSync(folder, { recursive: true });
  for (const { name, steps, flags, reward } of RUNS) {
    const out = directoryOf(folder, name);
    if (existsSync(join(out, "report.html"))) continue;
    const module = join(folder, `${name}.mjs`);
    if (reward !== undefined) writeFileSync(module, reward);
    const judge = ["--reward", reward === undefined ? "positive" : module];
    const resume = existsSync(join(out, "metrics.jsonl")) ? ["--resume"] : [];
    const command = ["train", ...DEMO, ...prompts, ...judge, "--steps", `${steps}`, "--out", out, ...resume, ...flags];
    console.log(`${name}: ${steps} steps`);
    must(root, [...prefix, process.execPath, join(root, "bin", "valuehead.js"), ...command, "--threads", "2"]);
  }
  if (existsSync(join(folder, "exploits", "padding-closed", "metrics.jsonl"))) return;
  const exploits = join(root, ".cache", "examples", "exploits", "exploits.js");
  must(folder, [
    ...prefix,
    process.execPath,
    exploits,
    "--only",
    "padding",
    "--steps",
    "24",
    "--out",
    join(folder, "exploits"),
  ]);
}

function must(cwd: string, [program, ...args]: readonly string[]): void {
  const options: SpawnSyncOptions = { cwd, stdio: "inherit", env: { ...process.env, HF_HUB_OFFLINE: "1" } };
  const { status } = spawnSync(program, args, options);
  if (status !== 0) throw new Error(`${args.join(" ")} ended with ${status}`);
}

/** Metrics that the page draws. */
const DRAWN = [
  "env/reward_mean",
  "objective/kl",
  "objective/kl_k1",
  "ppo/policy/entropy",
  "ppo/policy/clipfrac",
  "ppo/policy/ratio_max",
  "ppo/loss/policy",
  "ppo/loss/value",
  "ppo/val/var_explained",
  "ppo/grad_norm",
  "audit/log_martingale",
] as const satisfies readonly (keyof Metrics)[];
export type Drawn = (typeof DRAWN)[number];

/** What is kept of a run: its curves, a response of the first and of the last step, and held-out scores. */
export interface KeptRun {
  readonly steps: number;
  readonly curves: Readonly<Partial<Record<Drawn, readonly number[]>>>;
  /** The first response in samples.jsonl of the first and of the last step: not chosen. */
  readonly samples: readonly { step: number; prompt: string; response: string; score: number }[];
  readonly heldOut?: { before: number; after: number };
}

const round = (value: number) => Number(value.toPrecision(4));
const lines = (path: string) =>
  existsSync(path)
    ? readFileSync(path, "utf8")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
    : [];

/** A run directory, in a few kilobytes. */
export function keptRun(directory: string): KeptRun {
  const steps: Metrics[] = lines(join(directory, "metrics.jsonl"));
  const curves: Partial<Record<Drawn, number[]>> = {};
  for (const name of DRAWN) {
    const values = steps.map((metrics) => metrics[name]);
    if (values.every((value) => typeof value === "number"))
      curves[name] = values.map((value) => round(value as number));
  }
  const samples = lines(join(directory, "samples.jsonl"));
  const ofStep = (step: number) =>
    samples.filter((sample) => sample.step === step).slice(0, 1) as {
      step: number;
      prompt: string;
      response: string;
      score: number;
    }[];
  const shown = [...ofStep(1), ...ofStep(steps.length)].map(({ step, prompt, response, score }) => ({
    ...{ step, prompt, response, score: round(score) },
  }));
  const path = join(directory, "evaluation.json");
  if (!existsSync(path)) return { steps: steps.length, curves, samples: shown };
  const { before, after } = JSON.parse(readFileSync(path, "utf8"));
  return {
    steps: steps.length,
    curves,
    samples: shown,
    heldOut: { before: round(before.mean), after: round(after.mean) },
  };
}
