/** @file Statistics, the machine, rows of the result and the table they make. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import type { Answer } from "./side.ts";

export interface Timing {
  /** Of each round, in order. */
  seconds: number[];
  median: number;
  min: number;
  max: number;
  /** The highest resident memory of the rounds. */
  peakBytes: number;
}

export function timing(runs: readonly Pick<Answer, "seconds" | "rss">[]): Timing {
  const seconds = runs.map((r) => r.seconds);
  const sorted = [...seconds].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  const peakBytes = Math.max(...runs.map((r) => r.rss));
  return { seconds, median, min: sorted[0], max: sorted[sorted.length - 1], peakBytes };
}

/** One side of one case. */
export interface Measured extends Timing {
  /** What the last round found besides: TRL's times, the number of optimizer steps. */
  findings: Record<string, unknown>;
}

/** What the machine can do: the best of all rounds. */
export interface Limits {
  /** FLOP/s of a large square product in OpenBLAS. */
  sgemm: number;
  /** Bytes/s of a large copy, read and written. */
  copy: number;
  /** Bytes/s of reading a large array once. */
  read: number;
}

export interface Target {
  atLeast?: number;
  atMost?: number;
  unit: "x" | "%" | "s";
}

/** One line of the table: what we measured against what, and whether that meets the issue's target. */
export interface Row {
  work: string;
  model: string;
  ours: string;
  against: string;
  theirs: string;
  /** Above 1 is better for us, but for memory and seconds, where a target says "<=" or "<". */
  ratio?: number;
  target?: string;
  met?: boolean;
  /** Why there is no ratio: which side is missing. */
  missing?: string;
}

export const showSeconds = (t: Timing) => `${t.median.toFixed(3)} s (${t.min.toFixed(3)}-${t.max.toFixed(3)})`;
export const showBytes = (t: Timing) => `${(t.peakBytes / 1e9).toFixed(2)} GB`;

/** The ratio and whether it meets the target. */
export function judged(ratio: number, target?: Target): Pick<Row, "ratio" | "target" | "met"> {
  if (!target) return { ratio };
  const { atLeast, atMost, unit } = target;
  const bound = atLeast ?? (atMost as number);
  const number = unit === "%" ? `${bound * 100} %` : `${bound}${unit === "x" ? "x" : " s"}`;
  if (atLeast !== undefined) return { ratio, target: `>= ${number}`, met: ratio >= bound };
  if (unit === "s") return { ratio, target: `< ${number}`, met: ratio < bound };
  return { ratio, target: `<= ${number}`, met: ratio <= bound };
}

/** Of x86 processors by family and model, whose own name may say no more than the maker's: what they are called. */
const GENERATIONS: Readonly<Record<string, string>> = {
  "6/85": "Skylake or Cascade Lake",
  "6/106": "Ice Lake",
  "6/143": "Sapphire Rapids",
  "6/207": "Emerald Rapids",
  "6/173": "Granite Rapids",
  "23/49": "Zen 2",
  "25/1": "Zen 3",
  "25/17": "Zen 4",
  "26/2": "Zen 5",
};

/** The processor's name, with its generation where /proc/cpuinfo tells. */
export function processorName(name: string, cpuinfo: string): string {
  const field = (key: string) => new RegExp(`^${key}\\s*:\\s*(\\d+)`, "m").exec(cpuinfo)?.[1];
  const [family, model] = [field("cpu family"), field("model")];
  if (family === undefined || model === undefined) return name;
  return `${name} (${GENERATIONS[`${family}/${model}`] ?? `family ${family}, model ${model}`})`;
}

function readCpuinfo(): string {
  try {
    return readFileSync("/proc/cpuinfo", "utf8");
  } catch {
    return ""; // not Linux
  }
}

export function machine() {
  return {
    cpu: processorName(os.cpus()[0]?.model ?? "unknown", readCpuinfo()),
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    platform: `${os.platform()} ${os.arch()}`,
    /** Of the minute before: near 0 on a machine that does nothing else. */
    loadAverage: os.loadavg()[0],
  };
}

export function engineVersions() {
  const require = createRequire(import.meta.url);
  return { node: process.versions.node, onnxruntime: require("onnxruntime-node/package.json").version as string };
}

export function table(rows: readonly Row[]): string {
  const cells = rows.map((r) => [
    r.work,
    r.model,
    r.ours,
    r.against,
    r.missing ?? r.theirs,
    r.ratio?.toFixed(2) ?? "",
    r.target ?? "",
    r.met === undefined ? "" : r.met ? "yes" : "no",
  ]);
  return lines(["work", "model", "valuehead", "against", "theirs", "ratio", "target", "met"], cells);
}

/** Where the time of a step goes, by the names TRL and we both report; seconds of the last round. Empty if nobody reported. */
export function phaseTable(work: string, sides: Readonly<Record<string, Measured | string>>): string {
  const there = Object.entries(sides).flatMap(([label, m]) =>
    typeof m === "object" && m.findings.times ? [{ label, times: m.findings.times as Record<string, number> }] : [],
  );
  const names = [...new Set(there.flatMap(({ times }) => Object.keys(times)))].sort();
  if (names.length === 0) return "";
  const cells = names.map((name) => [name, ...there.map(({ times }) => times[name]?.toFixed(3) ?? "")]);
  return lines([`${work}, s`, ...there.map(({ label }) => label)], cells);
}

function lines(head: string[], cells: string[][]): string {
  const widths = head.map((_, i) => Math.max(...[head, ...cells].map((row) => row[i].length)));
  const line = (row: string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [line(head), line(widths.map((w) => "-".repeat(w))), ...cells.map(line)].join("\n");
}
