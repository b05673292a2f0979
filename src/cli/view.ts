/** @file `valuehead view`: the page of runs, finished or going on, and as a file. */
import type { Command } from "commander";
import { fail } from "../base/errors.ts";
import { exists, isDirectory, joinPath, writeTextAtomic } from "../platform/files.ts";
import { readPort } from "./dashboard.ts";
import { interruptible } from "./interrupt.ts";
import { numberOrText } from "./options.ts";
import { megabytes, note, print } from "./output.ts";

interface ViewFlags {
  port?: number | string;
  export?: string;
}

export function define(command: Command): void {
  command
    .argument("<run...>", "run directories; several are laid on top of each other")
    .option("--port <port>", "port on 127.0.0.1 (default: 8267, or any that is free)", numberOrText)
    .option("--export <file>", "write the page into one HTML file that opens from disk, and serve nothing");
  command.action(view);
}

async function view(runs: string[], flags: ViewFlags): Promise<void> {
  for (const run of runs) await checkRun(run);
  if (flags.export !== undefined) return exportPage(runs, flags.export);
  const { Dashboard } = await import("../run/page/dashboard.ts");
  const page = await Dashboard.open({ directories: runs, port: readPort({ dashboard: flags.port }) });
  print(page.url);
  note("Ctrl-C ends it");
  await interruptible("closing", async (signal) => {
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
  });
  await page.close();
}

async function exportPage(runs: readonly string[], file: string): Promise<void> {
  const { RunReader } = await import("../run/page/reader.ts");
  const { reportOf } = await import("../run/page/report.ts");
  const readers = runs.map((run, id) => new RunReader(run, id));
  for (const reader of readers) await reader.read();
  const html = await reportOf(readers);
  await writeTextAtomic(file, html);
  print(`${file}  ${megabytes(new TextEncoder().encode(html).length)}`);
}

/** @throws usage - no run there */
async function checkRun(run: string): Promise<void> {
  const marks = ["metrics.jsonl", "events.jsonl", ".lock"];
  const found = (await isDirectory(run))
    ? await Promise.all(marks.map((name) => exists(joinPath(run, name))))
    : undefined;
  if (found?.some(Boolean)) return;
  fail("usage", {
    where: run,
    found: found ? "a directory without metrics.jsonl" : (await exists(run)) ? "a file" : "no such directory",
    expected: "the directory of a run, as --out of train names it",
    fix: "name the run directory: valuehead view runs/first",
  });
}
