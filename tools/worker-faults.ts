/**
 * @file Runs whose workers, trainer, server and connections fail at random moments end with the weights of one that nothing happened to, and
 * count nothing twice. `npm run worker-faults` makes 100 faults over several runs; `npm run worker-faults -- 20 7` makes 20 with seed 7, and
 * `-- 20 7 ahead` the same in those kinds of runs whose name has that in it. It needs nats-server.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { RNG } from "../src/base/rng.ts";
import { differences, type SmallRun, startRun, wholeRun } from "./small-run.ts";

/** What can happen. */
const FAULTS = ["kill worker", "stop worker", "kill trainer", "restart server", "drop connections"] as const;
type Fault = (typeof FAULTS)[number];
/** How often each does, of 10: without its trainer nothing of a run goes on. */
const OFTEN = [3, 3, 1, 1, 2];
const DRAWN = FAULTS.flatMap((fault, i) => new Array<Fault>(OFTEN[i]).fill(fault));

/** Flags of a run, and those that it has where there are workers. */
const KINDS: Readonly<Record<string, { flags: readonly string[]; workers?: readonly string[] }>> = {
  plain: { flags: [] },
  adapter: { flags: ["--lora", "4"] },
  GRPO: { flags: ["--algorithm", "grpo", "--num-generations", "2"] },
  "RLOO, int8 rollouts": { flags: ["--algorithm", "rloo", "--num-generations", "2", "--rollout-precision", "int8"] },
  "an adapter, gradients by workers": {
    flags: ["--lora", "4", "--micro-batch-size", "1"],
    workers: ["--worker-gradients", "always"],
  },
  "drawn ahead": { flags: ["--async", "1"] },
  "GRPO, drawn two steps ahead": { flags: ["--algorithm", "grpo", "--num-generations", "2", "--async", "2"] },
};

export interface FaultReport {
  faults: Record<Fault, number>;
  runs: number;
  /** Steps that workers took part in, and parts of them that the trainer did itself. */
  steps: number;
  here: number;
  /** Results that came twice or too late, and were not used. */
  late: number;
  /** Responses of a step that were counted more or less than once. */
  miscounted: number;
  differences: string[];
}

/** Seconds after which a silent worker is taken for lost. */
const TIMEOUT = 2;
const WORKERS = 3;
/** Faults of a run at most: on a slow machine they would otherwise all happen in its first steps. */
const PER_RUN = 15;
/** Responses of a step, and of a part. */
const [STEP, PART] = [8, 2];

/** Half a tenth of a second a response. */
const REWARD = `export default async (batch) => {
  await new Promise((resolve) => setTimeout(resolve, 50 * batch.length));
  return batch.map(({ tokens }) => (tokens[0] % 7) / 7);
};
`;

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
const gone = (child: ChildProcess) =>
  new Promise<{ status: number | null; signal: string | null }>((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null)
      return resolve({ status: child.exitCode, signal: child.signalCode });
    child.once("exit", (status, signal) => resolve({ status, signal }));
  });

/** A server, and a way to it that can be cut. */
class Net {
  readonly #store: string;
  #server?: ChildProcess;
  #proxy?: Server;
  readonly #sockets = new Set<Socket>();
  port = 0;
  readonly #own: number;

  constructor(store: string, port: number) {
    this.#store = store;
    this.#own = port;
  }

