/** @file `--dashboard`: the page of the run that is about to begin. */
import type { Command } from "commander";
import { count } from "../base/option-values.ts";
import type { OptionTable } from "../base/options.ts";
import type { RunOptions } from "../run/options.ts";
import type { Dashboard } from "../run/page/dashboard.ts";
import type { Sink } from "../run/sinks/sink.ts";
import type { AnyRunSpec } from "../run/spec.ts";
import { stopCurrent } from "./interrupt.ts";
import { numberOrText, readFlags } from "./options.ts";
import { note } from "./output.ts";
import { typed } from "./resumed.ts";

export interface DashboardFlags {
  dashboard?: boolean | number | string;
}

const port = {
  dashboard: [count(0, 65_535).optional(), undefined, "port"],
} as const satisfies OptionTable;

export function addDashboardOption(command: Command): void {
  command.option(
    "--dashboard [port]",
    "serve a page of the run on 127.0.0.1 while it goes on (default port: 8267, or any that is free)",
    numberOrText,
  );
}

/** @throws usage - what is no port */
export const readPort = ({ dashboard }: DashboardFlags): number | undefined =>
  typeof dashboard === "number" || typeof dashboard === "string"
    ? readFlags<{ dashboard: number }>(port, { dashboard }).dashboard
    : undefined;

/** Who listens to a run: the terminal and, where it is asked for, the page; and what config.json says of the command line. */
export async function listen(
  spec: AnyRunSpec,
  flags: DashboardFlags,
  view: Sink,
): Promise<Pick<RunOptions, "saves" | "sinks"> & Pick<AnyRunSpec, "record">> {
  const record = { ...spec.record, ...(await typed(spec)) };
  const { page, saves } = await openDashboard(flags, spec.out);
  return { record, sinks: page ? [view, page] : [view], saves };
}

/** Nothing where none is asked for. The run closes it. */
async function openDashboard(
  flags: DashboardFlags,
  out: string,
): Promise<Pick<RunOptions, "saves"> & { page?: Dashboard }> {
  const { dashboard } = flags;
  if (dashboard === undefined || dashboard === false) return {};
  const { Dashboard } = await import("../run/page/dashboard.ts");
  const { SaveRequests } = await import("../run/options.ts");
  const saves = new SaveRequests();
  const controls = {
    stop: stopCurrent,
    save: () => {
      note("asked for a checkpoint: it is written after this step");
      saves.ask();
    },
  };
  const page = await Dashboard.open({ directories: [out], port: readPort(flags), controls });
  note(`dashboard: ${page.url}`);
  return { saves, page };
}
