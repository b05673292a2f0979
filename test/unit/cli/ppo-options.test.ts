/** @file Where a PPO option comes from: flags, the config file, a preset, an earlier run. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readPpoOptions } from "../../../src/cli/ppo-options.ts";
import { ppoConfig } from "../../../src/train/config.ts";
import { presets } from "../../../src/train/presets.ts";
import { temporaryDirectory } from "../../support/cli.ts";

const cwd = temporaryDirectory();

it("flags go before the file, the file before the preset, the preset before the earlier run", async () => {
  const file = join(cwd, "c.json");
  writeFileSync(file, JSON.stringify({ preset: "openai", klCoef: 0.3, vfCoef: 0.4 }));
  const earlier = ppoConfig({ klCoef: 0.5, vfCoef: 0.6, batchSize: 64, saveEvery: 7 });
  const config = await readPpoOptions({ vfCoef: 0.2, out: "not an option" }, file, earlier);
  expect(config).toEqual({ ...earlier, ...presets.openai, preset: "openai", klCoef: 0.3, vfCoef: 0.2 });
  expect([config.batchSize, config.saveEvery]).toEqual([512, 7]);
});

it("the preset of a flag goes before that of the file", async () => {
  const file = join(cwd, "p.json");
  writeFileSync(file, JSON.stringify({ preset: "openai" }));
  expect(await readPpoOptions({ preset: "trl-classic" }, file)).toEqual(ppoConfig({ preset: "trl-classic" }));
});

it("an earlier run's options are taken as they are, its preset's values too", async () => {
  const earlier = ppoConfig({ preset: "openai", klCoef: 0.5 });
  expect(await readPpoOptions({}, undefined, earlier)).toEqual(earlier);
  expect((await readPpoOptions({ steps: 3 }, undefined, earlier)).klCoef).toBe(0.5);
});

it("a value that is none of a preset's, and null from a file where a number may be missing", async () => {
  await expect(readPpoOptions({ preset: "open" })).rejects.toThrow(/^command line, preset: found "open"/);
  const file = join(cwd, "n.json");
  writeFileSync(file, JSON.stringify({ preset: "openai", failScore: null }));
  expect((await readPpoOptions({}, file)).failScore).toBeNull();
});
