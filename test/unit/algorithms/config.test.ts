/** @file PPO options: presets, names of other programs, contradictions. */
import { describe, expect, it } from "vitest";
import { grpoOptions } from "../../../src/algorithms/grpo.ts";
import { ppoConfig } from "../../../src/algorithms/options/config.ts";
import { dpoOptions } from "../../../src/algorithms/options/dpo-options.ts";
import { PPO_DEFAULTS, type PPOOptionName, ppoOptions } from "../../../src/algorithms/options/ppo-options.ts";
import { type PresetName, presets } from "../../../src/algorithms/options/presets.ts";
import { rewardOptions } from "../../../src/algorithms/options/reward-options.ts";
import { sftOptions } from "../../../src/algorithms/options/sft-options.ts";
import { nameHere, trlNames } from "../../../src/algorithms/options/trl-names.ts";
import { rlooOptions } from "../../../src/algorithms/rloo.ts";

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
      /options, preset: found "trl", expected .*trl-classic.* Fix: correct preset: published values for every option/,
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
      `Fix: it is called ${ours} here: ${ppoOptions[ours as PPOOptionName][2]}`,
    );
  });

  it("every one of them leads to an option, and none is an option itself", () => {
    const known = Object.keys({
      ...ppoOptions,
      ...grpoOptions,
      ...rlooOptions,
      ...dpoOptions,
      ...sftOptions,
      ...rewardOptions,
      responses: "a flag of SFT",
    });
    for (const ours of Object.values(trlNames).flat()) expect(known).toContain(ours);
    expect(nameHere("num_iterations", (name) => name in grpoOptions)).toBe("epochs");
    expect(nameHere("num_iterations", (name) => name in ppoOptions)).toBe("ppoEpochs");
    expect(nameHere("txt-out-len")).toBe("maxNewTokens");
    for (const name of Object.keys(ppoOptions)) expect(nameHere(name)).toBeUndefined();
    expect(nameHere("batchsize")).toBeUndefined();
    expect(() => ppoConfig({ batchsize: 1 })).toThrow("Fix: did you mean batchSize?");
  });
});

describe("options that were given and contradict each other: the error names both", () => {
  it.each([
    [{ batchSize: 8, miniBatchSize: 9 }, "miniBatchSize: found 9, expected at most batchSize (8)"],
    [{ minNewTokens: 25, maxNewTokens: 24 }, "minNewTokens: found 25, expected at most maxNewTokens (24)"],
    [{ minNewTokens: 5, stopAtEos: false }, "minNewTokens: found 5, expected 0 with stopAtEos (false)"],
    [{ batchSize: 50, klHorizon: 10 }, "klHorizon: found 10, expected more than a fifth of batchSize (50)"],
    [{ promptMinTokens: 9, promptMaxTokens: 8 }, "promptMinTokens: found 9, expected at most promptMaxTokens (8)"],
    [{ promptMinTokens: 9 }, "promptMinTokens: found 9, expected at most promptMaxTokens (0), where 0 leaves"],
    [{ truncateAfter: 3 }, "truncateAfter: found 3, expected 0 without a token in truncateToken (none)"],
    [{ failScore: -1 }, "failScore: found -1, expected none without a token in truncateToken (none)"],
    [
      { truncateToken: ".", truncateAfter: 24, maxNewTokens: 24 },
      "truncateAfter: found 24, expected less than maxNewTokens (24)",
    ],
    [{ valueHeadInit: "zero", valueHeadStd: 0.1 }, "valueHeadStd: found 0.1, expected 0, or normal for valueHeadInit"],
    [
      { miniBatchSize: 1, maxNewTokens: 1, whiteningScope: "minibatch" },
      "whiteningScope: found minibatch, with minibatches of one token, expected batch",
    ],
    [{ targetKl: 0.1, ppoEpochs: 1 }, "targetKl: found 0.1, expected 0, or more than one epoch in ppoEpochs (1)"],
    [{ vfCoef: 0, valueModel: "separate" }, "vfCoef: found 0, expected more than 0 with valueModel (separate)"],
    [{ maskReplay: false, rolloutPrecision: "int8" }, "maskReplay: found false, expected true with rolloutPrecision"],
  ])("%o", (options, message) => {
    expect(() => ppoConfig(options)).toThrow(`options, ${message}`);
  });

  it("what only looks like one is allowed", () => {
    ppoConfig({ miniBatchSize: 1, maxNewTokens: 2, whiteningScope: "minibatch" });
    ppoConfig({ miniBatchSize: 1, maxNewTokens: 1 });
    ppoConfig({ truncateToken: ".", truncateAfter: 23, failScore: 0 });
    expect(() => ppoConfig({ failScore: Number.NaN })).toThrow(/failScore: found NaN, expected .* \(default none\)/);
  });
});

