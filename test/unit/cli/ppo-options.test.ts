/** @file Where a PPO option comes from: flags, the config file, a preset, an earlier run. */
import { describe, expect, it } from "vitest";
import { ppoConfig } from "../../../src/algorithms/options/config.ts";
import { presets } from "../../../src/algorithms/options/presets.ts";
import { fileSource, type OptionSource } from "../../../src/base/options.ts";
import { readPpoOptions, standing } from "../../../src/cli/ppo-options.ts";

it("flags go before the file, the file before the preset, the preset before the earlier run", () => {
  const earlier = ppoConfig({ klCoef: 0.5, vfCoef: 0.6, batchSize: 64, saveEvery: 7 });
  const file = fileSource({ preset: "openai", klCoef: 0.3, vfCoef: 0.4 }, "c.json");
  const config = readPpoOptions({ vfCoef: 0.2, out: "not an option" }, [standing(earlier), file]);
  expect(config).toEqual({ ...earlier, ...presets.openai, preset: "openai", klCoef: 0.3, vfCoef: 0.2 });
  expect([config.batchSize, config.saveEvery]).toEqual([512, 7]);
});

it("the preset of a flag goes before that of the file", () => {
  const file = fileSource({ preset: "openai" }, "p.json");
  expect(readPpoOptions({ preset: "trl-classic" }, [file])).toEqual(ppoConfig({ preset: "trl-classic" }));
});

it("an earlier run's options are taken as they are, its preset's values too", () => {
  const earlier = ppoConfig({ preset: "openai", klCoef: 0.5 });
  expect(readPpoOptions({}, [standing(earlier)])).toEqual(earlier);
  expect(readPpoOptions({ steps: 3 }, [standing(earlier)]).klCoef).toBe(0.5);
});

it("a value that is none of a preset's, and null from a file where a number may be missing", () => {
  expect(() => readPpoOptions({ preset: "open" })).toThrow(/^--preset: found "open"/);
  const file = fileSource({ preset: "openai", failScore: null }, "n.json");
  expect(readPpoOptions({}, [file]).failScore).toBeNull();
});

describe("defaults, presets and earlier runs follow what is given, and what changed is said", () => {
  const notes = (flags: object, ...sources: OptionSource[]) => {
    const said: string[] = [];
    const config = readPpoOptions(flags as Record<string, unknown>, sources, (text) => said.push(text));
    return { config, said };
  };

  it("a default", () => {
    const { config, said } = notes({ batchSize: 16 });
    expect([config.batchSize, config.miniBatchSize]).toEqual([16, 16]);
    expect(said).toEqual(["--mini-batch-size is 16, not 32, to fit --batch-size 16"]);
  });

  it("a preset", () => {
    const { config } = notes({ preset: "openai", maxNewTokens: 10, batchSize: 8 });
    expect([config.truncateAfter, config.miniBatchSize, config.truncateToken]).toEqual([9, 8, "."]);
    expect(notes({ preset: "openai", truncateToken: "" }).config).toMatchObject({ truncateAfter: 0, failScore: null });
  });

  it("an earlier run", () => {
    const earlier = standing(ppoConfig({ batchSize: 64, miniBatchSize: 64, targetKl: 0.1 }), "r/config.json");
    const { config } = notes({ batchSize: 16, ppoEpochs: 1 }, earlier);
    expect(config).toMatchObject({ batchSize: 16, miniBatchSize: 16, targetKl: 0 });
  });

  it("but not what was given, in a file either: the error names both as they were written", () => {
    const file = fileSource({ miniBatchSize: 32 }, "c.json");
    expect(() => notes({ batchSize: 16 }, file)).toThrow(
      'c.json, "miniBatchSize": found 32, expected at most --batch-size (16). ' +
        'Fix: change "miniBatchSize" in c.json or --batch-size',
    );
    expect(() => notes({ batchSize: 16, miniBatchSize: 32 })).toThrow(
      "--mini-batch-size: found 32, expected at most --batch-size (16). Fix: change --mini-batch-size or --batch-size",
    );
  });

  it("a change that follows from a change says so", () => {
    expect(() => notes({ klHorizon: 5, miniBatchSize: 64 })).toThrow(
      "--mini-batch-size: found 64, expected at most --batch-size (24, to fit --kl-horizon)",
    );
  });
});
