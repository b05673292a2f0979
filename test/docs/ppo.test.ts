/**
 * @file docs/ppo.md says what the source says: links lead to functions, tables are those of the source, every option of TRL has
 * its place. UPDATE_DOCS=1 writes the tables of metrics and presets anew.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { describe, expect, test } from "vitest";
import { presetNamed } from "../../src/algorithms/options/config.ts";
import { PPO_DEFAULTS, type PPOOptionName, ppoOptions } from "../../src/algorithms/options/ppo-options.ts";
import { presetNames } from "../../src/algorithms/options/presets.ts";
import { nameHere } from "../../src/algorithms/options/trl-names.ts";
import { shown } from "../../src/base/options.ts";
import { otherName } from "../../src/cli/other-names.ts";
import { define } from "../../src/cli/train.ts";
import { metrics } from "../../src/rl/metrics.ts";
import { goldenPath } from "../support/golden.ts";

const command = new Command("train");
await define(command);
const trainFlags = command.options.map(({ long }) => long);

const path = fileURLToPath(new URL("../../docs/ppo.md", import.meta.url));
const page = readFileSync(path, "utf8");

test.each([...page.matchAll(/\[`(\w+)`\]\(\.\.\/(src\/[^)]+)\)/g)].map(([, name, file]) => ({ name, file })))(
  "$name is in $file",
  ({ name, file }) => {
    const source = readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8");
    expect(source).toMatch(new RegExp(`^export (async )?(function\\*? ?|class |const )${name}\\b`, "m"));
  },
);

test("links to other files of the repository lead somewhere", () => {
  const links = [...page.matchAll(/\]\((?!https:)([^)#]+)/g)].map(([, link]) => link);
  expect(links.filter((link) => !existsSync(fileURLToPath(new URL(link, `file://${path}`))))).toEqual([]);
});

test("links into other repositories are to a commit or a release, never to a branch", () => {
  const refs = [...page.matchAll(/https:\/\/github\.com\/[\w-]+\/[\w-]+\/(?:blob|commit)\/([^/)]+)/g)].map(
    ([, r]) => r,
  );
  expect(refs.length).toBeGreaterThan(40);
  expect(refs.filter((ref) => !/^([0-9a-f]{9}|[0-9a-f]{40}|v\d+\.\d+\.\d+)$/.test(ref))).toEqual([]);
});

test("every detail says where it is here and where it was published", () => {
  const [, step] = page.split("## The step");
  const details = step.split("\n## ")[0].match(/^\*\*[\s\S]*?(?=^\*\*|^###|$(?![\s\S]))/gm) ?? [];
  expect(details.length).toBeGreaterThan(25);
  for (const detail of details) expect(detail).toMatch(/^\*Here:\* .*\[`.* \*Source:\* \S/m);
});

describe("TRL's options", () => {
  const [, section] = page.split("## From TRL's options to these");
  const rows = [...section.matchAll(/^\| `(\w+)` \| (\S+) \| (.*?) \| /gm)].map(([, name, versions, here]) => ({
    name,
    versions: versions === "both" ? ["0.11.4", "1.9.0"] : [versions],
    here: here.match(/`([^`]+)`/)?.[1],
  }));
  const known: Record<string, object> = JSON.parse(readFileSync(goldenPath("trl-options.json"), "utf8"));

  test.each(["0.11.4", "1.9.0"])("all of %s, each once", (version) => {
    const listed = rows.filter((row) => row.versions.includes(version)).map(({ name }) => name);
    expect(listed.sort()).toEqual(Object.keys(known[version]).sort());
  });

  test.each(rows)("$name is $here", ({ name, here }) => {
    if (here?.startsWith("--")) {
      // What the command line says of it.
      const flag = here.slice(2);
      expect(trainFlags).toContain(here);
      expect(otherName(name)).toContain(flag);
    } else if (here) {
      expect(Object.keys(ppoOptions)).toContain(here);
      // What the error of an unknown option says; a name that is spelled as here needs no error.
      expect(name === here ? here : nameHere(name)).toBe(here);
    }
  });
});

const row = (cells: readonly string[]) => `| ${cells.map((c) => c.replaceAll("|", "\\|")).join(" | ")} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [row(head), `|${"---|".repeat(head.length)}`, ...rows.map(row)].join("\n");
/** A preset's value where it is not the default. */
const own = (preset: string, name: PPOOptionName) => {
  const value = presetNamed(preset)[name];
  return value === undefined || value === PPO_DEFAULTS[name] ? undefined : value;
};
const cell = (value: unknown) =>
  typeof value === "number" && value > 0 && value < 1e-3 ? value.toExponential() : shown(value);
const named = presetNames.filter((preset) => preset !== "default");
const changed = (Object.keys(ppoOptions) as PPOOptionName[]).filter((name) =>
  named.some((preset) => own(preset, name) !== undefined),
);
const tables = {
  metrics: table(
    ["metric", ""],
    Object.entries(metrics).map(([name, meaning]) => [`\`${name}\``, meaning]),
  ),
  presets: table(
    ["option", "default", ...named.map((preset) => `\`${preset}\``)],
    changed.map((name) => {
      const values = named.map((preset) => own(preset, name));
      const cells = values.map((value) => (value === undefined ? "" : cell(value)));
      return [`\`${name}\``, cell(PPO_DEFAULTS[name]), ...cells];
    }),
  ),
};

test.each(["metrics", "presets"] as const)("the table of %s is that of the source", (name) => {
  const block = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- end -->)`);
  expect(page).toMatch(block);
  if (process.env.UPDATE_DOCS) {
    const now = readFileSync(path, "utf8");
    writeFileSync(
      path,
      now.replace(block, (_, start, end) => `${start}\n${tables[name]}\n\n${end}`),
    );
  } else expect(page.match(block)?.[0]).toContain(`\n${tables[name]}\n`);
});
