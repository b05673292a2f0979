/**
 * @file docs/algorithms.md says what the source says: links lead to functions, the metrics are those of the source, every option of
 * TRL has its place. UPDATE_DOCS=1 writes the table of metrics anew.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { grpoConfig, grpoOptions } from "../../src/algorithms/grpo.ts";
import { dpoConfig, dpoOptions } from "../../src/algorithms/options/dpo-options.ts";
import { rewardConfig, rewardOptions } from "../../src/algorithms/options/reward-options.ts";
import { sftConfig, sftOptions } from "../../src/algorithms/options/sft-options.ts";
import { rlooConfig, rlooOptions } from "../../src/algorithms/rloo.ts";
import { dpoMetrics, groupMetrics, rewardMetrics } from "../../src/rl/metrics.ts";
import { goldenPath } from "../support/golden.ts";

const path = fileURLToPath(new URL("../../docs/algorithms.md", import.meta.url));
const page = readFileSync(path, "utf8");

test.each([...page.matchAll(/\[`(\w+)`\]\(\.\.\/(src\/[^)]+)\)/g)].map(([, name, file]) => ({ name, file })))(
  "$name is in $file",
  ({ name, file }) => {
    const source = readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8");
    expect(source).toMatch(new RegExp(`^export (abstract )?(async )?(function\\*? ?|class |const )${name}\\b`, "m"));
  },
);

test("links to other files of the repository lead somewhere", () => {
  const links = [...page.matchAll(/\]\((?!https:)([^)#]+)/g)].map(([, link]) => link);
  expect(links.length).toBeGreaterThan(10);
  expect(links.filter((link) => !existsSync(fileURLToPath(new URL(link, `file://${path}`))))).toEqual([]);
});

test("every detail says where it is here and where it was published", () => {
  const details = page.match(/^\*\*[\s\S]*?\n\n/gm) ?? [];
  expect(details.length).toBeGreaterThan(7);
  for (const detail of details) expect(detail).toMatch(/\*Here:\* [\s\S]*\[`.* \*Source:\* \S/);
});

describe("TRL's options", () => {
  const [, section] = page.split("## From TRL's options to these");
  const rows = [...section.matchAll(/^\| `(\w+)` \| (\w+) \| (?:`(\w+)`)? ?\| /gm)].map(([, name, of, here]) => ({
    name,
    of: of === "both" ? ["GRPO", "RLOO"] : [of === "reward" ? "Reward" : of.toUpperCase()],
    here,
  }));
  const [, without] = section.split("Without a counterpart:");
  const left = [...without.matchAll(/`(\w+)`/g)].map(([, name]) => name);
  const known: Record<string, object> = JSON.parse(readFileSync(goldenPath("trl-1.16-options.json"), "utf8"));

  test("all of GRPOConfig, RLOOConfig, DPOConfig, SFTConfig and RewardConfig, each once", () => {
    for (const config of ["GRPO", "RLOO", "DPO", "SFT", "Reward"]) {
      const listed = rows.filter(({ of }) => of.includes(config)).map(({ name }) => name);
      const rest = left.filter((name) => name in known[config] && !listed.includes(name));
      expect([...listed, ...rest].sort(), config).toEqual(Object.keys(known[config]).sort());
    }
    const all = Object.values(known).flatMap((options) => Object.keys(options));
    expect(left.filter((name) => !all.includes(name))).toEqual([]);
  });

  // What the error of an unknown option says; a name that is spelled as here needs no error.
  const configs = {
    GRPO: [grpoConfig, grpoOptions],
    RLOO: [rlooConfig, rlooOptions],
    DPO: [dpoConfig, dpoOptions],
    SFT: [sftConfig, sftOptions],
    Reward: [rewardConfig, rewardOptions],
  } as const;
  const named = rows.flatMap(({ name, of, here }) =>
    here === undefined || here === name
      ? []
      : of.map((config) => ({ name, config: config as keyof typeof configs, here })),
  );
  test.each(named)("$name of $config is $here", ({ name, config, here }) => {
    const [check, table] = configs[config];
    expect(Object.keys(table)).toContain(here);
    expect(() => check({ [name]: 1 })).toThrow(`Fix: it is called ${here} here: `);
  });
});

test.each([
  ["metrics", groupMetrics],
  ["dpoMetrics", dpoMetrics],
  ["rewardMetrics", rewardMetrics],
])("the table of %s is that of the source", (name, metrics) => {
  const cell = (meaning: string) => meaning.replaceAll("|", "\\|");
  const rows = Object.entries(metrics).map(([metric, meaning]) => `| \`${metric}\` | ${cell(meaning)} |`);
  const table = ["| metric |  |", "|---|---|", ...rows].join("\n");
  const block = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- end -->)`);
  expect(page).toMatch(block);
  if (process.env.UPDATE_DOCS) {
    const now = readFileSync(path, "utf8");
    writeFileSync(
      path,
      now.replace(block, (_, start, end) => `${start}\n${table}\n\n${end}`),
    );
  } else expect(page.match(block)?.[0]).toContain(`\n${table}\n`);
});
