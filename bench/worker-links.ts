/**
 * @file Workers behind a slow line: `npm run bench:links`, as root on Linux. Trainer and server are in one network namespace, the worker in another;
 * tc's token bucket limits the line between them, and a relay holds back what goes through it, for not every kernel has netem.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { machine } from "./report.ts";
import { type StepModel, simulateStep } from "./worker-model.ts";
import { measuredRun, median, SHAPE, type Shape, startServer, stopped } from "./worker-runs.ts";
import { stepModel, wayOfWeights } from "./workers.ts";

const [TRAINER, WORKER] = ["valuehead-trainer", "valuehead-worker"];
const [HERE, THERE] = ["10.77.0.1", "10.77.0.2"];
const [PORT, RELAY] = [4222, 4223];
const inside = (space: string) => ["ip", "netns", "exec", space];
const run = (command: string) => {
  const [program, ...args] = command.split(" ");
  execFileSync(program, args, { stdio: ["ignore", "ignore", "pipe"] });
};

/** Two namespaces with a line between them. @returns how to take them away */
function makeSpaces(): () => void {
  const remove = () => {
    for (const space of [TRAINER, WORKER])
      try {
        run(`ip netns del ${space}`);
      } catch {
        // it is not there
      }
  };
  remove();
  for (const space of [TRAINER, WORKER]) {
    run(`ip netns add ${space}`);
    run(`ip -n ${space} link set lo up`);
  }
  run(`ip -n ${TRAINER} link add vh0 type veth peer name vh1 netns ${WORKER}`);
  run(`ip -n ${TRAINER} addr add ${HERE}/24 dev vh0`);
  run(`ip -n ${WORKER} addr add ${THERE}/24 dev vh1`);
  run(`ip -n ${TRAINER} link set vh0 up`);
  run(`ip -n ${WORKER} link set vh1 up`);
  return remove;
}

/** Both directions of the line; undefined: as fast as it goes. */
function limit(mbit: number | undefined): void {
  for (const [space, device] of [
    [TRAINER, "vh0"],
    [WORKER, "vh1"],
  ]) {
    try {
      run(`tc -n ${space} qdisc del dev ${device} root`);
    } catch {
      // there was none
    }
    if (mbit !== undefined)
      run(`tc -n ${space} qdisc add dev ${device} root tbf rate ${mbit}mbit burst 64kb latency 100ms`);
  }
}

/** A relay in front of the server that hands everything on `ms` later, in each direction. */
function relay(ms: number, port: number, to: { host: string; port: number }): void {
  const late = (from: Socket, into: Socket) => {
    from.on("data", (bytes) => setTimeout(() => into.write(bytes), ms));
    from.on("close", () => setTimeout(() => into.destroy(), ms));
    from.on("error", () => into.destroy());
  };
  createServer((client) => {
    const server = createConnection(to);
    for (const socket of [client, server]) socket.setNoDelay(true);
    late(client, server);
    late(server, client);
  }).listen(port);
}

/** In the worker's namespace: the line is between relay and server. */
async function startRelay(ms: number): Promise<ChildProcess> {
  const [program, ...args] = [...inside(WORKER), process.execPath, process.argv[1], "--relay", String(ms)];
  const child = spawn(program, args, { stdio: "ignore" });
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return child;
}

const LINKS = [
  { mbit: 100, ms: 0 },
  { mbit: 50, ms: 10 },
  { mbit: 10, ms: 0 },
  { mbit: 100, ms: 25 },
] as const;
const KINDS: Readonly<Record<string, Shape>> = {
  "all weights": { ...SHAPE, steps: 3 },
  "an adapter of rank 8": { ...SHAPE, steps: 4, lora: 8 },
};

interface Line {
  kind: string;
  mbit: number;
  ms: number;
  measured: number;
  simulated: number;
  seconds: number[];
  load: number;
}

async function measureLinks(kinds: readonly string[], out: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "valuehead-links-"));
  const remove = makeSpaces();
  const stop = await startServer(join(directory, "store"), PORT, inside(TRAINER), "0.0.0.0");
  const host = machine();
  const lines: Line[] = [];
  const models: Record<string, Omit<StepModel, "workers">> = {};
  const trainer = { prefix: inside(TRAINER), server: `nats://127.0.0.1:${PORT}` };
  try {
    console.log(
      "| | Mbit/s | round trip, ms | a step, s | simulated, s | off by | load average |\n|---|---|---|---|---|---|---|",
    );
    for (const kind of kinds) {
      const shape = KINDS[kind];
      limit(undefined);
      const own = await startServer(join(directory, "own"), PORT);
      const way = await wayOfWeights(`nats://127.0.0.1:${PORT}`, shape.lora);
      await own();
      const alone = await measuredRun(shape, undefined, directory, { trainer, worker: trainer });
      models[kind] = stepModel(shape, [alone], way, host.cores);
      for (const { mbit, ms } of LINKS) {
        limit(mbit);
        const delay = await startRelay(ms);
        const worker = { prefix: inside(WORKER), server: `nats://127.0.0.1:${RELAY}` };
        const { seconds, sha256, load } = await measuredRun(shape, 1, directory, { trainer, worker });
        await stopped(delay);
        if (sha256 !== alone.sha256) throw new Error(`${kind} over ${mbit} Mbit/s ended with other weights`);
        const model = throttled(models[kind], mbit, ms);
        const [measured, simulated] = [median(seconds), simulateStep({ ...model, workers: 1 }).seconds];
        lines.push({ kind, mbit, ms, measured, simulated, seconds, load });
        const off = `${(100 * (simulated / measured - 1)).toFixed(0)} %`;
        console.log(
          `| ${kind} | ${mbit} | ${2 * ms} | ${measured.toFixed(2)} | ${simulated.toFixed(2)} | ${off} | ${load.toFixed(1)} |`,
        );
        writeFileSync(out, `${JSON.stringify({ date: new Date().toISOString(), machine: host, models, lines })}\n`);
      }
    }
  } finally {
    await stop();
    remove();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The worker's line, beside what its processor takes for the bytes. */
export function throttled(model: Omit<StepModel, "workers">, mbit: number, ms: number): Omit<StepModel, "workers"> {
  const line = (mbit * 1e6) / 8;
  return { ...model, workerBandwidth: 1 / (1 / line + 1 / model.workerBandwidth), workerRoundTrip: (2 * ms) / 1000 };
}

if (process.argv[1]?.endsWith("worker-links.js")) {
  const { values } = parseArgs({
    options: {
      relay: { type: "string" },
      kinds: { type: "string", default: Object.keys(KINDS).join(",") },
      out: { type: "string", default: `bench/results/worker-links-${new Date().toISOString().slice(0, 10)}.json` },
    },
  });
  if (values.relay !== undefined) relay(Number(values.relay), RELAY, { host: HERE, port: PORT });
  else if (process.platform !== "linux" || process.getuid?.() !== 0) {
    console.error("this measures in network namespaces: it needs Linux, root, and the commands ip and tc (iproute2)");
    process.exitCode = 1;
  } else {
    mkdirSync("bench/results", { recursive: true });
    await measureLinks(values.kinds.split(","), values.out);
  }
}
