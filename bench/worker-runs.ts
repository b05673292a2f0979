/** @file Runs of the command line with workers as processes of their own, and when their steps ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { loadavg } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** What all runs of a comparison share. */
export interface Shape {
  /** Responses of a step, and of a part: the reward takes its time for one response after another. */
  responses: number;
  part: number;
  tokens: number;
  steps: number;
  /** Milliseconds of the reward for a response. */
  reward: number;
  /** Rank of an adapter; 0: all weights are trained. */
  lora: number;
}

export const SHAPE: Shape = { responses: 64, part: 8, tokens: 8, steps: 5, reward: 50, lora: 0 };

/** Where processes run: a prefix of their command lines, and the address of the server as they see it. */
export interface Place {
  prefix: readonly string[];
  server: string;
}

export interface Measured {
  /** Without --workers: undefined. */
  workers?: number;
  /** Of the weights at the end. */
  sha256: string;
  /** Seconds of each step that counts: not the first, and with workers only those that all of them took part in and nobody else. */
  seconds: number[];
  /** Of all other steps. */
  others: number[];
  /** The trainer's own times, of each step that counts. */
  times: Record<string, number>[];
  /** Seconds of a part on a worker, the mean: all of it, and what it computed or waited for weights. */
  task?: { seconds: number; busy: number };
  /** Of the machine when the run ended: the mean of the last minute. */
  load: number;
}

const CLI = join(process.cwd(), "bin", "valuehead.js");
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export async function stopped(child: ChildProcess, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await gone;
}

export const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

/** @returns how to end it */
export async function startServer(
  directory: string,
  port: number,
  prefix: readonly string[] = [],
  address = "127.0.0.1",
) {
  const [program, ...args] = [...prefix, "nats-server", "-js", "-a", address, "-p", String(port), "-sd", directory];
  const child = spawn(program, args, { stdio: "ignore" });
  await new Promise<void>((resolve, reject) => {
    child.once("error", () => reject(new Error("nats-server is not installed: apt-get install nats-server")));
    child.once("spawn", () => resolve());
  });
  await pause(1000);
  return () => stopped(child, "SIGKILL");
}

/** The slow reward, as a module in `directory`. */
export function writeReward(directory: string, { reward }: Shape): string {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `reward-${reward}.mjs`);
  writeFileSync(
    path,
    `export default async (batch) => {
  await new Promise((resolve) => setTimeout(resolve, ${reward} * batch.length));
  return batch.map(({ tokens }) => (tokens[0] % 7) / 7);
};
`,
  );
  return path;
}

const start = ({ prefix }: Pick<Place, "prefix">, directory: string, args: readonly string[]): ChildProcess => {
  const [program, ...rest] = [...prefix, process.execPath, CLI, ...args];
  const env = { ...process.env, VALUEHEAD_CACHE: join(directory, "cache"), HF_HUB_OFFLINE: "1" };
  return spawn(program, rest, { cwd: directory, env, stdio: ["ignore", "pipe", "pipe"] });
};

/** Workers that wait for a run. */
async function startWorkers(count: number, place: Place, directory: string, reward: string): Promise<ChildProcess[]> {
  const args = ["worker", "--server", place.server, "--reward", reward, "--quiet"];
  const workers = Array.from({ length: count }, () => start(place, directory, args));
  const waits = (child: ChildProcess) =>
    new Promise<void>((resolve, reject) => {
      let text = "";
      child.stderr?.on("data", (piece) => {
        text += piece;
        if (text.includes("waiting for a run")) resolve();
      });
      child.stdout?.resume();
      child.once("exit", () => reject(new Error(`a worker ended: ${text}`)));
    });
  await Promise.all(workers.map(waits));
  return workers;
}

interface StepEvent {
  type: string;
  step?: number;
  here?: number;
  metrics?: Record<string, number>;
  workers?: { state: string; tasks: number; seconds: number; busy: number }[];
}