  async start(): Promise<void> {
    this.#server = spawn("nats-server", ["-js", "-a", "127.0.0.1", "-p", String(this.#own), "-sd", this.#store], {
      stdio: "ignore",
    });
    if (!this.#proxy) {
      const proxy = createServer((client) => {
        const server = createConnection(this.#own, "127.0.0.1");
        for (const [from, to] of [
          [client, server],
          [server, client],
        ]) {
          this.#sockets.add(from);
          from.on("error", () => to.destroy());
          from.on("close", () => {
            this.#sockets.delete(from);
            to.destroy();
          });
          from.pipe(to);
        }
      });
      await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
      this.port = (proxy.address() as { port: number }).port;
      this.#proxy = proxy;
    }
    await pause(500);
  }

  async restart(ms: number): Promise<void> {
    if (!this.#server) return;
    this.#server.kill("SIGKILL");
    await gone(this.#server);
    await pause(ms);
    await this.start();
  }

  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.#proxy?.close();
    this.drop();
    if (!this.#server) return;
    this.#server.kill("SIGKILL");
    await gone(this.#server);
  }
}

interface StepEvent {
  type: string;
  here?: number;
  workers?: { responses: number; late: number }[];
}

/**
 * Runs with faults, one after another, until there were so many.
 * @throws a run that cannot be resumed, or a worker that ends by itself
 */
export async function faultTest(
  run: SmallRun,
  faults: number,
  seed: number,
  log: (line: string) => void = () => {},
  kinds: readonly string[] = Object.keys(KINDS),
): Promise<FaultReport> {
  const rng = new RNG(seed);
  const zero = Object.fromEntries(FAULTS.map((fault) => [fault, 0])) as Record<Fault, number>;
  const report: FaultReport = { faults: zero, runs: 0, steps: 0, here: 0, late: 0, miscounted: 0, differences: [] };
  const count = () => Object.values(report.faults).reduce((a, b) => a + b, 0);
  const net = new Net(join(run.directory, "store"), 20_000 + rng.int(20_000));
  await net.start();
  try {
    while (count() < faults) {
      const kind = kinds[report.runs % kinds.length];
      const { flags: own, workers = [] } = KINDS[kind];
      const flags = [...own, "--reward", "./slow.mjs", "--rollout-batch-size", String(PART), "--no-eval"];
      const whole = `whole, ${kind}`;
      if (!existsSync(join(run.directory, whole))) {
        await wholeRunWith(run, flags, whole);
        log(`${whole}: done`);
      }
      const out = `faults-${report.runs}`;
      await oneRun({ run, out, flags: [...flags, ...workers], net, rng, report, left: allowance(count, faults), log });
      report.runs++;
      const found = differences(join(run.directory, whole), join(run.directory, out));
      report.differences.push(...found.map((name) => `${out}/${name}`));
      log(`${out} (${kind}) is done after ${count()} faults in all; differs in ${found.join(", ") || "nothing"}`);
      if (found.length === 0) rmSync(join(run.directory, out), { recursive: true });
    }
  } finally {
    await net.close();
  }
  return report;
}

/** How many faults a run that begins now may still meet. */
function allowance(count: () => number, faults: number): () => number {
  const limit = Math.min(faults, count() + PER_RUN);
  return () => limit - count();
}

async function wholeRunWith(run: SmallRun, flags: readonly string[], out: string): Promise<void> {
  writeFileSync(join(run.directory, "slow.mjs"), REWARD);
  await wholeRun(run, flags, out);
}

interface Going {
  run: SmallRun;
  out: string;
  flags: readonly string[];
  net: Net;
  rng: RNG;
  report: FaultReport;
  left(): number;
  log: (line: string) => void;
}

async function oneRun({ run, out, flags, net, rng, report, left, log }: Going): Promise<void> {
  const url = `nats://127.0.0.1:${net.port}`;
  const startWorker = () =>
    spawn(
      process.execPath,
      [join(run.root, "bin", "valuehead.js"), "worker", "--server", url, "--reward", "./slow.mjs"],
      {
        cwd: run.directory,
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, VALUEHEAD_CACHE: join(run.directory, "cache") },
      },
    );
  const workers = Array.from({ length: WORKERS }, startWorker);
  const startTrainer = () => {
    const there = existsSync(join(run.directory, out));
    const asked = [...flags, "--workers", url, "--worker-timeout", String(TIMEOUT), ...(there ? ["--resume"] : [])];
    const child = startRun(run, out, asked);
    listen(child, report);
    return child;
  };
  let trainer = startTrainer();
  let over = false;
  const inject = async () => {
    while (!over && left() > 0) {
      await pause(300 + rng.uniform() * 2500);
      if (over) return;
      const fault = DRAWN[rng.int(DRAWN.length)];
      const i = rng.int(WORKERS);
      report.faults[fault]++;
      log(`${out}: ${fault}${fault.endsWith("worker") ? ` ${i}` : ""}`);
      if (fault === "kill worker") {
        workers[i].kill("SIGKILL");
        await gone(workers[i]);
        workers[i] = startWorker();
      } else if (fault === "stop worker") {
        const stopped = workers[i];
        stopped.kill("SIGSTOP");
        setTimeout(() => stopped.kill("SIGCONT"), 1000 * TIMEOUT * (1.5 + rng.uniform()));
      } else if (fault === "kill trainer") trainer.kill("SIGKILL");
      else if (fault === "restart server") await net.restart(rng.uniform() * 3000);
      else net.drop();
    }
  };
  const injecting = inject();
  try {
    for (;;) {
      const stderr: Buffer[] = [];
      trainer.stderr?.on("data", (piece) => stderr.push(piece));
      const { status, signal } = await gone(trainer);
      if (status === 0) break;
      const text = Buffer.concat(stderr).toString();
      // A trainer that begins while the server is away says so and ends: whoever started it tries again.
      if (signal !== "SIGKILL" && !text.includes("no connection")) throw new Error(`${out} cannot be resumed: ${text}`);
      if (signal !== "SIGKILL") await pause(500);
      trainer = startTrainer();
    }
  } finally {
    over = true;
    await injecting;
    trainer.kill("SIGKILL");
    for (const worker of workers) worker.kill("SIGKILL");
    await Promise.all(workers.map(gone));
  }
}

/** Count what a trainer says of its workers. */
function listen(trainer: ChildProcess, report: FaultReport): void {
  let rest = "";
  let [responses, late] = [0, 0];
  trainer.stdout?.on("data", (piece) => {
    const lines = (rest + piece).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith('{"type":"workers"')) continue;
      const { here = 0, workers = [] } = JSON.parse(line) as StepEvent;
      const sum = (name: "responses" | "late") => workers.reduce((n, worker) => n + worker[name], 0);
      report.steps++;
      report.here += here;
      report.late += sum("late") - late;
      if (sum("responses") - responses + PART * here !== STEP) report.miscounted++;
      responses = sum("responses");
      late = sum("late");
    }
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [faults = 100, seed = 1] = process.argv.slice(2, 4).map(Number);
  const kinds = Object.keys(KINDS).filter((kind) => kind.includes(process.argv[4] ?? ""));
  const directory = mkdtempSync(join(tmpdir(), "valuehead-faults-"));
  try {
    const report = await faultTest({ root: process.cwd(), directory, steps: 15 }, faults, seed, console.log, kinds);
    console.log(JSON.stringify(report));
    if (report.differences.length > 0 || report.miscounted > 0) process.exitCode = 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
