/** @file `valuehead train --algorithm reward`: judgements in, a reward model or classifier out. */
import { type Command, Option } from "commander";
import { ALGORITHMS } from "../algorithms/algorithm.ts";
import { type RewardConfig, resolveRewardConfig, rewardOptions } from "../algorithms/options/reward-options.ts";
import { fail } from "../base/errors.ts";
import { share } from "../base/option-values.ts";
import { fileSource, type OptionTable } from "../base/options.ts";
import { readJudgements } from "../data/judgements.ts";
import { STDIN } from "../platform/files.ts";
import type { JudgementSource, RewardModelSpec, RunRecord } from "../run/spec.ts";
import { listen } from "./dashboard.ts";
import { asUsage, usageFrom } from "./errors.ts";
import { interruptible } from "./interrupt.ts";
import {
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

interface RewardFlags extends RunFlags {
  data?: string;
  config?: string;
  model?: string;
  heldOut?: string;
}

const fraction = {
  heldOutFraction: [share, 0, "or this share of the rows"],
} as const satisfies OptionTable;

const DATA =
  "rows with chosen and rejected (and prompt), or a text (text, prompt and response, or messages) with score or label: .json, .jsonl, .csv, .tsv (all also .gz) or .parquet; -: stdin";

export function define(command: Command): void {
  command
    .addOption(
      new Option("--algorithm <name>", "reward: train a reward model or a classifier").choices([...ALGORITHMS]),
    )
    .option("--data <file>", DATA)
    .option("--model <model>", "a model directory, a run directory, a hub id, or tiny (embedded) (default: tiny)")
    .option("--held-out <file>", "rows never learned from, to measure the loss on")
    .option("--config <file>", "options as JSON, or a run's config.json; flags win");
  addRunDirectoryOptions(command);
  addOptions(command, { ...fraction, ...rewardOptions });
  addTellingOptions(command);
  addEngineOptions(command);
  command.action((flags: RewardFlags) => train(flags, command));
}

async function train(flags: RewardFlags, command: Command): Promise<void> {
  checkFlags({ ...fraction, ...rewardOptions }, flags);
  const engine = readEngine(flags);
  const { out: directory, earlier } = await resumedDirectory(flags, "reward");
  const data = flags.data ?? earlier?.judgementsPath ?? undefined;
  if (earlier && data === undefined)
    fail("usage", {
      where: "--data",
      found: "no path in config.json of the run: its rows came from stdin",
      expected: "the rows that the run began with",
      fix: "add --data FILE",
    });
  required(
    { name: "data", value: data, placeholder: "FILE", expected: DATA },
    { name: "out", value: directory, placeholder: "DIR", expected: "the directory that the run is written to" },
  );
  const [out, heldOut] = [directory as string, flags.heldOut ?? earlier?.heldOutJudgements ?? undefined];
  const { given, config } = await readConfig(flags, earlier);
  const { heldOutFraction } = readFlags<{ heldOutFraction: number }>(fraction, flags, { ...earlier });
  const spec: Omit<RewardModelSpec, "data"> = {
    algorithm: "reward",
    out,
    model: flags.model ?? earlier?.model ?? "tiny",
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
  spec: Omit<RewardModelSpec, "data">,
  files: { data: string; heldOut: string | undefined },
  steps: number,
  flags: RewardFlags,
  command: Command,
): Promise<void> {
  const { runInWorker } = await import("../run/worker.ts");
  const { meantModel } = await import("./model.ts");
  const { rewardDisplay, RunView } = await import("./run-view.ts");
  const { printEnd } = await import("./summary.ts");
  const view = new RunView({ ...flags, display: rewardDisplay, out: spec.out, steps, command });
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
  printEnd(view.outcome, ["--resume", spec.out, ...from], flags.json ? () => {} : undefined, [], true);
}

/** A worker cannot read stdin: its rows are read here. */
async function withoutStdin(path: string): Promise<JudgementSource> {
  if (path !== STDIN) return path;
  if (process.stdin.isTTY) note("reading rows from the terminal, as JSON lines; Ctrl-D ends them");
  return readJudgements(STDIN);
}

/** What was given, and the complete config: flags over the file over the run that is resumed. */
async function readConfig(flags: RewardFlags, earlier: RunRecord | undefined) {
  const json = flags.config === undefined ? {} : await readObject(flags.config);
  const recorded = typeof json.options === "object" && json.options !== null;
  const inFile = (recorded ? json.options : json) as Record<string, unknown>;
  const typed = flagSource(flags as Record<string, unknown>, Object.keys(rewardOptions));
  const sources = [fileSource(earlier?.options ?? {}, "config.json"), fileSource(inFile, flags.config ?? ""), typed];
  const config = asUsage(() => resolveRewardConfig(sources));
  const names = Object.keys({ ...inFile, ...definedIn(typed.values) });
  const given = Object.fromEntries(
    names.map((name) => [name, config[name as keyof RewardConfig]]),
  ) as Partial<RewardConfig>;
  return { given, config };
}

const definedIn = (values: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
