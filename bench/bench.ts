/** @file `npm run bench`: every case, its peers and the limits of the machine, in one run; see README.md. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { allCases, type Case } from "./cases.ts";
import { type CurvePoint, curveSeconds, measureCurves } from "./curves.ts";
import { bestLimits, type LimitRuns, measureLimits } from "./limits.ts";
import { type CaseResult, killSides, measure, roundsOf } from "./measure.ts";
import { type BenchModel, type Checkpoint, openBenchModel, withAdapter, withOtherForms } from "./models.ts";
import { curvesSvg } from "./plot.ts";
import { type Limits, machine, phaseTable, type Row, table } from "./report.ts";
import { measureStartup, type StartupResult, startupRows } from "./startup.ts";

const CACHE = ".cache/bench/models";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    /** Of the cases whose rounds take minutes. */
    "long-rounds": { type: "string", default: "2" },
    threads: { type: "string", default: "2" },
    layers: { type: "string", default: "12,6" },
    only: { type: "string" },
    out: { type: "string" },
    /** The .json of a run that was interrupted: what it lacks is measured. */
    resume: { type: "string" },
    /** Names of the cases, and nothing else. */
    list: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
  },
});
const rounds = flags.quick ? 1 : wholeNumber("--rounds", flags.rounds);
const longRounds = flags.quick ? 1 : wholeNumber("--long-rounds", flags["long-rounds"]);
const threads = wholeNumber("--threads", flags.threads);
const layers = flags.layers.split(",").map((n) => wholeNumber("--layers", n));
const wanted = flags.only?.split(",");
const isWhole = !flags.quick && !wanted && flags.layers === "12,6";
const earlier = flags.resume === undefined ? undefined : (JSON.parse(readFileSync(flags.resume, "utf8")) as Result);
const date = earlier?.date ?? new Date().toISOString();
const path =
  flags.resume?.replace(/\.json$/, "") ??
  `${flags.out ?? (isWhole ? "bench/results/bench" : ".cache/bench/results/try")}-${date.slice(0, 10)}`;

const models: BenchModel[] = [];
if (flags.quick) {
  const sizes = { nEmbd: 32, nHead: 2, vocabSize: 300 };
  models.push(await openBenchModel(1, undefined, CACHE, sizes));
} else for (const n of layers) models.push(await openBenchModel(n, process.env.VALUEHEAD_GPT2, CACHE));

/** Made where a case of them is asked for. */
if (!flags.list && (!wanted || wanted.some((text) => /sample|alone/i.test(text))))
  models[0] = await withOtherForms(models[0], CACHE);
else if (flags.list) models[0] = { ...models[0], exported: "", gguf: "" };
const adapted: Checkpoint[] = [];
/** The same of the instruct model: an adapter, one on a base in int8, and all weights. */
const instruct: Checkpoint[] = [];
if (!wanted || wanted.some((text) => /lora/i.test(text))) {
  adapted.push(await withAdapter(models[0], CACHE));
  const real = process.env.VALUEHEAD_SMOLLM2;
  if (real && !flags.quick) {
    const smol = { directory: real, name: "SmolLM2-135M" };
    adapted.push(await withAdapter(smol, CACHE));
    const larger = await withAdapter(smol, CACHE, 16);
    const rounded = { ...larger, name: `${larger.name}, base in int8`, basePrecision: "int8" as const };
    instruct.push(larger, rounded, { ...smol, vocabSize: larger.vocabSize });
  }
}

const isWanted = (name: string, model = "") =>
  !wanted || wanted.some((text) => `${name} ${model}`.toLowerCase().includes(text.toLowerCase()));
const cases = allCases(models, adapted, instruct).filter((c) => isWanted(c.name, c.model?.name));

const settings = {
  threads,
  rounds,
  longRounds,
  models: models.map((m) => m.name),
  waitPolicy: process.env.OMP_WAIT_POLICY ?? "PASSIVE",
};
const host = machine();
if (earlier) checkResumed(earlier);
const versions: Record<string, unknown> = earlier?.versions ?? {};
const limitRuns: LimitRuns = earlier?.limits.runs ?? { sgemm: [], copy: [], read: [] };
const results: CaseResult[] = (earlier?.cases ?? []).filter(isComplete);
/** When each part of the run began: more than one if it was interrupted. */
const sittings = [...(earlier?.sittings ?? []), new Date().toISOString()];
let startup: StartupResult | undefined = earlier?.startup;
let curves: CurvePoint[] | undefined = earlier?.curves;
let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    interrupted = true;
    killSides();
  });

if (flags.list) {
  for (const c of allCases(models, adapted, instruct)) console.log(`${c.name} ${c.model?.name ?? ""}`);
  console.log("startup\ncurves");
} else process.exitCode = await main();

/** What a run writes. */
interface Result {
  date: string;
  sittings: string[];
  machine: ReturnType<typeof machine>;
  versions: Record<string, unknown>;
  settings: typeof settings;
  limits: { best?: Limits; runs: LimitRuns };
  rows: Row[];
  startup?: StartupResult;
  curves?: CurvePoint[];
  cases: CaseResult[];
}

/** Rounds of one run are compared with each other: they have one machine and one way of measuring. */
function checkResumed({ machine: { cpu, cores }, settings: before }: Result): void {
  const [here, there] = [
    { cpu: host.cpu, cores: host.cores, ...settings },
    { cpu, cores, ...before },
  ].map((facts) => JSON.stringify(facts));
  if (here !== there) throw new Error(`--resume: found ${there} in ${flags.resume}, expected ${here}: begin a new run`);
}

