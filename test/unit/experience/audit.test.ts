/** @file Each breach of the audit, made on purpose. */
import { describe, expect, test } from "vitest";
import { ppoConfig } from "../../../src/algorithms/options/config.ts";
import { type Audited, auditRatio, auditStep, ratioTolerance } from "../../../src/experience/audit.ts";
import type { Experience } from "../../../src/experience/experience.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { KeptSet, packKept } from "../../../src/model/kept-set.ts";
import { logitScale } from "../../../src/model/logit-scale.ts";
import { importanceWeights } from "../../../src/rl/importance.ts";
import { klEstimates } from "../../../src/rl/kl.ts";
import { type MartingaleState, NO_STEPS } from "../../../src/rl/martingale.ts";

const EOS = 9;
const W = 3;
/** Four responses, four times: [1, 2, eos], [3, 4, 5], [eos], [6, 7, 8]. */
function sound(): Experience {
  const four = [Int32Array.of(1, 2, EOS), Int32Array.of(3, 4, 5), Int32Array.of(EOS), Int32Array.of(6, 7, 8)];
  const responses = [...four, ...four, ...four, ...four];
  const maskOfFour = [1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1];
  const mask = Uint8Array.of(...maskOfFour, ...maskOfFour, ...maskOfFour, ...maskOfFour);
  return {
    queries: responses,
    responses,
    batch: { rows: 16, width: W, mask },
    logprobs: new Float32Array(16 * W),
    values: new Float32Array(16 * W),
    kept: packKept(new Array(16 * W).fill(undefined)),
    keptMass: Float64Array.from(mask, (m) => 0.8 * m),
  };
}
/** The same with log-probs that lie above or below the reference's by `shift` nats per token, with some spread. */
const withKl = (data: Experience, shift: number): Audited => {
  const refLogprobs = new Float32Array(data.batch.mask.length).fill(-5);
  const logprobs = Float32Array.from(refLogprobs, (ref, i) => ref + shift + 0.1 * Math.sin(i));
  const kl = klEstimates(logprobs, refLogprobs, data.batch);
  return { data: { ...data, logprobs }, drawnLogprobs: logprobs, refLogprobs, kl, endTokens: [EOS] };
};
const config = ppoConfig();
const audit = (data: Experience, shift = 0.1, options = config, before = NO_STEPS) =>
  auditStep(before, withKl(data, shift), options, 7);
const small = makeConfig({ vocabSize: 16, nEmbd: 8, nLayer: 1, nHead: 1 });
const model = GPT2HeadWithValueModel.fromConfig(small);

test("a sound batch passes, and says where the test stands", () => {
  const { warnings, metrics, state } = audit(sound());
  expect(warnings).toEqual([]);
  expect(metrics["audit/log_martingale"]).toBeLessThan(metrics["audit/log_bound"] as number);
  expect(metrics["audit/log_bound"]).toBeCloseTo(Math.log(1e6), 10);
  expect(Object.keys(metrics).sort()).toEqual(["audit/log_bound", "audit/log_martingale", "audit/log_reference"]);
  expect(state?.steps).toBe(1);
  expect(auditRatio(2e-5, model, config, 7)).toBeUndefined();
});

test("a negative KL stops the run, unless chance may have made it", () => {
  expect(() => audit(sound(), -2)).toThrow(
    /^PPO step 7: found tokens that are not draws from the policy they are scored under \(log M = \d+\.\d after 1 step; in this one a mean KL of -\d\.\d+ nats\), expected log M below 13\.8: chance alone takes it there in at most one run of 1000000\. Fix: the reference finds them too likely: .* trainer\.resetAudit\(\)/,
  );
  expect(audit(sound(), -0.1).warnings).toEqual([]);
});

test("evidence adds up over the steps, and resetting forgets it", () => {
  let state = NO_STEPS;
  const steps = () => {
    for (let step = 0; step < 40; step++) state = audit(sound(), -0.1, config, state).state as MartingaleState;
  };
  expect(steps).toThrow(/log M = 1\d\.\d after \d+ steps/);
  expect(state.steps).toBeGreaterThan(2); // 40 tokens a step with 0.1 nats each: 13.8 + log 8 + ... nats in 5 or 6
  expect(state.steps).toBeLessThan(8);
  expect(() => audit(sound(), -0.1, config, state)).toThrow();
  expect(audit(sound(), -0.1, config, NO_STEPS).warnings).toEqual([]);
});

