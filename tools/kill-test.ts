/**
 * @file A run that is killed again and again ends with the same result. `npm run kill-test` kills 200 times with SIGKILL, each kind
 * of run as often as the others, at random moments and aimed at what comes after a checkpoint got its name, the last one too;
 * `npm run kill-test -- 50 7` 50 times with seed 7.
 */
import { existsSync, type FSWatcher, mkdtempSync, readdirSync, readFileSync, rmSync, watch } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { RNG } from "../src/base/rng.ts";
import { differences, ended, type SmallRun, startRun, wholeRun } from "./small-run.ts";

/** Each algorithm, which is also run with an adapter. */
const ALGORITHMS: Readonly<Record<string, readonly string[]>> = {
  PPO: [],
  GRPO: ["--algorithm", "grpo", "--num-generations", "4", "--score-scaling", "scale"],
  RLOO: ["--algorithm", "rloo", "--num-generations", "2", "--epochs", "2"],
  DPO: ["--algorithm", "dpo"],
  "SFT on responses": ["--algorithm", "sft", "--responses"],
  "SFT on text": ["--algorithm", "sft"],
};

const withLoRA = ([name, flags]: [string, readonly string[]]) =>
  [`${name} with LoRA`, [...flags, "--lora", "4"]] as const;

/** Kinds of runs: the algorithms, and options that give a checkpoint more to hold. */
export const KINDS: Readonly<Record<string, readonly string[]>> = {
  ...ALGORITHMS,
  ...Object.fromEntries(Object.entries(ALGORITHMS).map(withLoRA)),
  "reward model": ["--algorithm", "reward"],
  "separate value model": ["--value-model", "separate"],
  int8: ["--rollout-precision", "int8"],
  scaling: ["--score-scaling", "normalize", "--score-clip", "2"],
  "one checkpoint": ["--keep-checkpoints", "1"],
};

export interface KillReport {
  kills: number;
  /** Of these: before the run directory was made, before the first checkpoint, with files half written. */
  beforeDirectory: number;
  beforeCheckpoint: number;
  midWrite: number;
  /** Aimed at a checkpoint that had just got its name, and at the last one. */
  atCheckpoint: number;
  atLast: number;
  /** After these kills best.json or old checkpoints were not what belongs to the newest checkpoint. */
  unpruned: number;
  /** With the killed process's lock left behind. */
  locked: number;
  /** Times that three processes resumed a run at once, and how many of them were refused. */
  atOnce: number;
  refused: number;
  /** Runs that came to their end, and what of them is not as in the run that was never killed. */
  runs: number;
  differences: string[];
}

/** Milliseconds after its start, after it has loaded, or after a checkpoint got its name, in which a process may be killed. */
const START = 800;
const LIFE = 1500;
const PRUNING = 12;

/**
 * Runs of the command line of one kind, each killed and resumed until it is done, until there were `kills` kills; compared with
 * one that was never killed.
 * @throws when a killed run cannot be resumed
 */