/** Every side was there, or could not do it. */
function isComplete({ problem, results }: CaseResult): boolean {
  return !problem && Object.values(results).every((r) => typeof r === "object" || r.startsWith("skipped"));
}

function isDone(c: Case): boolean {
  return results.some((r) => r.name === c.name && r.model === c.model?.name);
}

/** About how many minutes the rest takes on two cores: a Sapphire Rapids, and a Zen 4 in a slow hour. */
function estimatedMinutes(): string {
  const open = cases.filter((c) => !isDone(c));
  // A case: its sides begin, a warm-up and the comparison of numbers, the rounds.
  const ofCase = (c: Case) => 10 + c.seconds * (roundsOf(c, { rounds, longRounds }) + (c.warmUp ? 0.3 : 1.3));
  const seconds = [
    ...open.map(ofCase),
    30, // limits
    wantsStartup() ? 36 * rounds : 0,
    wantsCurves() ? curveSeconds(flags.quick ? "small" : "full") : 0,
  ];
  const minutes = seconds.reduce((a, b) => a + b) / 60;
  return `${Math.ceil(minutes)} to ${Math.ceil(1.35 * minutes)}`;
}

function wantsStartup(): boolean {
  return isWanted("startup") && !flags.quick && !startup;
}

function wantsCurves(): boolean {
  return isWanted("curves") && !curves;
}

async function main(): Promise<number> {
  console.log(
    `${host.cpu}, ${host.cores} cores, ${(host.memoryBytes / 1e9).toFixed(0)} GB; about ${estimatedMinutes()} minutes`,
  );
  for (const { name, model } of earlier ? results : []) console.error(`${name} ${model ?? ""}: measured before`);
  if (host.loadAverage > 0.3)
    console.log(
      `The load average is ${host.loadAverage.toFixed(2)}: something else may be running. Times will be off.`,
    );
  await tryLimits();
  if (wantsStartup()) {
    console.error("startup ...");
    try {
      startup = await measureStartup(2 * rounds, threads, models[0]);
    } catch (error) {
      console.error(`  ${(error as Error).message}`);
    }
    save();
  }
  for (const c of cases) {
    if (interrupted) break;
    if (isDone(c)) continue;
    const start = performance.now();
    console.error(`${c.name} ${c.model?.name ?? ""} ...`);
    const result = await measure(c, { threads, rounds, longRounds }, versions);
    if (interrupted) break; // half a case is none
    results.push(result);
    say(result, (performance.now() - start) / 1000);
    save();
  }
  if (!interrupted && wantsCurves()) await tryCurves();
  if (!interrupted) await tryLimits();
  save();
  console.log(`\n${tables()}\n\n${path}.json, ${path}.md`);
  if (interrupted) {
    console.log(`\nThe rest: npm run bench -- --resume ${path}.json, with the same options`);
    return 130;
  }
  return results.some((r) => r.problem) ? 1 : 0;
}

/** Without numpy there are no limits, and no shares of them. */
async function tryLimits(): Promise<void> {
  console.error("limits ...");
  try {
    await measureLimits(limitRuns, threads, versions);
  } catch (error) {
    console.error(`  missing: ${(error as Error).message}`);
  }
}

async function tryCurves(): Promise<void> {
  console.error("curves ...");
  try {
    curves = await measureCurves(threads, flags.quick ? "small" : "full");
  } catch (error) {
    console.error(`  ${(error as Error).message}`);
  }
}

function say(result: CaseResult, seconds: number): void {
  const missing = Object.entries(result.results).filter(([, r]) => typeof r === "string");
  const idle = Object.entries(result.idleCpuSeconds).map(([side, s]) => `${side} ${s.toFixed(2)} s`);
  for (const [label, why] of missing) console.error(`  ${label}: ${why}`);
  if (result.problem) console.error(`  ${result.problem}`);
  else if (result.difference !== undefined)
    console.error(`  the sides differ by ${result.difference.toExponential(1)}`);
  console.error(`  ${seconds.toFixed(0)} s in all; CPU while another side ran: ${idle.join(", ")}`);
}

function allRows(): Row[] {
  const limits = bestLimits(limitRuns);
  const rowsOf = (c: Case) => {
    const found = results.find((r) => r.name === c.name && r.model === c.model?.name);
    const rows = found ? c.rows(found.results, limits) : [];
    return found?.problem ? rows.map((row) => ({ ...row, met: undefined, missing: found.problem })) : rows;
  };
  return [...(startup ? startupRows(startup) : []), ...cases.flatMap(rowsOf)];
}

function tables(): string {
  const phases = results.map((r) => phaseTable([r.name, r.model].filter(Boolean).join(", "), r.results));
  return [table(allRows()), ...phases].filter((t) => t !== "").join("\n\n");
}

/** After every case: what there is is kept, whatever happens next. */
function save(): void {
  const rows = allRows();
  const limits = { best: bestLimits(limitRuns), runs: limitRuns };
  const measured = { limits, rows, startup, curves, cases: results };
  const result: Result = { date, sittings, machine: host, versions, settings, ...measured };
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.json`, `${JSON.stringify(result, null, 2)}\n`);
  const about = `${host.cpu}, ${host.cores} cores, ${threads} threads, ${rounds} rounds; ${date.slice(0, 10)}`;
  writeFileSync(`${path}.md`, `${about}\n\n${tables()}\n`);
  if (curves && limits.best) writeFileSync(`${path}-curves.svg`, curvesSvg(curves, limits.best, about));
}

function wholeNumber(name: string, text: string): number {
  const n = Number(text);
  if (!(Number.isInteger(n) && n >= 1)) throw new Error(`${name}: found ${text}, expected a whole number from 1`);
  return n;
}
