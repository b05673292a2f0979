/** @file docs/options.md has every option and every flag, as the source says them. UPDATE_DOCS=1 writes its tables anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, type Option } from "commander";
import { expect, test } from "vitest";
import { ALGORITHMS, type AlgorithmName } from "../../src/algorithms/algorithm.ts";
import { grpoOptions } from "../../src/algorithms/grpo.ts";
import { dpoOptions } from "../../src/algorithms/options/dpo-options.ts";
import { optionGroups, ppoOptions } from "../../src/algorithms/options/ppo-options.ts";
import { rewardOptions } from "../../src/algorithms/options/reward-options.ts";
import { sftOptions } from "../../src/algorithms/options/sft-options.ts";
import { rlooOptions } from "../../src/algorithms/rloo.ts";
import { type OptionTable, shown } from "../../src/base/options.ts";
import { flag } from "../../src/cli/options.ts";

const path = fileURLToPath(new URL("../../docs/options.md", import.meta.url));
const page = readFileSync(path, "utf8");

const tables: Readonly<Record<AlgorithmName, OptionTable>> = {
  ppo: ppoOptions,
  grpo: grpoOptions,
  rloo: rlooOptions,
  dpo: dpoOptions,
  sft: sftOptions,
  reward: rewardOptions,
};
const algorithms = ALGORITHMS.filter((name) => name in tables);
/** Those that begin a table of their own: options of one algorithm or two stand after all others. */
const groups = Object.entries(optionGroups).map(([name, heading]) => ({ name, title: heading.replace(/:$/, "") }));

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("<", "&lt;").replace(/\s+/g, " ");
const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
const inTable = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [row(head), `|${"---|".repeat(head.length)}`, ...rows.map(row)].join("\n");

/** Bounds that only keep numbers sane say nothing to a reader. */
const withoutBounds = (values: string) =>
  values.replace(/ from (\d+) to (1000000000|9007199254740991)$/, ", $1 or more").replace(/, at most 1e30$/, "");

/** An option as some algorithms mean it: one row. */
interface Meaning {
  readonly name: string;
  readonly meaning: string;
  readonly values: string;
  readonly defaults: Map<AlgorithmName, string>;
}
const meanings: Meaning[] = [];
for (const algorithm of algorithms) {
  for (const [name, [schema, standard, text]] of Object.entries(tables[algorithm])) {
    const meaning = text.replace(/ \(default: .*?\)$/, "");
    const values = withoutBounds(schema.description ?? "");
    let known = meanings.find((m) => m.name === name && m.meaning === meaning && m.values === values);
    if (!known) {
      known = { name, meaning, values, defaults: new Map() };
      const beside = meanings.findLastIndex((m) => m.name === name);
      meanings.splice(beside < 0 ? meanings.length : beside + 1, 0, known);
    }
    known.defaults.set(algorithm, cell(shown(standard)));
  }
}

function optionTables(): string {
  const order = Object.keys(ppoOptions);
  const groupOf = (name: string) => {
    const at = order.indexOf(name);
    return at < 0
      ? "Of some algorithms"
      : (groups.findLast((group) => order.indexOf(group.name) <= at)?.title as string);
  };
  const titles = [...groups.map(({ title }) => title), "Of some algorithms"];
  return titles
    .map((title) => {
      const rows = meanings
        .filter(({ name }) => groupOf(name) === title)
        .map(({ name, meaning, values, defaults }) => [
          `\`${name}\``,
          `${cell(meaning)}${values && values !== "true or false" ? `. *${cell(values)}*` : ""}`,
          ...algorithms.map((algorithm) => defaults.get(algorithm) ?? ""),
        ]);
      return `### ${title}\n\n${inTable(["option", "what it is, and what it may be", ...algorithms], rows)}`;
    })
    .join("\n\n");
}

const COMMANDS = {
  train: () => import("../../src/cli/train.ts"),
  demo: () => import("../../src/cli/demo.ts"),
  generate: () => import("../../src/cli/generate.ts"),
  score: () => import("../../src/cli/score.ts"),
  compare: () => import("../../src/cli/compare.ts"),
  export: () => import("../../src/cli/export.ts"),
  push: () => import("../../src/cli/push.ts"),
  view: () => import("../../src/cli/view.ts"),
  merge: () => import("../../src/cli/merge.ts"),
  info: () => import("../../src/cli/info.ts"),
};

async function flagTables(): Promise<string> {
  const options = new Set(algorithms.flatMap((algorithm) => Object.keys(tables[algorithm]).map(flag)));
  const isOwn = ({ long }: Option) => long && !(options.has(long) || options.has(long.replace(/^--no-/, "--")));
  const parts: string[] = [];
  for (const [name, load] of Object.entries(COMMANDS)) {
    const command = new Command(name);
    const { define } = (await load()) as { define(command: Command, argv: string[]): void | Promise<void> };
    await define(command, []);
    // What samples has its own words and defaults for options of the same names.
    const shownFlags = command.options.filter(["train", "demo", "info"].includes(name) ? isOwn : ({ long }) => long);
    const rows = shownFlags
      .filter(({ description }) => description !== "")
      .map((option) => [`\`${option.flags.replaceAll("|", "\\|")}\``, cell(option.description)]);
    parts.push(`### ${name}\n\n${inTable(["flag", ""], rows)}`);
  }
  for (const algorithm of ["sft", "dpo"]) {
    const command = new Command("train");
    await (await import("../../src/cli/train.ts")).define(command, ["train", "--algorithm", algorithm]);
    const rows = command.options
      .filter(isOwn)
      .filter(({ description }) => description !== "")
      .map((option) => [`\`${option.flags.replaceAll("|", "\\|")}\``, cell(option.description)]);
    parts.splice(
      parts.length - Object.keys(COMMANDS).length + 1,
      0,
      `### train --algorithm ${algorithm}\n\n${inTable(["flag", ""], rows)}`,
    );
  }
  return parts.join("\n\n");
}

test("no algorithm is left out", () => {
  expect(Object.keys(tables).sort()).toEqual([...ALGORITHMS].sort());
});

test.each([
  ["options", optionTables],
  ["flags", flagTables],
] as const)("the tables of %s are those of the source", async (name, make) => {
  const tables = await make();
  const block = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- end -->)`);
  expect(page).toMatch(block);
  if (process.env.UPDATE_DOCS) {
    const now = readFileSync(path, "utf8");
    writeFileSync(
      path,
      now.replace(block, (_, start, end) => `${start}\n${tables}\n\n${end}`),
    );
  } else expect(page.match(block)?.[0]).toContain(`\n${tables}\n`);
});
