/** @file What the commands share that learn from data: `train --algorithm dpo`, `reward` and `sft`. */
import type { Command } from "commander";
import { fail } from "../base/errors.ts";
import { fileSource, type OptionSource, type OptionTable } from "../base/options.ts";
import { STDIN } from "../platform/files.ts";
import type { DataSpec, RunRecord } from "../run/spec.ts";
import { listen } from "./dashboard.ts";
import { asUsage, usageFrom } from "./errors.ts";
import { interruptible } from "./interrupt.ts";
import { flagSource, required } from "./options.ts";
import { note } from "./output.ts";
import type { RunFlags } from "./run-flags.ts";
import type { Display } from "./run-view.ts";

/**
 * The data and the run directory, both of which must be known by now.
 * @param what     the data is, and what `--data` expects
 * @throws usage - no data, no directory; a run that goes on whose data came from stdin
 */
export function givenData<D extends string | readonly string[]>(
  { data, out, earlier }: { data: D | undefined; out: string | undefined; earlier: RunRecord | undefined },
  what: { name: "pairs" | "rows" | "text"; expected: string },
): { data: D; out: string } {
  if (earlier && data === undefined)
    fail("usage", {
      where: "--data",
      found: `no path in config.json of the run: its ${what.name} came from stdin`,
      expected: `the ${what.name} that the run began with`,
      fix: "add --data FILE",
    });
  required(
    { name: "data", value: data, placeholder: "FILE", expected: what.expected },
    { name: "out", value: out, placeholder: "DIR", expected: "the directory that the run is written to" },
  );
  return { data: data as D, out: out as string };
}

/**
 * The complete config, and what was given of it: flags over a file over the run that is resumed.
 * @param inFile options in a file
 */
export function readOptions<C extends object>(
  table: OptionTable,
  resolve: (sources: readonly OptionSource[]) => C,
  { flags, inFile, earlier }: { flags: object; inFile: OptionSource; earlier: RunRecord | undefined },
): { given: Partial<C>; config: C } {
  const typed = flagSource(flags as Record<string, unknown>, Object.keys(table));
  const config = asUsage(() => resolve([fileSource(earlier?.options ?? {}, "config.json"), inFile, typed]));
  const isGiven = (values: Readonly<Record<string, unknown>>) => (name: string) => values[name] !== undefined;
  const names = [...Object.keys(inFile.values), ...Object.keys(typed.values).filter(isGiven(typed.values))];
  const given = Object.fromEntries(names.map((name) => [name, config[name as keyof C]])) as Partial<C>;
  return { given, config };
}

/** The options in a file: an object of them, or a run's own config.json. */
export function optionsIn(json: Readonly<Record<string, unknown>>, path: string): OptionSource {
  const recorded = typeof json.options === "object" && json.options !== null;
  return fileSource((recorded ? json.options : json) as Record<string, unknown>, path);
}

/** A worker cannot read stdin: what comes from there is read here. */
export async function withoutStdin<T>(path: string, what: string, read: (path: string) => Promise<T>) {
  if (path !== STDIN) return path;
  if (process.stdin.isTTY) note(`reading ${what} from the terminal, as JSON lines; Ctrl-D ends them`);
  return read(STDIN);
}

interface Following<S extends DataSpec> {
  display: Display;
  steps: number;
  flags: RunFlags;
  command: Command;
  /** What is learned from, and the model where another is meant than was named; read once Ctrl-C stops the run. */
  read: () => Promise<Pick<S, "data" | "heldOut"> & Partial<S>>;
  /** Flags of the command that goes on with the run. */
  resume: readonly string[];
  /** It is a reward model or a classifier, which writes nothing. */
  judges?: boolean;
}

/** Run in a worker, show it, and say how it ended. */
export async function follow<S extends DataSpec>(
  spec: Omit<S, "data" | "heldOut">,
  { display, steps, flags, command, read, resume, judges }: Following<S>,
): Promise<void> {
  const { runInWorker } = await import("../run/worker.ts");
  const { RunView } = await import("./run-view.ts");
  const { printEnd } = await import("./summary.ts");
  const view = new RunView({ ...flags, display, out: spec.out, steps, command });
  await interruptible(
    "finishing this step, then saving",
    async (signal) => {
      const given = await read();
      const { record, ...listening } = await listen(spec, flags, view);
      const events = runInWorker({ ...spec, ...given, record } as unknown as S, { signal, ...listening });
      for await (const _ of events); // the view hears them
    },
    view.progress.clear,
  ).catch((error) => {
    throw usageFrom(spec.where ?? "", error);
  });
  printEnd(view.outcome, resume, flags.json ? () => {} : undefined, [], judges);
}