/**
 * One run.
 * @param workers undefined: without --workers
 */
export async function measuredRun(
  shape: Shape,
  workers: number | undefined,
  directory: string,
  places: { trainer: Place; worker: Place },
): Promise<Measured> {
  const reward = writeReward(directory, shape);
  const out = join(directory, "run");
  rmSync(out, { recursive: true, force: true });
  const processes = await startWorkers(workers ?? 0, places.worker, directory, reward);
  const flags = [
    ...["--prompts", join(process.cwd(), "models/tiny/prompts.txt"), "--reward", reward, "--out", out, "--json"],
    ...["--batch-size", shape.responses, "--mini-batch-size", shape.responses, "--rollout-batch-size", shape.part],
    ...["--max-new-tokens", shape.tokens, "--steps", shape.steps, "--ppo-epochs", 1, "--reward-concurrency", 1],
    ...["--save-every", 0, "--no-eval", "--threads", 1],
    ...(shape.lora > 0 ? ["--lora", shape.lora] : []),
    ...(workers === undefined ? [] : ["--workers", places.trainer.server]),
  ].map(String);
  try {
    const trainer = start(places.trainer, directory, ["train", ...flags]);
    const result = await watch(trainer, shape, workers);
    const weights = join(
      out,
      `checkpoint-${shape.steps}`,
      shape.lora > 0 ? "adapter_model.safetensors" : "model.safetensors",
    );
    const sha256 = createHash("sha256").update(readFileSync(weights)).digest("hex");
    return { ...(workers !== undefined && { workers }), sha256, ...result, load: loadavg()[0] };
  } finally {
    await Promise.all(processes.map((child) => stopped(child)));
  }
}

async function watch(trainer: ChildProcess, { steps, responses, part }: Shape, workers?: number) {
  const found: Pick<Measured, "seconds" | "others" | "times"> = { seconds: [], others: [], times: [] };
  let errors = "";
  trainer.stderr?.on("data", (piece) => {
    errors += piece;
  });
  const status = new Promise<number | null>((resolve) => trainer.once("exit", resolve));
  const parts = Math.ceil(responses / part);
  let [before, counts] = [performance.now(), false];
  let facts: NonNullable<StepEvent["workers"]> = [];
  const since = { tasks: 0, seconds: 0, busy: 0 };
  for await (const line of createInterface({ input: trainer.stdout as NodeJS.ReadableStream })) {
    const event = JSON.parse(line) as StepEvent;
    if (event.type === "workers" && event.workers) {
      const did = (i: number, name: "tasks" | "seconds" | "busy") =>
        (event.workers?.[i][name] ?? 0) - (facts[i]?.[name] ?? 0);
      counts =
        event.here === 0 && event.workers.length === workers && event.workers.every((_, i) => did(i, "tasks") > 0);
      if (counts && event.workers.reduce((n, _, i) => n + did(i, "tasks"), 0) !== parts) counts = false;
      if (counts)
        for (const i of event.workers.keys())
          for (const name of ["tasks", "seconds", "busy"] as const) since[name] += did(i, name);
      facts = event.workers;
    }
    if (event.type !== "step") continue;
    const now = performance.now();
    const isCounted = workers ? counts && event.step !== 1 : event.step !== 1;
    found[isCounted ? "seconds" : "others"].push((now - before) / 1000);
    if (isCounted) {
      const times = Object.entries(event.metrics ?? {}).filter(([name]) => name.startsWith("time/"));
      found.times.push(Object.fromEntries(times));
    }
    [before, counts] = [now, false];
  }
  if ((await status) !== 0) throw new Error(`a run of ${steps} steps failed: ${errors}`);
  const { tasks } = since;
  return { ...found, ...(tasks > 0 && { task: { seconds: since.seconds / tasks, busy: since.busy / tasks } }) };
}

export const median = (numbers: readonly number[]): number => {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};
