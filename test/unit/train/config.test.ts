/** @file PPO options: presets, names of other programs, contradictions. */
import { describe, expect, it } from "vitest";
import { PPO_DEFAULTS, type PpoOptionName, ppoConfig, ppoOptions } from "../../../src/train/config.ts";
import { type PresetName, presets } from "../../../src/train/presets.ts";
import { nameHere, trlNames } from "../../../src/train/trl-names.ts";

describe("presets", () => {
  it.each(Object.keys(presets) as PresetName[])(
    "%s is a valid config, and resolving it again changes nothing",
    (preset) => {
      const config = ppoConfig({ preset });
      expect(config).toEqual({ ...PPO_DEFAULTS, ...presets[preset], preset });
      expect(ppoConfig(presets[preset])).toEqual({ ...config, preset: "default" }); // every name is an option
      expect(ppoConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
    },
  );

  it("the default preset is the defaults", () => {
    expect(ppoConfig({ preset: "default" })).toEqual(PPO_DEFAULTS);
    expect(ppoConfig()).toEqual(PPO_DEFAULTS);
  });

  it("given options go before those of the preset, undefined is not given", () => {
    const config = ppoConfig({ klCoef: 0.5, preset: "openai", vfCoef: undefined });
    expect([config.klCoef, config.vfCoef, config.adamBiasCorrection]).toEqual([0.5, 0.1, "tensorflow"]);
  });

  it("an unknown preset", () => {
    expect(() => ppoConfig({ preset: "trl" })).toThrow(
      /options, preset: found "trl", expected .*trl-classic.* Fix: preset is published values for all options/,
    );
  });
});

describe("names of other programs", () => {
  it.each([
    ["init_kl_coef", "klCoef"],
    ["ppo_epochs", "ppoEpochs"],
    ["cliprange", "clipRange"],
    ["vf_coef", "vfCoef"],
    ["lam", "lambda"],
    ["use_score_norm", "scoreScaling"],
    ["num_ppo_epochs", "ppoEpochs"],
  ])("%s is %s here", (theirs, ours) => {
    expect(() => ppoConfig({ [theirs]: 1 })).toThrow(
      `Fix: it is called ${ours} here: ${ppoOptions[ours as PpoOptionName][2]}`,
    );
  });

  it("every one of them leads to an option, and none is an option itself", () => {
    for (const ours of Object.values(trlNames)) expect(Object.keys(ppoOptions)).toContain(ours);
    expect(nameHere("txt-out-len")).toBe("maxNewTokens");
    for (const name of Object.keys(ppoOptions)) expect(nameHere(name)).toBeUndefined();
    expect(nameHere("batchsize")).toBeUndefined();
    expect(() => ppoConfig({ batchsize: 1 })).toThrow("Fix: did you mean batchSize?");
  });
});

describe("contradictions name the option to change", () => {
  it.each([
    [{ batchSize: 8, miniBatchSize: 9 }, "miniBatchSize: found 9, expected at most batchSize (8)"],
    [{ minNewTokens: 25 }, "minNewTokens: found 25, expected at most maxNewTokens (24)"],
    [{ minNewTokens: 5, stopAtEos: false }, "minNewTokens: found 5 without stopAtEos"],
    [{ batchSize: 50_000 }, "klHorizon: found 10000, expected more than a fifth of batchSize (50000)"],
    [{ truncateAfter: 3 }, "truncateAfter: found 3 without truncateToken"],
    [{ failScore: -1 }, "failScore: found -1 without truncateToken"],
    [{ truncateToken: ".", truncateAfter: 24 }, "truncateAfter: found 24, expected less than maxNewTokens (24)"],
    [{ valueHeadInit: "zero", valueHeadStd: 0.1 }, "valueHeadStd: found 0.1 for valueHeadInit zero"],
    [
      { miniBatchSize: 1, maxNewTokens: 1, whiteningScope: "minibatch" },
      "whiteningScope: found minibatch, with minibatches of one token, expected batch",
    ],
    [{ targetKl: 0.1, ppoEpochs: 1 }, "targetKl: found 0.1 with one epoch, expected 0, or more ppoEpochs"],
  ])("%o", (options, message) => {
    expect(() => ppoConfig(options)).toThrow(`options, ${message}`);
  });

  it("what only looks like one is allowed", () => {
    ppoConfig({ miniBatchSize: 1, maxNewTokens: 2, whiteningScope: "minibatch" });
    ppoConfig({ miniBatchSize: 1, maxNewTokens: 1 });
    ppoConfig({ truncateToken: ".", truncateAfter: 23, failScore: 0 });
    expect(() => ppoConfig({ failScore: Number.NaN })).toThrow(/failScore: found null, expected .* \(default none\)/);
  });
});
