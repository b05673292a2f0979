/** @file Statistics, memory, the machine, and the table: what benchmarks share. */
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";

export interface Timing {
  /** Of each round, in order. */
  seconds: number[];
  median: number;
  min: number;
  max: number;
  /** The highest of the rounds. */
  peakBytes: number;
}

export interface Comparison {
  name: string;
  valuehead: Timing;
  torch: Timing;
  /** Median of valuehead over median of PyTorch: below 1, valuehead is faster. */
  ratio: number;
}

export function timing(runs: readonly { seconds: number; rss: number }[]): Timing {
  const seconds = runs.map((r) => r.seconds);
  const sorted = [...seconds].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  const peakBytes = Math.max(...runs.map((r) => r.rss));
  return { seconds, median, min: sorted[0], max: sorted[sorted.length - 1], peakBytes };
}

/** From here on {@link peakBytes} counts anew. On Linux; elsewhere the peak is that of the whole process. */
export function resetPeak(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // not Linux
  }
}

export function peakBytes(): number {
  try {
    const kilobytes = /VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    if (kilobytes !== undefined) return Number(kilobytes) * 1024;
  } catch {
    // not Linux
  }
  return process.resourceUsage().maxRSS * 1024;
}

/** CPU seconds of this process so far, all threads. */
export function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

export function machine() {
  return {
    cpu: os.cpus()[0]?.model ?? "unknown",
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

export function table(cases: readonly Comparison[]): string {
  const time = (t: Timing) => `${t.median.toFixed(3)} (${t.min.toFixed(3)}-${t.max.toFixed(3)})`;
  const memory = (t: Timing) => `${(t.peakBytes / 1e9).toFixed(2)} GB`;
  const rows = cases.map((c) => [
    c.name,
    time(c.valuehead),
    time(c.torch),
    c.ratio.toFixed(2),
    memory(c.valuehead),
    memory(c.torch),
  ]);
  const head = ["", "valuehead, s", "PyTorch, s", "ratio", "valuehead", "PyTorch"];
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
  const line = (cells: string[]) => `| ${cells.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [line(head), line(widths.map((w) => "-".repeat(w))), ...rows.map(line)].join("\n");
}
