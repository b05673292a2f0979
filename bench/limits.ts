/** @file What the machine can do, by numpy: the largest rates any of our figures is held against. */
import { startSide, stopSide } from "./measure.ts";
import type { Limits } from "./report.ts";
import type { Command } from "./side.ts";

const BYTES = 1 << 29; // as much as the weights of GPT-2 124M
const REPEATS = 5;

const COMMANDS: readonly { limit: keyof Limits; amount: "flops" | "bytes"; command: Command }[] = [
  { limit: "sgemm", amount: "flops", command: { run: "sgemm", size: 4096 } },
  { limit: "copy", amount: "bytes", command: { run: "copy", bytes: BYTES } },
  { limit: "read", amount: "bytes", command: { run: "read", bytes: BYTES, by: "dot" } },
  { limit: "read", amount: "bytes", command: { run: "read", bytes: BYTES, by: "sum" } },
];

/** Every rate that was seen, per second. */
export type LimitRuns = Record<keyof Limits, number[]>;

/** Measures all of them, onto what was seen before. */
export async function measureLimits(
  runs: LimitRuns,
  threads: number,
  versions: Record<string, unknown>,
): Promise<void> {
  const side = await startSide("numpy", threads, []);
  try {
    versions.numpy = side.about;
    for (const { limit, amount, command } of COMMANDS) {
      await side.ask(command); // fresh memory is slow
      for (let i = 0; i < REPEATS; i++) {
        const answer = await side.ask(command);
        runs[limit].push((answer[amount] as number) / answer.seconds);
      }
    }
  } finally {
    await stopSide(side);
  }
}

/** The best of each; undefined before all were measured. */
export function bestLimits(runs: LimitRuns): Limits | undefined {
  const best = Object.entries(runs).map(([name, rates]) => [name, Math.max(...rates)] as const);
  return best.every(([, rate]) => Number.isFinite(rate)) ? (Object.fromEntries(best) as unknown as Limits) : undefined;
}
