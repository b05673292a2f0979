/** @file The tables of docs/scale.md: a step at sizes that nobody here can measure. `npm run bench:scale` prints them; a test holds the page to them. */
import { pathToFileURL } from "node:url";
import { aloneStep, payingBandwidth, type StepModel, simulateStep } from "./worker-model.ts";

const mbit = (n: number) => (n * 1e6) / 8;
const gbit = (n: number) => mbit(1000 * n);

/** Parameters that a LoRA adapter of this rank on every matrix of SmolLM2-135M's blocks has: rank (in + out) for each. */
const adapterOfSmolLM2 = (rank: number) => {
  const [C, KV, I, layers] = [576, 192, 1536, 30];
  const perLayer = 2 * (C + C) + 2 * (C + KV) + 3 * (C + I);
  return rank * perLayer * layers;
};
/** Of SmolLM2-135M, tied embeddings counted once, with a value head. */
const SMOLLM2 = 134_515_008 + 577;
const GPT2 = 124_439_808 + 769;

export const BYTES = {
  "GPT-2 124M, full": 4 * GPT2,
  "SmolLM2-135M, full": 4 * SMOLLM2,
  "SmolLM2-135M, LoRA of rank 8": 4 * (adapterOfSmolLM2(8) + 577),
  "a model of 8B, LoRA of rank 16 (42 million parameters)": 4 * 41_943_040,
} as const;

/** Bytes of a response of T tokens in a result: ids, log-probs, values, kept masses, kept sets, the reference. */
export const resultBytes = (tokens: number, keptIds = 0) => tokens * (4 + 4 + 4 + 8 + 4 + 4 + 4 * keptIds);

/** The step that the table is about: a large batch of a small model, with a judge that takes its time. */
export const SCENARIO: Omit<StepModel, "workers" | "weights"> = {
  ...{ parts: 1024, rows: 8, draw: 6, judge: 16, judges: 4 },
  ...{ update: 120, check: 0.02, prepare: 0.5 },
  ...{ task: 12_000, result: 8 * resultBytes(64) },
  ...{ workerBandwidth: gbit(1), trainerBandwidth: gbit(10), serverBandwidth: gbit(10) },
  roundTrip: 0.02,
};

const WORKERS = [1, 4, 16, 64, 250, 1000];
const shown = (s: number) => (s >= 100 ? Math.round(s).toLocaleString("en-US") : s.toPrecision(3));

/** What a step spends its time on. */
export function limitOf(model: StepModel): string {
  const { seconds, weights, collected } = simulateStep(model);
  const checks = model.parts * (model.check + model.result / Math.min(model.trainerBandwidth, model.serverBandwidth));
  const parts = { updates: model.update, "weights on their way": weights, workers: collected - weights };
  if (checks > 0.8 * (collected - weights)) return "the trainer's checks";
  const [most] = Object.entries(parts).sort(([, a], [, b]) => b - a);
  return most[1] > 0.4 * seconds ? most[0] : "several alike";
}

export function scaleTable(scenario = SCENARIO): string {
  const kinds = { "LoRA, 9.8 MB": BYTES["SmolLM2-135M, LoRA of rank 8"], "full, 538 MB": BYTES["SmolLM2-135M, full"] };
  const lines = [
    "| workers | | a step, s | weights on their way, s | times one machine | limit |",
    "|---|---|---|---|---|---|",
  ];
  for (const workers of WORKERS)
    for (const [kind, weights] of Object.entries(kinds)) {
      const model = { ...scenario, workers, weights };
      const { seconds, weights: sent } = simulateStep(model);
      const times = aloneStep(model) / seconds;
      lines.push(
        `| ${workers.toLocaleString("en-US")} | ${kind} | ${shown(seconds)} | ${shown(sent)} | ${times.toFixed(1)} | ${limitOf(model)} |`,
      );
    }
  return lines.join("\n");
}

/** From which bandwidth on gradients on other machines would pay. */
export function gradientTable(): string {
  const rows = [
    ["GPT-2 124M, full", 4 * GPT2, 4],
    ["SmolLM2-135M, LoRA of rank 8", BYTES["SmolLM2-135M, LoRA of rank 8"], 3],
  ] as const;
  const lines = [
    "| | gradient | a microbatch | 1 microbatch each per optimizer step | 8 each |",
    "|---|---|---|---|---|",
  ];
  const rate = (x: number) => `${((8 * x) / 1e6).toLocaleString("en-US", { maximumFractionDigits: 0 })} Mbit/s`;
  for (const [name, bytes, seconds] of rows)
    lines.push(
      `| ${name} | ${(bytes / 1e6).toFixed(1)} MB | ${seconds} s | ${rate(payingBandwidth(seconds, bytes, 1))} | ${rate(payingBandwidth(seconds, bytes, 8))} |`,
    );
  return lines.join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) console.log(`${scaleTable()}\n\n${gradientTable()}`);
