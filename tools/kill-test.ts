/**
 * @file A run that is killed again and again ends as if nothing had happened. `npm run kill-test` kills 50 times with
 * SIGKILL at random moments; `npm run kill-test -- 200 7` 200 times with seed 7.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Rng } from "../src/base/rng.ts";
import { differences, ended, type SmallRun, startRun, wholeRun } from "./small-run.ts";

export interface KillReport {
  kills: number;
  /** Of these: before the run directory was made, before the first checkpoint, with files half written. */
  beforeDirectory: number;
  beforeCheckpoint: number;
  midWrite: number;
  /** Runs that came to their end, and what of them is not as in the run that was never killed. */
  runs: number;
  differences: string[];
}

/** Milliseconds after its start, or after it has loaded, in which a process may be killed. */
const START = 800;
const LIFE = 1500;

/**
 * Runs of the command line, each killed and resumed until it is done, until there were `kills` kills; compared with one
 * that was never killed.
 * @throws when a killed run cannot be resumed
 */
export async function killTest(
  run: SmallRun,
  kills: number,
  seed: number,
  log: (line: string) => void = () => {},
): Promise<KillReport> {
  if (!existsSync(join(run.directory, "whole"))) {
    const started = performance.now();
    await wholeRun(run);
    log(`a whole run of ${run.steps} steps: ${((performance.now() - started) / 1000).toFixed(1)} s`);
  }
  const rng = new Rng(seed);
  const report: KillReport = {
    kills: 0,
    beforeDirectory: 0,
    beforeCheckpoint: 0,
    midWrite: 0,
    runs: 0,
    differences: [],
  };
  while (report.kills < kills) {
    const out = `killed-${report.runs}`;
    await untilDone(run, out, kills, rng, report, log);
    report.runs++;
    const found = differences(join(run.directory, "whole"), join(run.directory, out));
    report.differences.push(...found.map((name) => `${out}/${name}`));
    log(
      `${out} is done after ${report.kills} kills in all; differs in ${found.length === 0 ? "nothing" : found.join(", ")}`,
    );
  }
  return report;
}

async function untilDone(
  run: SmallRun,
  out: string,
  kills: number,
  rng: Rng,
  report: KillReport,
  log: (line: string) => void,
): Promise<void> {
  const directory = join(run.directory, out);
  for (;;) {
    const child = startRun(run, out, existsSync(directory) ? ["--resume"] : []);
    const kill = () => child.kill("SIGKILL");
    const atStart = rng.uniform() < 0.2;
    const delay = rng.uniform() * (atStart ? START : LIFE);
    let timer: NodeJS.Timeout | undefined;
    const more = report.kills < kills;
    if (more && atStart) timer = setTimeout(kill, delay);
    const end = await ended(child, (stdout) => {
      if (more && !timer && stdout.includes('"loaded"')) timer = setTimeout(kill, delay);
    });
    clearTimeout(timer);
    if (end.status === 0) return;
    if (end.signal !== "SIGKILL") throw new Error(`${out} cannot be resumed: ${end.stderr || end.stdout}`);
    report.kills++;
    const names = existsSync(directory) ? readdirSync(directory) : undefined;
    const half = names?.filter((name) => /\.(tmp|old)-/.test(name)) ?? [];
    const checkpoints = names?.filter((name) => /^checkpoint-\d+$/.test(name)) ?? [];
    if (!names) report.beforeDirectory++;
    else if (checkpoints.length === 0) report.beforeCheckpoint++;
    if (half.length > 0) report.midWrite++;
    const when = `${delay.toFixed(0)} ms after ${atStart ? "its start" : "it had loaded"}`;
    log(`kill ${report.kills}: ${when}; ${[...checkpoints, ...half].join(", ") || "nothing written"}`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [kills = 50, seed = 1] = process.argv.slice(2).map(Number);
  const directory = mkdtempSync(join(tmpdir(), "valuehead-kill-"));
  try {
    const report = await killTest({ root: process.cwd(), directory, steps: 60 }, kills, seed, console.log);
    console.log(JSON.stringify(report));
    if (report.differences.length > 0) process.exitCode = 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
