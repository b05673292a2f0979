/** @file `valuehead train --algorithm reward`: judgements in, a reward model or classifier out. */
import { type Command, Option } from "commander";
import { ALGORITHMS } from "../algorithms/algorithm.ts";
import { resolveRewardConfig, rewardOptions } from "../algorithms/options/reward-options.ts";
import { share } from "../base/option-values.ts";
import type { OptionTable } from "../base/options.ts";
import { readJudgements } from "../data/judgements.ts";
import { STDIN } from "../platform/files.ts";
import type { RewardModelSpec } from "../run/spec.ts";
import { follow, givenData, optionsIn, readOptions, withoutStdin } from "./data-run.ts";
import { addEngineOptions, addOptions, checkFlags, readEngine, readFlags, readObject } from "./options.ts";
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
  const { data, out } = givenData(
    { data: flags.data ?? earlier?.judgementsPath ?? undefined, out: directory, earlier },
    { name: "rows", expected: DATA },
  );
  const heldOut = flags.heldOut ?? earlier?.heldOutJudgements ?? undefined;
  const inFile = optionsIn(flags.config === undefined ? {} : await readObject(flags.config), flags.config ?? "");
  const { given, config } = readOptions(rewardOptions, resolveRewardConfig, { flags, inFile, earlier });
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
  const { meantModel } = await import("./model.ts");
  const { rewardDisplay } = await import("./run-view.ts");
  const model = await meantModel(spec);
  await follow<RewardModelSpec>(spec, {
    display: rewardDisplay,
    steps: config.steps,
    flags,
    command,
    read: async () => ({
      ...model,
      data: await withoutStdin(data, "rows", readJudgements),
      heldOut: heldOut && (await withoutStdin(heldOut, "rows", readJudgements)),
    }),
    resume: ["--resume", out, ...(data === STDIN ? ["--data", STDIN] : [])],
    judges: true,
  });
}
