/** @file The flags that every command has that starts a run, whatever its algorithm. */
import { type Command, Option } from "commander";
import { type Changeable, changeable } from "../run/options.ts";
import { addDashboardOption, type DashboardFlags } from "./dashboard.ts";
import { addIgnoreMemoryOption, collectChoices } from "./options.ts";

export interface RunFlags extends DashboardFlags {
  out?: string;
  resume?: boolean | string;
  allowChange?: Changeable[];
  ignoreMemory?: boolean;
  json?: boolean;
  quiet?: boolean;
}

/** Where a run is written, and what of it may change when it is resumed. */
export function addRunDirectoryOptions(command: Command): void {
  command
    .option("--out <dir>", "the run directory: new or empty")
    .option("--resume [dir]", "continue the run in this directory from its newest checkpoint; flags change its options")
    .addOption(
      new Option(
        "--allow-change <what>",
        "with --resume: what may differ from the run so far; may be given several times",
      )
        .choices([...changeable])
        .argParser(collectChoices(changeable)),
    );
  addIgnoreMemoryOption(command);
}

/** How a run is told of. */
export function addTellingOptions(command: Command): void {
  command
    .option("--json", "print one JSON object per event, one per line, and nothing else on stdout")
    .option("--quiet", "no progress bar and no table");
  addDashboardOption(command);
}
