/**
 * @file What workers on one machine bring, and what one costs: `npm run bench:workers`. The embedded model with a reward of 50 ms a response,
 * without workers, with nobody there, and with 1, 2 and 4 of them, in turn; beside each what the simulator says of it.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Connection } from "../src/distributed/connection.ts";
import { WeightsReceiver, WeightsSender } from "../src/distributed/weights.ts";
import { loadModel } from "../src/families/index.ts";
import { machine } from "./report.ts";
import { aloneStep, type StepModel, simulateStep } from "./worker-model.ts";
import { freePort, type Measured, measuredRun, median, SHAPE, type Shape, startServer } from "./worker-runs.ts";

const COUNTS = [undefined, 0, 1, 2, 4] as const;
const KINDS: Readonly<Record<string, Shape>> = { "all weights": SHAPE, "an adapter of rank 8": { ...SHAPE, lora: 8 } };

/** Seconds to store the model's weights on a server of this machine, and to fetch and check them: medians. */
export async function wayOfWeights(
  server: string,
  lora: number,
): Promise<{ bytes: number; send: number; load: number }> {
  const [here, there] = await Promise.all(["bench", "bench"].map((name) => Connection.connect({ server }, name)));
  const open = async () => {
    const model = await loadModel("models/tiny", { threads: 1 });
    if (lora > 0) model.addAdapter({ rank: lora });
    return model;
  };
  const [model, copy] = [await open(), await open()];
  await here.ensure("bench", 20);
  const { table } = model.parameters;
  const names = table.map(({ name }) => name).filter((name) => lora === 0 || /lora_|v_head/.test(name));
  const sender = new WeightsSender(model, names);
  const receiver = new WeightsReceiver(copy);
  const [sent, loaded]: [number[], number[]] = [[], []];
  for (let i = 0; i < 5; i++) {
    for (const name of names) model.parameters.view(name)[0] += 1e-3;
    const begin = performance.now();
    const version = await sender.send(here, "bench");
    const middle = performance.now();
    await receiver.load(there, "bench", version);
    sent.push((middle - begin) / 1000);
    loaded.push((performance.now() - middle) / 1000);
  }
  await here.erase("bench");
  for (const side of [here, there]) await side.close();
  for (const each of [model, copy]) each.dispose();
  return { bytes: sender.bytes, send: median(sent), load: median(loaded) };
}

/** The simulator's numbers, from what was measured without workers and on the way of the weights. */
export function stepModel(
  { responses, part, reward }: Shape,
  alone: readonly Measured[],
  { bytes, send, load }: { bytes: number; send: number; load: number },
  cores: number,
): Omit<StepModel, "workers"> {
  const mean = (name: string) => median(alone.flatMap(({ times }) => times.map((each) => each[name])));
  const parts = Math.ceil(responses / part);
  const [drawing, reference] = [mean("time/get_response"), mean("time/ppo/forward_pass")];
  const update = mean("time/total") - drawing - mean("time/get_scores") - reference;
  const outside = median(alone.flatMap(({ seconds }) => seconds)) - mean("time/total");
  return {
    ...{ parts, rows: part, draw: (drawing + reference) / parts, judge: (part * reward) / 1000, judges: 1 },
    ...{ update: update + outside, prepare: 0, weights: bytes, task: 4000, result: part * SHAPE.tokens * 28 },
    check: (2 * reference) / responses, // one row under policy and reference
    ...{ trainerBandwidth: bytes / send, workerBandwidth: bytes / load, serverBandwidth: (cores * bytes) / load },
    ...{ roundTrip: 0.001, cores },
  };
}

if (process.argv[1]?.endsWith("workers.js")) {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "3" },
      kinds: { type: "string", default: Object.keys(KINDS).join(",") },
      out: { type: "string", default: `bench/results/workers-${new Date().toISOString().slice(0, 10)}.json` },
    },
  });
  const directory = mkdtempSync(join(tmpdir(), "valuehead-workers-"));
  const port = await freePort();
  const stop = await startServer(join(directory, "store"), port);
  const place = { prefix: [], server: `nats://127.0.0.1:${port}` };
  const host = machine();
  console.log(`${host.cpu}, ${host.cores} cores, load average ${host.loadAverage.toFixed(2)} at the beginning`);
  const kinds: object[] = [];
  try {
    for (const kind of values.kinds.split(",")) {
      const shape = KINDS[kind];
      const way = await wayOfWeights(place.server, shape.lora);
      const runs: Measured[] = [];
      for (let round = 0; round < Number(values.rounds); round++)
        for (const workers of round % 2 === 0 ? COUNTS : COUNTS.toReversed())
          runs.push(await measuredRun(shape, workers, directory, { trainer: place, worker: place }));
      const of = (workers: number | undefined) => runs.filter((run) => run.workers === workers);
      const seconds = (workers: number | undefined) => median(of(workers).flatMap((run) => run.seconds));
      const model = stepModel(shape, of(undefined), way, host.cores);
      const lines = COUNTS.map((workers) => {
        const measured = seconds(workers);
        const said = workers ? simulateStep({ ...model, workers }).seconds : aloneStep(model);
        return { workers, measured, simulated: said, off: said / measured - 1, speedup: seconds(undefined) / measured };
      });
      const isSame = new Set(runs.map(({ sha256 }) => sha256)).size === 1;
      console.log(
        `\n${kind}: ${(way.bytes / 1e6).toFixed(1)} MB of weights a step; the weights at the end are ${isSame ? "the same in all runs" : "NOT the same"}`,
      );
      console.log(
        "| workers | a step, s | against no workers | simulated, s | off by | load average |\n|---|---|---|---|---|---|",
      );
      for (const { workers, measured, simulated, off, speedup } of lines)
        console.log(
          `| ${workers ?? "without --workers"} | ${measured.toFixed(2)} | ${speedup.toFixed(2)} | ${simulated.toFixed(2)} | ${(100 * off).toFixed(0)} % | ${of(
            workers,
          )
            .map(({ load }) => load.toFixed(1))
            .join(", ")} |`,
        );
      console.log(`one worker against none: ${(100 * (seconds(1) / seconds(undefined) - 1)).toFixed(1)} % more`);
      kinds.push({ kind, shape, way, model, isSame, lines, runs });
      if (!isSame) process.exitCode = 1;
    }
    mkdirSync("bench/results", { recursive: true });
    writeFileSync(values.out, `${JSON.stringify({ date: new Date().toISOString(), machine: host, kinds })}\n`);
    console.log(`\nwritten to ${values.out}`);
  } finally {
    await stop();
    rmSync(directory, { recursive: true, force: true });
  }
}
