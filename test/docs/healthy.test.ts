/**
 * @file docs/healthy.md shows what its runs did: the pictures are those of docs/pictures/runs.json, and so are the numbers and texts beside
 * them. UPDATE_DOCS=1 writes them anew.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { chartSVG } from "../../tools/pictures/chart.ts";
import { HEALTH } from "../../tools/pictures/health.ts";
import { type Drawn, type KeptRun, RUNS } from "../../tools/pictures/runs.ts";
import { root } from "../support/cli.ts";

const pictures = join(root, "docs", "pictures");
const path = join(root, "docs", "healthy.md");
const page = readFileSync(path, "utf8");
const runs: Record<string, KeptRun> = JSON.parse(readFileSync(join(pictures, "runs.json"), "utf8"));

/** Mean of the last five steps, or of the first. */
const mean = (run: KeptRun, metric: Drawn, from = -5, to?: number) => {
  const values = run.curves[metric]?.slice(from, to);
  return values ? Number((values.reduce((a, b) => a + b, 0) / values.length).toPrecision(2)) : "";
};
const flagsOf = (name: string) => RUNS.find((run) => run.name === name);

function table(): string {
  const rows = ["healthy", ...RUNS.map(({ name }) => name)].map((name) => {
    const run = runs[name];
    const different = name === "healthy" ? "`valuehead demo`" : [...(flagsOf(name)?.flags ?? [])].join(" ");
    const what = name === "healthy" ? different : different ? `\`${different}\`` : "";
    const reward = flagsOf(name)?.reward ? "a reward of its own" : "";
    const cells = [
      name,
      [what, reward].filter(Boolean).join(", "),
      run.steps,
      `${mean(run, "env/reward_mean", 0, 1)} → ${mean(run, "env/reward_mean")}`,
      mean(run, "objective/kl"),
      `${mean(run, "ppo/policy/entropy", 0, 1)} → ${mean(run, "ppo/policy/entropy")}`,
      mean(run, "ppo/policy/clipfrac"),
      mean(run, "ppo/val/var_explained"),
    ];
    return `| ${cells.join(" | ")} |`;
  });
  const head = "| run | differs in | steps | reward | KL | entropy | clipped | explained variance |";
  return [head, `|${"---|".repeat(8)}`, ...rows].join("\n");
}

/** The first logged response of the last step: nobody chose it. */
function sample(name: string): string {
  const { step, prompt, response, score } = runs[name].samples[1];
  const text = `${prompt}**${response
    .replace(/\s+/g, " ")
    .replace(/([*_<>[\]])/g, "\\$1")
    .replace(/^ /, " ")}**`;
  return `> ${text.replace("** ", " **")}\n>\n> (step ${step}, score ${score})`;
}

const blocks: [string, () => string][] = [
  ["runs", table],
  ...[...page.matchAll(/<!-- sample ([\w-]+) -->/g)].map(
    ([, name]) => [`sample ${name}`, () => sample(name)] as [string, () => string],
  ),
];

test.each(blocks)("the block %s is that of the runs", (name, make) => {
  const block = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- end -->)`);
  expect(page).toMatch(block);
  if (process.env.UPDATE_DOCS) {
    const now = readFileSync(path, "utf8");
    writeFileSync(
      path,
      now.replace(block, (_, start, end) => `${start}\n${make()}\n\n${end}`),
    );
  } else expect(page.match(block)?.[0]).toContain(`\n${make()}\n`);
});

test("the pictures are those of the runs, and all are shown", () => {
  for (const [name, chart] of Object.entries(HEALTH))
    expect(readFileSync(join(pictures, `${name}.svg`), "utf8"), name).toBe(chartSVG(chart(runs)));
  const shown = [...page.matchAll(/\(pictures\/([\w-]+)\.svg\)/g)].map(([, name]) => name);
  expect(new Set(shown)).toEqual(new Set(Object.keys(HEALTH)));
  const there = readdirSync(pictures).filter((name) => name.endsWith(".svg") && name !== "demo.svg");
  expect(there.sort()).toEqual(
    Object.keys(HEALTH)
      .map((name) => `${name}.svg`)
      .sort(),
  );
});
