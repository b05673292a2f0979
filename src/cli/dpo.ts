/** @file `valuehead train --algorithm dpo`: preference pairs in, a model that prefers as they do out. */
import { type Command, Option } from "commander";
import { ALGORITHMS } from "../algorithms/algorithm.ts";
import { type DPOConfig, dpoOptions, resolveDPOConfig } from "../algorithms/options/dpo-options.ts";
import { fail } from "../base/errors.ts";
import { share } from "../base/option-values.ts";
import { fileSource, type OptionTable } from "../base/options.ts";
import { readPairs } from "../data/pairs.ts";
import { STDIN } from "../platform/files.ts";
import type { DPOSpec, PairSource, RunRecord } from "../run/spec.ts";
import { listen } from "./dashboard.ts";
import { asUsage, usageFrom } from "./errors.ts";
import { interruptible } from "./interrupt.ts";
import {
  ADAPTER,
  adapterGiven,
  addEngineOptions,
  addOptions,
  checkFlags,
  flagSource,
  readEngine,
  readFlags,
  readObject,
  required,
} from "./options.ts";
import { note } from "./output.ts";
import { resumedDirectory } from "./resumed.ts";
import { addRunDirectoryOptions, addTellingOptions, type RunFlags } from "./run-flags.ts";

interface DPOFlags extends RunFlags {
  data?: string;
  config?: string;
  model?: string;
  adapter?: string;
  heldOut?: string;
}

const fraction = {
  heldOutFraction: [share, 0, "or this share of the pairs"],
} as const satisfies OptionTable;

const PAIRS =
  "pairs with the columns prompt, chosen and rejected, texts or messages: .json, .jsonl, .csv, .tsv (all also .gz) or .parquet; -: stdin";

export function define(command: Command): void {
  command
    .addOption(new Option("--algorithm <name>", "dpo: learn from preference pairs").choices([...ALGORITHMS]))
    .option("--data <file>", PAIRS)
    .option("--model <model>", "a model directory, a run directory, a hub id, or tiny (embedded) (default: tiny)")
    .option("--adapter <adapter>", `${ADAPTER}; it is trained on`)
    .option("--held-out <file>", "pairs never learned from, to measure the loss on")
    .option("--config <file>", "options as JSON, or a run's config.json; flags win");
  addRunDirectoryOptions(command);
  addOptions(command, { ...fraction, ...dpoOptions });
  addTellingOptions(command);
  addEngineOptions(command);
  command.action((flags: DPOFlags) => train(flags, command));
}

async function train(flags: DPOFlags, command: Command): Promise<void> {
  checkFlags({ ...fraction, ...dpoOptions }, flags);
  const engine = readEngine(flags);
  const { out: directory, earlier } = await resumedDirectory(flags, "dpo");
  const data = flags.data ?? earlier?.pairsPath ?? undefined;
  if (earlier && data === undefined)
    fail("usage", {
      where: "--data",
      found: "no path in config.json of the run: its pairs came from stdin",
      expected: "the pairs that the run began with",
      fix: "add --data FILE",
    });
  required(
    { name: "data", value: data, placeholder: "FILE", expected: PAIRS },
    { name: "out", value: directory, placeholder: "DIR", expected: "the directory that the run is written to" },
  );
  const [out, heldOut] = [directory as string, flags.heldOut ?? earlier?.heldOutPairs ?? undefined];
  const { given, config } = await readConfig(flags, earlier);
  const { heldOutFraction } = readFlags<{ heldOutFraction: number }>(fraction, flags, { ...earlier });
  const spec: Omit<DPOSpec, "data"> = {
    algorithm: "dpo",
    out,
    model: flags.model ?? earlier?.model ?? "tiny",
    ...adapterGiven(flags.adapter ?? earlier?.adapter),
    heldOutFraction,
    config: given,
    ...engine,
    where: flags.config ?? "command line",
    resume: Boolean(flags.resume),
    allowChange: flags.allowChange,
    ignoreMemory: flags.ignoreMemory,
  };
  await follow(spec, { data: data as string, heldOut }, config.steps, flags, command);
}

/** Run in a worker and show it; stdin is read here. */
async function follow(
  spec: Omit<DPOSpec, "data">,
  files: { data: string; heldOut: string | undefined },
  steps: number,
  flags: DPOFlags,
  command: Command,
): Promise<void> {
  const { runInWorker } = await import("../run/worker.ts");
  const { meantModel } = await import("./model.ts");
  const { dpoDisplay, RunView } = await import("./run-view.ts");
  const { printEnd } = await import("./summary.ts");
  const view = new RunView({ ...flags, display: dpoDisplay, out: spec.out, steps, command });
  const model = await meantModel(spec);
  await interruptible(
    "finishing this step, then saving",
    async (signal) => {
      const [data, heldOut] = [await withoutStdin(files.data), files.heldOut && (await withoutStdin(files.heldOut))];
      const { record, ...listening } = await listen(spec, flags, view);
      const asked = { ...spec, ...model, record, data, heldOut: heldOut || undefined };
      const events = runInWorker(asked, { signal, ...listening });
      for await (const _ of events); // the view hears them
    },
    view.progress.clear,
  ).catch((error) => {
    throw usageFrom(spec.where ?? "", error);
  });
  const from = files.data === STDIN ? ["--data", STDIN] : [];
  printEnd(view.outcome, ["--resume", spec.out, ...from], flags.json ? () => {} : undefined);
}

/** A worker cannot read stdin: its pairs are read here. */
async function withoutStdin(path: string): Promise<PairSource> {
  if (path !== STDIN) return path;
  if (process.stdin.isTTY) note("reading pairs from the terminal, as JSON lines; Ctrl-D ends them");
  return readPairs(STDIN);
}

/** What was given, and the complete config: flags over the file over the run that is resumed. */
async function readConfig(flags: DPOFlags, earlier: RunRecord | undefined) {
  const json = flags.config === undefined ? {} : await readObject(flags.config);
  const recorded = typeof json.options === "object" && json.options !== null;
  const inFile = (recorded ? json.options : json) as Record<string, unknown>;
  const typed = flagSource(flags as Record<string, unknown>, Object.keys(dpoOptions));
  const sources = [fileSource(earlier?.options ?? {}, "config.json"), fileSource(inFile, flags.config ?? ""), typed];
  const config = asUsage(() => resolveDPOConfig(sources));
  const names = Object.keys({ ...inFile, ...definedIn(typed.values) });
  const given = Object.fromEntries(names.map((name) => [name, config[name as keyof DPOConfig]])) as Partial<DPOConfig>;
  return { given, config };
}

const definedIn = (values: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