export async function killTest(
  run: SmallRun,
  kills: number,
  seed: number,
  log: (line: string) => void = () => {},
  kind = "PPO",
): Promise<KillReport> {
  const rng = new RNG(seed);
  const report: KillReport = {
    kills: 0,
    beforeDirectory: 0,
    beforeCheckpoint: 0,
    midWrite: 0,
    atCheckpoint: 0,
    atLast: 0,
    unpruned: 0,
    locked: 0,
    atOnce: 0,
    refused: 0,
    runs: 0,
    differences: [],
  };
  while (report.kills < kills) {
    const whole = kind === "PPO" ? "whole" : `whole, ${kind}`;
    if (!existsSync(join(run.directory, whole))) {
      const started = performance.now();
      await wholeRun(run, KINDS[kind], whole);
      log(`${whole}: ${run.steps} steps in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    }
    const out = `killed, ${kind}, ${report.runs}`;
    await untilDone({ run, out, flags: KINDS[kind], kills, rng, report, log });
    report.runs++;
    const found = differences(join(run.directory, whole), join(run.directory, out));
    report.differences.push(...found.map((name) => `${out}/${name}`));
    log(
      `${out} is done after ${report.kills} kills in all; differs in ${found.length === 0 ? "nothing" : found.join(", ")}`,
    );
    if (found.length === 0) rmSync(join(run.directory, out), { recursive: true });
  }
  return report;
}

interface Going {
  run: SmallRun;
  out: string;
  flags: readonly string[];
  kills: number;
  rng: RNG;
  report: KillReport;
  log: (line: string) => void;
}

type Aim = "start" | "life" | "checkpoint" | "last";

async function untilDone(going: Going): Promise<void> {
  const { run, out, flags, kills, rng, report } = going;
  const directory = join(run.directory, out);
  for (;;) {
    const there = existsSync(directory);
    const u = rng.uniform();
    if (there && u < 0.1) {
      await resumeAtOnce(going);
      return;
    }
    const aim: Aim = u < 0.25 ? "start" : u < 0.5 ? "life" : u < 0.75 || !there ? "checkpoint" : "last";
    const delay = rng.uniform() * { start: START, life: LIFE, checkpoint: PRUNING, last: PRUNING }[aim];
    const child = startRun(run, out, [...flags, ...(there ? ["--resume"] : [])]);
    const kill = () => child.kill("SIGKILL");
    const more = report.kills < kills;
    const timers: NodeJS.Timeout[] = [];
    let watcher: FSWatcher | undefined;
    const watchFor = () => {
      if (watcher || !existsSync(directory)) return;
      const last = `checkpoint-${run.steps}`;
      watcher = watch(directory, (_, name) => {
        const aimed = aim === "last" ? name === last : /^checkpoint-\d+$/.test(name ?? "");
        if (aimed) timers.push(setTimeout(kill, delay));
      });
    };
    if (more && aim === "start") timers.push(setTimeout(kill, delay));
    const end = await ended(child, (stdout) => {
      if (!more || !stdout.includes('"loaded"')) return;
      if (aim === "life" && timers.length === 0) timers.push(setTimeout(kill, delay));
      if (aim === "checkpoint" || aim === "last") watchFor();
    });
    watcher?.close();
    timers.forEach(clearTimeout);
    if (end.status === 0) return;
    if (end.signal !== "SIGKILL") throw new Error(`${out} cannot be resumed: ${end.stderr || end.stdout}`);
    note(going, aim, delay);
  }
}

/** What a kill left behind. */
function note({ run, out, report, log }: Going, aim: Aim, delay: number): void {
  const directory = join(run.directory, out);
  report.kills++;
  const names = existsSync(directory) ? readdirSync(directory) : undefined;
  const half = names?.filter((name) => /\.(tmp|old)-/.test(name)) ?? [];
  const checkpoints = names?.filter((name) => /^checkpoint-\d+$/.test(name)) ?? [];
  if (!names) report.beforeDirectory++;
  else if (checkpoints.length === 0) report.beforeCheckpoint++;
  if (half.length > 0) report.midWrite++;
  if (names?.includes(".lock")) report.locked++;
  if (aim === "checkpoint") report.atCheckpoint++;
  if (aim === "last") report.atLast++;
  const best = names?.includes("best.json")
    ? JSON.parse(readFileSync(join(directory, "best.json"), "utf8"))
    : undefined;
  if (checkpoints.length > 3 || (checkpoints.length > 0 && !checkpoints.includes(best?.checkpoint))) report.unpruned++;
  const after = { start: "its start", life: "it had loaded", checkpoint: "a checkpoint", last: "the last checkpoint" }[
    aim
  ];
  log(
    `kill ${report.kills}: ${delay.toFixed(0)} ms after ${after}; ${[...checkpoints, ...half].join(", ") || "nothing written"}`,
  );
}

/** Three processes resume one run: one does, and the others are refused, or come when it is done and find nothing left to do. */
async function resumeAtOnce({ run, out, flags, report, log }: Going): Promise<void> {
  const ends = await Promise.all([1, 2, 3].map(() => ended(startRun(run, out, [...flags, "--resume"]))));
  const refused = ends.filter(({ status, stderr }) => status === 1 && stderr.includes("a run that is going on there"));
  const done = ends.filter(({ status }) => status === 0);
  if (done.length === 0 || done.length + refused.length < 3)
    throw new Error(
      `${out}, resumed by three at once: ${ends.map(({ status, stderr }) => `${status} ${stderr}`).join("; ")}`,
    );
  report.atOnce++;
  report.refused += refused.length;
  log(`${out}: resumed by three at once, ${refused.length} of them refused`);
}

/** One line for each kind, in Markdown. */
function table(reports: readonly (readonly [kind: string, report: KillReport])[]): string {
  const columns = {
    "kind of run": 0,
    kills: "kills",
    "before a checkpoint": "beforeCheckpoint",
    "files half written": "midWrite",
    "at a checkpoint": "atCheckpoint",
    "at the last": "atLast",
    "lock left": "locked",
    runs: "runs",
    "resumed by three": "atOnce",
    "of them refused": "refused",
  } as const;
  const row = (cells: readonly unknown[]) => `| ${cells.join(" | ")} |`;
  const numbers = (report: KillReport) => Object.values(columns).flatMap((name) => (name === 0 ? [] : [report[name]]));
  return [
    row([...Object.keys(columns), "differs in"]),
    row([...Object.keys(columns), ""].map(() => "---")),
    ...reports.map(([kind, report]) => row([kind, ...numbers(report), report.differences.join(", ") || "nothing"])),
  ].join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [kills = 200, seed = 1] = process.argv.slice(2).map(Number);
  const directory = mkdtempSync(join(tmpdir(), "valuehead-kill-"));
  const kinds = Object.keys(KINDS);
  const reports: [string, KillReport][] = [];
  try {
    for (const [i, kind] of kinds.entries()) {
      const share = Math.floor(((i + 1) * kills) / kinds.length) - Math.floor((i * kills) / kinds.length);
      const run = { root: process.cwd(), directory, steps: 8 };
      if (share > 0) reports.push([kind, await killTest(run, share, seed + i, console.log, kind)]);
    }
    console.log(table(reports));
    if (reports.some(([, { differences }]) => differences.length > 0)) process.exitCode = 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
