/**
 * @file src/rl against TRL 0.11.4's own functions (tools/reference/rl.py). Padding in the golden inputs holds large numbers.
 * The golden side computes in double precision from float32 inputs; outputs here are float32.
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gae } from "../../src/rl/advantages.ts";
import { AdaptiveKLController } from "../../src/rl/controllers.ts";
import { type KLPenalty, klEstimates } from "../../src/rl/kl.ts";
import { rewardsFromScores } from "../../src/rl/rewards.ts";
import { type PPOInputs, ppoStatistics, sampledEntropy } from "../../src/rl/stats.ts";
import { maskedMean, maskedVariance, whiten } from "../../src/rl/whiten.ts";
import { expectClose } from "../unit/rl/close.ts";

const golden = JSON.parse(readFileSync(new URL("../golden/rl.json", import.meta.url), "utf8"));
const mask = Uint8Array.from(golden.mask);
const batch = { rows: golden.rows, width: golden.width, mask };
const f32 = (x: number[]) => Float32Array.from(x);
const rollout = { logprobs: f32(golden.oldLogprobs), refLogprobs: f32(golden.refLogprobs), batch };

describe("rewards", () => {
  for (const penalty of ["k1", "abs", "k2", "k3"] as KLPenalty[]) {
    it(`${penalty} penalty and score on the last token`, () => {
      const ours = rewardsFromScores({ ...rollout, scores: golden.scores, klCoef: golden.klCoef, penalty });
      expectClose(ours.rewards, golden.rewards[penalty].rewards);
      expectClose(ours.nonScoreRewards, golden.rewards[penalty].nonScoreRewards);
    });
  }
});

describe("KL estimates", () => {
  const ours = klEstimates(rollout.logprobs, rollout.refLogprobs, batch);
  for (const name of ["k1", "k2", "k3"] as const) {
    it(name, () => {
      expectClose(ours[name].perToken, golden.kl[name].perToken);
      expectClose(ours[name].perSequence, golden.kl[name].perSequence);
      expect(ours[name].mean).toBeCloseTo(golden.kl[name].mean, 6);
      expect(ours[name].standardError).toBeCloseTo(golden.kl[name].standardError, 6);
    });
  }

  it("objective/kl, objective/entropy and ppo/mean_non_score_reward as TRL records them", () => {
    const { nonScoreRewards } = rewardsFromScores({ ...rollout, scores: golden.scores, klCoef: golden.klCoef });
    expect(ours.k1.mean).toBeCloseTo(golden.recorded["objective/kl"], 6);
    expect(sampledEntropy(rollout.logprobs, batch)).toBeCloseTo(golden.recorded["objective/entropy"], 6);
    expect(maskedMean(nonScoreRewards, mask)).toBeCloseTo(golden.recorded["ppo/mean_non_score_reward"], 6);
  });
});

describe("advantages", () => {
  const { rewards } = rewardsFromScores({ ...rollout, scores: golden.scores, klCoef: golden.klCoef });
  const values = f32(golden.oldValues);
  const options = { values, batch, gamma: golden.gamma, lambda: golden.lambda };

  it("advantages and returns, whitened over the whole batch", () => {
    const { advantages, returns } = gae({ rewards, ...options });
    expectClose(advantages, golden.advantages);
    expectClose(returns, golden.returns);
    expectClose(whiten(advantages, mask), golden.whitenedAdvantages);
  });

  it("rewards whitened first do not let the padding in", () => {
    const whitened = whiten(rewards, mask, { shiftMean: false });
    expectClose(whitened, golden.whitenedRewards.rewards);
    expectClose(gae({ rewards: whitened, ...options }).advantages, golden.whitenedRewards.advantages);
  });

  it("masked positions inside a row are stepped over", () => {
    const holes = { ...batch, mask: Uint8Array.from(golden.holes.mask) };
    expectClose(gae({ rewards, ...options, batch: holes }).advantages, golden.holes.advantages);
  });
});

describe("whitening", () => {
  const x = f32(golden.oldValues);

  it("mean and both variances", () => {
    expect(maskedMean(x, mask)).toBeCloseTo(golden.whiten.mean, 12);
    expect(maskedVariance(x, mask)).toBeCloseTo(golden.whiten.varUnbiased, 12);
    expect(maskedVariance(x, mask, { unbiased: false })).toBeCloseTo(golden.whiten.varBiased, 12);
  });

  it("shifted and kept mean, unbiased and biased", () => {
    expectClose(whiten(x, mask), golden.whiten.shifted);
    expectClose(whiten(x, mask, { shiftMean: false }), golden.whiten.kept);
    expectClose(whiten(x, mask, { unbiased: false }), golden.whiten.biasedShifted);
    expectClose(whiten(x, mask, { shiftMean: false, unbiased: false }), golden.whiten.biasedKept);
  });
});

describe("ppoStatistics", () => {
  const inputs: PPOInputs = {
    logprobs: f32(golden.logprobs),
    oldLogprobs: f32(golden.oldLogprobs),
    values: f32(golden.values),
    oldValues: f32(golden.oldValues),
    advantages: f32(golden.loss.advantages),
    returns: f32(golden.loss.returns),
    mask,
    clipRange: golden.clipRange,
    clipRangeValue: golden.clipRangeValue,
  };
  const ours: Record<string, number> = { ...ppoStatistics(inputs) };

  it("has exactly the statistics of the golden file", () => {
    expect(Object.keys(ours).sort()).toEqual(Object.keys(golden.loss.statistics).sort());
  });

  for (const [name, expected] of Object.entries<number>(golden.loss.statistics)) {
    it(name, () => expectClose([ours[name]], [expected], 1e-10));
  }

  // The losses' gradients by autograd, against central differences of our plain losses.
  it("gradients of both losses", () => {
    const h = 1e-6;
    for (const [loss, input, expected] of [
      ["policyLoss", "logprobs", golden.loss.gradLogprobs],
      ["valueLoss", "values", golden.loss.gradValues],
    ] as const) {
      const at = (i: number, step: number) => {
        const x = Float64Array.from(inputs[input]);
        x[i] += step;
        return ppoStatistics({ ...inputs, [input]: x })[loss];
      };
      const gradient = Array.from(mask, (_, i) => (at(i, h) - at(i, -h)) / (2 * h));
      expectClose(gradient, expected, 1e-6);
    }
  });
});

it("AdaptiveKLController follows TRL's over a series of updates", () => {
  const { initKlCoef, target, horizon, updates, values } = golden.controller;
  const controller = new AdaptiveKLController(initKlCoef, target, horizon);
  for (const [step, [kl, nSteps]] of updates.entries()) {
    controller.update(kl, nSteps);
    expect(controller.value).toBeCloseTo(values[step], 14);
  }
});
