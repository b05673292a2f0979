/** @file `valuehead train --algorithm dpo`: preference pairs in, a model that prefers as they do out. */
import { type Command, Option } from "commander";
import { ALGORITHMS } from "../algorithms/algorithm.ts";
import { dpoOptions, resolveDPOConfig } from "../algorithms/options/dpo-options.ts";
import { share } from "../base/option-values.ts";
import type { OptionTable } from "../base/options.ts";
import { readPairs } from "../data/pairs.ts";
import { STDIN } from "../platform/files.ts";
import type { DPOSpec } from "../run/spec.ts";
import { follow, givenData, optionsIn, readOptions, withoutStdin } from "./data-run.ts";
import {
  ADAPTER,
  adapterGiven,
  addEngineOptions,
  addOptions,
  checkFlags,
  readEngine,
  readFlags,
  readObject,
} from "./options.ts";
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
  const { data, out } = givenData(
    { data: flags.data ?? earlier?.pairsPath ?? undefined, out: directory, earlier },
    { name: "pairs", expected: PAIRS },
  );
  const heldOut = flags.heldOut ?? earlier?.heldOutPairs ?? undefined;
  const inFile = optionsIn(flags.config === undefined ? {} : await readObject(flags.config), flags.config ?? "");
  const { given, config } = readOptions(dpoOptions, resolveDPOConfig, { flags, inFile, earlier });
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
  const { meantModel } = await import("./model.ts");
  const { dpoDisplay } = await import("./run-view.ts");
  const model = await meantModel(spec);
  await follow<DPOSpec>(spec, {
    display: dpoDisplay,
    steps: config.steps,
    flags,
    command,
    read: async () => ({
      ...model,
      data: await withoutStdin(data, "pairs", readPairs),
      heldOut: heldOut && (await withoutStdin(heldOut, "pairs", readPairs)),
    }),
    resume: ["--resume", out, ...(data === STDIN ? ["--data", STDIN] : [])],
  });
}
