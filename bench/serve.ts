/** @file What sides in JavaScript share: the loop that answers, the clock, the peak of memory. Python's is peers/serve.py. */
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Answer, Command } from "./side.ts";

/** Times what is between `start` and `stop`; a second use replaces the first. */
export class Clock {
  seconds = 0;
  #start = 0;

  start(): void {
    globalThis.gc?.();
    resetPeak();
    this.#start = performance.now();
  }

  stop(): void {
    this.seconds = (performance.now() - this.#start) / 1000;
  }
}

/** Prepares, does its work while the clock runs, and gives what it found. */
export type Run = (command: Command, clock: Clock) => Promise<Partial<Answer>>;

/** Answers every line of stdin, until it ends. What libraries print goes to stderr. */
export async function serve(about: object, runs: Readonly<Record<string, Run>>): Promise<void> {
  console.log = console.error;
  const say = (answer: object) => process.stdout.write(`${JSON.stringify(answer)}\n`);
  say(about);
  let cpu = cpuSeconds();
  for await (const line of createInterface({ input: process.stdin })) {
    const idle = cpuSeconds() - cpu;
    const command = JSON.parse(line) as Command;
    const clock = new Clock();
    const found = await runs[command.run](command, clock);
    say({ numbers: [], ...found, seconds: clock.seconds, rss: peakBytes(), idle });
    globalThis.gc?.();
    cpu = cpuSeconds();
  }
}

/** From here on {@link peakBytes} counts anew. On Linux; elsewhere the peak is that of the whole process. */
function resetPeak(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // not Linux
  }
}

function peakBytes(): number {
  try {
    const kilobytes = /VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    if (kilobytes !== undefined) return Number(kilobytes) * 1024;
  } catch {
    // not Linux
  }
  return process.resourceUsage().maxRSS * 1024;
}

/** CPU seconds of this process so far, all threads. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
