/** @file docs/from-trl.md: the defaults that are others are those of the source, and what it names is exported. UPDATE_DOCS=1 writes the table anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { PPO_DEFAULTS, type PPOConfig, ppoOptions } from "../../src/algorithms/options/ppo-options.ts";
import { presets } from "../../src/algorithms/options/presets.ts";
import { shown } from "../../src/base/options.ts";
import * as library from "../../src/index.ts";

const path = fileURLToPath(new URL("../../docs/from-trl.md", import.meta.url));
const page = readFileSync(path, "utf8");

test("the defaults that differ are those of the preset", () => {
  const changed = (Object.keys(ppoOptions) as (keyof PPOConfig)[]).filter((name) => {
    const value = (presets["trl-0.11"] as Partial<PPOConfig>)[name];
    return value !== undefined && value !== PPO_DEFAULTS[name];
  });
  const rows = changed.map((name) => {
    const theirs = (presets["trl-0.11"] as Partial<PPOConfig>)[name];
    return `| \`${name}\` | ${shown(theirs)} | ${shown(PPO_DEFAULTS[name])} | ${ppoOptions[name][2]} |`;
  });
  const table = ["| option | TRL 0.11.4 | here | |", "|---|---|---|---|", ...rows].join("\n");
  const block = /(<!-- defaults -->\n)[\s\S]*?(<!-- end -->)/;
  expect(page).toMatch(block);
  if (process.env.UPDATE_DOCS) {
    const now = readFileSync(path, "utf8");
    writeFileSync(
      path,
      now.replace(block, (_, start, end) => `${start}\n${table}\n\n${end}`),
    );
  } else expect(page.match(block)?.[0]).toContain(`\n${table}\n`);
});

test("what the table of names has on the right is exported", () => {
  const [, section] = page.split("## What is what");
  const cells = [...section.split("\n## ")[0].matchAll(/^\|.*\| (.*) \|$/gm)].map(([, right]) => right);
  const names = cells.flatMap((cell) => [...cell.matchAll(/`(?:new )?([A-Za-z]\w+)[.(]/g)].map(([, name]) => name));
  const own = names.filter((name) => !["model", "trainer"].includes(name));
  expect(own).toEqual(expect.arrayContaining(["loadModel", "generate", "PPOTrainer", "respondToBatch"]));
  expect(own.filter((name) => !(name in library))).toEqual([]);
  for (const name of ["GRPOTrainer", "RLOOTrainer", "DPOTrainer", "SFTTrainer", "push"])
    expect(library).toHaveProperty(name);
});