describe("defaults and presets follow what is given", () => {
  it.each([
    [{ batchSize: 16 }, { miniBatchSize: 16 }],
    [{ miniBatchSize: 256 }, { batchSize: 256 }],
    [{ minNewTokens: 40 }, { maxNewTokens: 40 }],
    [{ batchSize: 60_000 }, { klHorizon: 60_000 }],
    [{ klHorizon: 10 }, { batchSize: 49, miniBatchSize: 32 }],
    [{ klHorizon: 5 }, { batchSize: 24, miniBatchSize: 24 }],
    [{ klHorizon: 0.1 }, { batchSize: 1, miniBatchSize: 1 }, "klHorizon"], // no batch is small enough
    [{ truncateToken: ".", truncateAfter: 30 }, { maxNewTokens: 31 }],
    [
      { preset: "openai", batchSize: 16 },
      { miniBatchSize: 16, microBatchSize: 32 },
    ],
    [{ preset: "openai", maxNewTokens: 8 }, { truncateAfter: 7 }],
    [
      { preset: "openai", truncateToken: "" },
      { truncateAfter: 0, failScore: null },
    ],
    [{ preset: "openai", valueHeadStd: 0.1 }, { valueHeadInit: "normal" }],
    [{ preset: "openai", minNewTokens: 4 }, { stopAtEos: true }],
    [{ preset: "trl-0.11", batchSize: 32 }, { miniBatchSize: 32 }],
    [{ preset: "trl-classic", maxNewTokens: 1 }, { whiteningScope: "batch" }],
  ])("%o", (options: object, expected: object, wrong?: string) => {
    if (wrong) expect(() => ppoConfig({ ...options })).toThrow(wrong);
    else expect(ppoConfig({ ...options })).toMatchObject({ ...options, ...expected });
  });

  it("what follows is checked and complete: resolved again it stays as it is", () => {
    for (const options of [{ batchSize: 3 }, { preset: "openai", maxNewTokens: 2 }]) {
      const config = ppoConfig(options);
      expect(ppoConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
    }
  });
});

describe("numbers that fp32 or the optimizer cannot do anything with are refused where they are given", () => {
  it.each([
    [{ beta1: 1 }, "beta1: found 1, expected a number from 0 to below 1"],
    [{ beta2: 1 }, "beta2: found 1, expected a number from 0 to below 1"],
    [{ temperature: 1e-40 }, "temperature: found 1e-40, expected a number from 0.0001 to 10000"],
    [{ repetitionPenalty: 1e-40 }, "repetitionPenalty: found 1e-40"],
    [{ learningRate: 1e30 }, "learningRate: found 1e+30, expected a number from 0 to 100"],
    [{ adamEpsilon: 1e-300 }, "adamEpsilon: found 1e-300, expected a number from 1e-30 to 1"],
    [{ klCoef: 1e300 }, "klCoef: found 1e+300"],
    [{ weightDecay: Number.POSITIVE_INFINITY }, "weightDecay: found Infinity"],
  ])("%o", (options, message) => expect(() => ppoConfig(options)).toThrow(`options, ${message}`));
});
