/**
 * @file Every picture in README.md and docs/, from real runs: `npm run pictures`. What has run already is in .cache/pictures, and is not
 * run again; `npm run pictures -- health` draws from docs/pictures/runs.json alone, `-- kept` from the runs that are there. Linux, a Chromium; 20
 * minutes on 2 cores.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chartSVG } from "./chart.ts";
import { photograph } from "./dashboard.ts";
import { HEALTH } from "./health.ts";
import { COLUMNS, capturePath, directoryOf, type KeptRun, keptRun, makeRuns, RUNS } from "./runs.ts";
import { capturedLines, terminalSVG } from "./terminal.ts";

const root = process.cwd();
const folder = join(root, ".cache", "pictures");
const pictures = join(root, "docs", "pictures");
const RUNS_FILE = join(pictures, "runs.json");
const only = process.argv[2];
const wanted = (part: string) => only === undefined || only === part;
mkdirSync(pictures, { recursive: true });

if (only === undefined) makeRuns(root, folder, (process.env.VALUEHEAD_PREFIX ?? "").split(" ").filter(Boolean));
if (only === undefined || only === "kept") {
  const names = ["healthy", ...RUNS.map(({ name }) => name), "padding-open", "padding-closed"];
  const kept = names.map((name) => [name, keptRun(directoryOf(folder, name))] as const);
  writeFileSync(RUNS_FILE, `{\n${kept.map(([name, run]) => `"${name}": ${JSON.stringify(run)}`).join(",\n")}\n}\n`);
}
if (wanted("health") || only === "kept") {
  const kept: Record<string, KeptRun> = JSON.parse(readFileSync(RUNS_FILE, "utf8"));
  for (const [name, chart] of Object.entries(HEALTH))
    writeFileSync(join(pictures, `${name}.svg`), chartSVG(chart(kept)));
}
if (wanted("terminal")) {
  const lines = capturedLines(readFileSync(capturePath(folder), "utf8"));
  writeFileSync(join(pictures, "demo.svg"), terminalSVG(excerpt(lines), COLUMNS, "valuehead demo in a terminal"));
}
if (wanted("dashboard")) {
  const shot = (tab: string, width: number, height: number) => ({
    tab,
    width,
    height,
    path: join(pictures, `dashboard-${tab}`),
  });
  await photograph(directoryOf(folder, "healthy"), [
    shot("charts", 1200, 760),
    {
      ...shot("samples", 1200, 760),
      prepare: async (page) => {
        await page.locator("tbody button.open").first().click();
        await page.waitForSelector(".token");
      },
    },
  ]);
}

/** The beginning, a few rows of the table, two answers before and after, and everything that comes below them. */
function excerpt(lines: readonly string[]): string[] {
  const header = lines.findIndex((line) => /^\S*\s+step\s+reward/.test(line.replace(/^\S*?m/, "")));
  const answers = lines.findIndex((line) => line.includes("BEFORE"));
  const end = lines.findIndex((line) => line.startsWith("Mean reward of responses"));
  if (header < 0 || answers < 0 || end < 0) throw new Error("the demo's output is not what it was");
  const rules = lines.flatMap((line, i) => (i > answers && /^-+$/.test(line) ? [i] : []));
  const rows = lines.slice(header + 1, answers - 1);
  const more = `${" ".repeat(5)}⋮`;
  const all = [
    "$ npx valuehead demo",
    ...lines.slice(0, header + 1),
    ...[...rows.slice(0, 3), more, ...rows.slice(-2)],
    ...lines.slice(answers - 1, rules[2] + 1),
    more,
    ...lines.slice(rules[rules.length - 1]),
  ];
  return all.join("\n").trimEnd().split("\n");
}