test("a step in which every draw is the common token is no evidence: an exact KL of +0.17 in all", () => {
  // The batch that stopped the run of issue 10: 8 responses of 2 tokens, each of them log 0.98/0.96 likelier under the reference.
  const mask = new Uint8Array(16).fill(1);
  const responses = Array.from({ length: 8 }, () => Int32Array.of(1, 2));
  const logprobs = new Float32Array(16).fill(Math.log(0.96));
  const refLogprobs = new Float32Array(16).fill(Math.log(0.98));
  const batch = { rows: 8, width: 2, mask };
  const data = { ...sound(), queries: responses, responses, batch, logprobs, keptMass: Float64Array.from(mask) };
  const kl = klEstimates(logprobs, refLogprobs, batch);
  expect(kl.k1.standardError).toBeLessThan(1e-6); // what the audit of 0.1.0 took for certainty
  expect(kl.k1.mean).toBeLessThan(-0.04);
  const seen = { data, drawnLogprobs: logprobs, refLogprobs, kl, endTokens: [EOS] };
  expect(auditStep(NO_STEPS, seen, config, 1).metrics["audit/log_martingale"]).toBeLessThan(1);
});

describe("tokens drawn by another policy", () => {
  const data = sound();
  /** Ratios of alternately +spread and -spread around the mean. */
  const audited = (mean: number, spread: number, before = NO_STEPS) => {
    const seen = withKl(data, 0.1);
    const ratios = Array.from(data.batch.mask, (_, i) => mean + (i % 2 === 0 ? spread : -spread));
    const drawnLogprobs = seen.data.logprobs.map((x, i) => x - Math.log(ratios[i]));
    const importance = importanceWeights(seen.data.logprobs, drawnLogprobs, data.batch, 2);
    return auditStep(before, { ...seen, drawnLogprobs, importance }, config, 7);
  };

  test("weights that are 1 on average pass, however they are spread", () => {
    let state = NO_STEPS;
    for (let step = 0; step < 50; step++) state = audited(1, step % 2 ? 0.5 : 0, state).state as MartingaleState;
    expect(audited(1, 0.5, state).metrics["audit/log_importance"]).toBeLessThan(3);
  });

  test("weights above 1 on average stop the run; ones below prove nothing, for what was not drawn may make up for them", () => {
    expect(() => audited(1.8, 0.01)).toThrow(
      /^PPO step 7: found tokens that are not draws .*a mean importance weight of 1\.80\d\d\), .* Fix: the recorded log-probs are not those of the policy that drew the tokens/,
    );
    expect(audited(0.9, 0.01).warnings).toEqual([]);
  });

  test("the KL is measured from the policy that drew: the old policy's may be below zero", () => {
    const seen = withKl(data, -2);
    const drawnLogprobs = (seen.refLogprobs as Float32Array).map((x, i) => x + 0.1 * Math.sin(i) + 0.2);
    const importance = importanceWeights(seen.data.logprobs, drawnLogprobs, data.batch, 2);
    expect(auditStep(NO_STEPS, { ...seen, drawnLogprobs, importance }, config, 7).warnings).toEqual([]);
    expect(() => auditStep(NO_STEPS, seen, config, 7)).toThrow(/a mean KL of/);
  });
});

test("tokens counted after the end of text stop the run", () => {
  const data = sound();
  const padded = {
    ...data,
    keptMass: data.keptMass.map(() => 1),
    responses: [...data.responses.slice(0, 2), Int32Array.of(EOS, EOS, EOS), ...data.responses.slice(3)],
  };
  expect(() => audit(padded)).toThrow(
    "PPO step 7: found 2 tokens counted after the end of text (response 2, token 0), expected nothing after the first end of text. Fix: padding was taken for text: cut responses after their first end-of-text token",
  );
  expect(auditStep(NO_STEPS, { ...withKl(padded, 0.1), endTokens: [] }, config, 7).warnings).toEqual([]); // nothing ends a response
  const another = { ...withKl(padded, 0.1), endTokens: [42, EOS] };
  expect(() => auditStep(NO_STEPS, another, config, 7)).toThrow(/after the end of text/);
});

