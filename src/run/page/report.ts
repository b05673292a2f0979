/** @file report.html: the page of a run in one file, which opens from disk and asks nobody for anything. */
import { VERSION } from "../../base/version.ts";
import { isDirectory, joinPath, writeTextAtomic } from "../../platform/files.ts";
import { gzipped } from "../../platform/live/server.ts";
import type { PageData, RunData, SampleDetail } from "./data.ts";
import { pageIsBuilt, wholePage } from "./html.ts";
import { RunReader } from "./reader.ts";

/** The largest report, in bytes. */
export const LARGEST_REPORT = 2_000_000;

export const REPORT_FILE = "report.html";

/** What is tried until the report is small enough: how many steps and samples it keeps, and how many of them with every token. */
const SIZES = [
  { steps: 5000, samples: 5000, details: 400 },
  { steps: 2500, samples: 2500, details: 200 },
  { steps: 1200, samples: 1200, details: 100 },
  { steps: 600, samples: 600, details: 40 },
  { steps: 300, samples: 200, details: 10 },
  { steps: 100, samples: 20, details: 2 },
];

/**
 * The report of one run or several as HTML, below {@link LARGEST_REPORT} bytes: long runs are thinned out, which the page then says.
 * @param readers that have read all there is
 */
export async function reportOf(readers: readonly RunReader[], written = new Date()): Promise<string> {
  let html = "";
  for (const size of SIZES) {
    const parts = await Promise.all(
      readers.map((reader) =>
        portion(reader, size.steps, size.samples / readers.length, size.details / readers.length),
      ),
    );
    const data: PageData = {
      version: VERSION,
      written: written.toISOString(),
      controls: false,
      runs: parts.map(({ run }) => run),
      details: parts.map(({ details }) => details),
    };
    const title = readers.map(({ data: { name } }) => name).join(", ");
    html = await wholePage(title, await gzipped(JSON.stringify(data)));
    if (new TextEncoder().encode(html).length <= LARGEST_REPORT) break;
  }
  return html;
}

/** At most so many indices, evenly spread, the last among them. */
function spread(length: number, most: number): number[] {
  const every = Math.max(1, Math.ceil(length / Math.max(1, most)));
  return Array.from({ length: Math.ceil(length / every) }, (_, i) => length - 1 - i * every).reverse();
}

async function portion(
  reader: RunReader,
  steps: number,
  samples: number,
  details: number,
): Promise<{ run: RunData; details: Record<number, SampleDetail> }> {
  const { data } = reader;
  const kept = spread(data.steps.length, steps);
  const thinned = kept.length < data.steps.length ? Math.ceil(data.steps.length / steps) : undefined;
  const shown = spread(data.samples.length, samples);
  const columns = Object.entries(data.columns).map(([name, column]) => [name, kept.map((i) => column[i])]);
  const run: RunData = {
    ...data,
    steps: kept.map((i) => data.steps[i]),
    columns: Object.fromEntries(columns),
    samples: shown.map((i) => data.samples[i]),
    ...(thinned === undefined ? {} : { thinned }),
  };
  const whole: Record<number, SampleDetail> = {};
  for (const at of spread(shown.length, details)) {
    const detail = await reader.sample(shown[at]);
    if (detail) whole[at] = detail;
  }
  return { run, details: whole };
}

/**
 * Write report.html of a run directory. Nothing where the page was not built, as in a source checkout.
 * @returns its path
 */
export async function writeReport(directory: string): Promise<string | undefined> {
  if (!(await isDirectory(directory)) || !(await pageIsBuilt())) return undefined;
  const reader = new RunReader(directory);
  await reader.read();
  if (reader.data.steps.length === 0) return undefined;
  const path = joinPath(directory, REPORT_FILE);
  await writeTextAtomic(path, await reportOf([reader]));
  return path;
}
