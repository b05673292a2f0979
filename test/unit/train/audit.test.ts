/** @file Each breach of the audit, made on purpose. */
import { describe, expect, test } from "vitest";
import { type ImportanceWeights, importanceWeights } from "../../../src/rl/importance.ts";
import { klEstimates } from "../../../src/rl/kl.ts";
import { auditExperience, auditRatio } from "../../../src/train/audit.ts";
import type { Experience } from "../../../src/train/batch.ts";
import { ppoConfig } from "../../../src/train/config.ts";

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
    adjustments: undefined as never,
    kept: [],
    keptMass: Float64Array.from(mask, (m) => 0.8 * m),
  };
}
/** log-probs that lie above or below the reference's by `shift` nats per token, with some spread. */
const kl = (data: Experience, shift: number) =>
  klEstimates(
    Float32Array.from(data.batch.mask, (_, i) => shift + 0.1 * Math.sin(i)),
    new Float32Array(data.batch.mask.length),
    data.batch,
  );
const config = ppoConfig();
const audit = (data: Experience, shift = 0.1, options = config) =>
  auditExperience(data, kl(data, shift), [EOS], options, 7);

test("a sound batch passes", () => {
  expect(audit(sound())).toBeUndefined();
  expect(auditRatio(2e-5, config, 7)).toBeUndefined();
});

test("a negative KL stops the run, unless it is within sampling noise", () => {
  expect(() => audit(sound(), -2)).toThrow(
    /^PPO step 7: found a mean KL of -\d\.\d+ with a standard error of \d\.\d+, expected a mean KL that is not below zero\. Fix: responses are not samples/,
  );
  expect(audit(sound(), -0.02)).toBeUndefined();
});

describe("tokens drawn by another policy", () => {
  const data = sound();
  /** Ratios of alternately +spread and -spread around the mean. */
  const weights = (mean: number, spread: number) => {
    const ratios = Array.from(data.batch.mask, (_, i) => mean + (i % 2 === 0 ? spread : -spread));
    return importanceWeights(ratios.map(Math.log), new Float32Array(ratios.length), data.batch, 2);
  };
  const audited = (importance: ImportanceWeights, shift = 0.1) =>
    auditExperience(data, kl(data, shift), [EOS], config, 7, importance);

  test("weights that are 1 on average pass", () => {
    expect(audited(weights(1, 0))).toBeUndefined();
    expect(audited(weights(1.1, 0.5))).toBeUndefined();
  });

  test("weights that are not stop the run", () => {
    expect(() => audited(weights(1.1, 0.01))).toThrow(
      /^PPO step 7: found a mean importance weight of 1\.10\d\d with a standard error of 0\.00\d\d, expected 1 within 5 standard errors\. Fix: the recorded log-probs are not those of the policy that drew the tokens/,
    );
    expect(() => audited(weights(0.9, 0.01))).toThrow(/mean importance weight of 0\.9/);
  });

  test("the KL may lie below zero by that between the two policies", () => {
    const apart = { ...weights(1, 0.2), kl: 6.5 };
    expect(() => audited({ ...apart, kl: 0 }, -2)).toThrow(/a mean KL of/);
    expect(audited(apart, -2)).toBeUndefined();
  });
});

test("tokens counted after the end of text stop the run", () => {
  const data = sound();
  const padded = {
    ...data,
    responses: [...data.responses.slice(0, 2), Int32Array.of(EOS, EOS, EOS), data.responses[3]],
  };
  expect(() => audit(padded)).toThrow(
    "PPO step 7: found 2 tokens counted after the end of text (response 2, token 0), expected nothing after the first end of text. Fix: padding was taken for text: cut responses after their first end-of-text token",
  );
  expect(auditExperience(padded, kl(padded, 0.1), [], config, 7)).toBeUndefined(); // nothing ends a response
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
    expect(audit(padding)).toBeUndefined();
  },
);

test("a first ratio that is not 1 stops the run, and names mask replay when it is off", () => {
  expect(() => auditRatio(0.2, config, 1)).toThrow(/found a policy ratio 2\.00e-1 away from 1 .* weights that changed/);
  expect(() => auditRatio(Number.NaN, config, 1)).toThrow(/policy ratio NaN away from 1/);
  expect(() => auditRatio(0.2, ppoConfig({ maskReplay: false }), 1)).toThrow(/maskReplay is off/);
});

test("audit warn says the same and goes on; off says nothing", () => {
  const warning = audit(sound(), -2, ppoConfig({ audit: "warn" }));
  expect(warning).toMatch(
    /^found a mean KL of .*, expected a mean KL that is not below zero\. responses are not samples/,
  );
  expect(auditRatio(0.2, ppoConfig({ audit: "warn" }), 1)).toMatch(/^found a policy ratio/);
  expect(audit(sound(), -2, ppoConfig({ audit: "off" }))).toBeUndefined();
  expect(auditRatio(0.2, ppoConfig({ audit: "off" }), 1)).toBeUndefined();
});