test("a token outside its kept set stops the run", () => {
  const data = sound();
  const kept = (response: number, id: number) =>
    packKept(
      Array.from(data.batch.mask, (_, i) =>
        i === response * W + 1 ? KeptSet.of(Int32Array.of(2, id), 10) : undefined,
      ),
    );
  expect(audit({ ...data, kept: kept(1, 4) }).warnings).toEqual([]);
  expect(() => audit({ ...data, kept: kept(1, 5) })).toThrow(
    "PPO step 7: found token 4 outside the set it was drawn from (response 1, token 1), expected a token of its kept set. Fix: pass responses as generate returned them",
  );
});

test.each([0, 1.01, Number.NaN, -0.1])(
  "a kept mass of %d stops the run; where there is no token it does not count",
  (mass) => {
    const data = sound();
    data.keptMass[4] = mass;
    expect(() => audit(data)).toThrow(
      `PPO step 7: found a kept set with probability ${mass} (response 1, token 1), expected above 0 and at most 1.`,
    );
    const padding = sound();
    padding.keptMass[7] = mass;
    expect(audit(padding).warnings).toEqual([]);
  },
);

test("a first ratio that is not 1 stops the run, and names mask replay when it is off", () => {
  expect(() => auditRatio(0.2, model, config, 1)).toThrow(
    /found a policy ratio 2\.00e-1 away from 1 .* weights that changed/,
  );
  expect(() => auditRatio(Number.NaN, model, config, 1)).toThrow(/policy ratio NaN away from 1/);
  expect(() => auditRatio(0.2, model, ppoConfig({ maskReplay: false }), 1)).toThrow(/maskReplay is off/);
});

describe("rounding that a ratio may show", () => {
  test("is that of logits over the temperature, times the repetition penalty", () => {
    const at = (temperature: number, repetitionPenalty = 1) =>
      ratioTolerance(model, { temperature, repetitionPenalty });
    expect(at(1)).toBeCloseTo(1e-3, 5);
    expect(at(0.05)).toBeCloseTo(2e-2, 4);
    expect(at(0.05, 1.5)).toBeCloseTo(3e-2, 4);
    expect(at(2)).toBeCloseTo(1e-3, 5);
    expect(auditRatio(5e-3, model, ppoConfig({ temperature: 0.05 }), 1)).toBeUndefined();
    expect(() => auditRatio(5e-3, model, config, 1)).toThrow(/expected 1 within 0\.001\. /);
  });

  test("grows with the logits, which no row of the head exceeds", async () => {
    const large = GPT2HeadWithValueModel.fromConfig(small, { seed: 2 });
    large.parameters.view("transformer.wte.weight").forEach((x, i, all) => {
      all[i] = 1e4 * x;
    });
    const { logits } = await large.forward({ inputIds: [[1, 2, 3, 4, 5, 6, 7]] });
    const largest = logits.data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const scale = logitScale(large.parameters, large);
    expect(scale).toBeGreaterThan(largest);
    expect(scale).toBeLessThan(20 * largest);
    expect(ratioTolerance(large, { temperature: 1, repetitionPenalty: 1 })).toBeGreaterThan(1.5e-3);
    large.dispose();
  });
});

test("audit warn says the same and goes on; off says nothing and forgets", () => {
  const { warnings, state } = audit(sound(), -2, ppoConfig({ audit: "warn" }));
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toMatch(
    /^found tokens that are not draws .*, expected log M below 13\.8.*\. the reference finds/,
  );
  expect(state?.steps).toBe(1);
  expect(auditRatio(0.2, model, ppoConfig({ audit: "warn" }), 1)).toMatch(/^found a policy ratio/);
  expect(audit(sound(), -2, ppoConfig({ audit: "off" }))).toEqual({ metrics: {}, warnings: [] });
  expect(auditRatio(0.2, model, ppoConfig({ audit: "off" }), 1)).toBeUndefined();
});
