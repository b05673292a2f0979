/** @file A learner: parts of a batch add up to the batch, one step is AdamW's with the clipped sum, what is frozen stays. */
import { afterAll, describe, expect, test } from "vitest";
import { Learner, type LearnerOptions } from "../../../src/algorithms/learner.ts";
import { languageModelLoss } from "../../../src/algorithms/losses.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { ParameterBuffer } from "../../../src/model/parameters.ts";
import { AdamW, globalNorm } from "../../../src/nn/adamw.ts";

const config = makeConfig({ vocabSize: 19, nPositions: 8, nEmbd: 8, nLayer: 2, nHead: 2 });
const models: GPT2HeadWithValueModel[] = [];
const newModel = () => {
  models.push(GPT2HeadWithValueModel.fromConfig(config, { threads: 1, seed: 2 }));
  return models[models.length - 1];
};
afterAll(() => {
  for (const model of models) model.dispose();
});

/** Sequences b0 ... b1 - 1 of four, each of 5 tokens; a token's weight is that in the mean over all four. */
function part(b0: number, b1: number) {
  const [B, T] = [b1 - b0, 5];
  const id = (b: number, t: number) => (7 * b + 3 * t + b * t) % 19;
  const at = (n: number) => [b0 + Math.floor(n / T), n % T] as const;
  const ids = Int32Array.from({ length: B * T }, (_, n) => id(...at(n)));
  const next = Int32Array.from({ length: B * T }, (_, n) => id(at(n)[0], at(n)[1] + 1));
  const rows = Int32Array.from({ length: B * T }, (_, n) => n);
  const asked = { tokens: { ids, B, T }, rows, ids: next, distribution: { temperature: 1 } };
  return [asked, languageModelLoss, { weight: new Float32Array(B * T).fill(1 / 20) }] as const;
}
const options: LearnerOptions = { optimizer: { learningRate: 0.01, weightDecay: 0.1 }, maxGradNorm: 0.05 };
const worst = (a: Float32Array, b: Float32Array) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);

/** The gradient of the mean loss over all four sequences, from one pass. */
async function whole() {
  const model = newModel();
  const grads = new ParameterBuffer(model.parameters.table);
  await model.lossAndGradients(...part(0, 4), grads);
  return { model, grads };
}

describe.each([false, true])("gradientCheckpointing %s", (gradientCheckpointing) => {
  test("parts add up; one step is AdamW's with the clipped sum", async () => {
    const { model, grads } = await whole();
    const learner = new Learner(newModel(), { ...options, gradientCheckpointing });
    for (const [b0, b1] of [
      [0, 1],
      [1, 3],
      [3, 4],
    ])
      await learner.accumulate(...part(b0, b1));
    expect(worst(learner.grads.data, grads.data)).toBeLessThan(1e-6);
    const norm = globalNorm(grads.data);
    expect(norm).toBeGreaterThan(2 * options.maxGradNorm); // it is clipped
    expect(learner.gradNorm).toBeCloseTo(norm, 6);
    const before = model.parameters.data.slice();
    const facts = learner.apply();
    new AdamW(model.parameters.table, options.optimizer).update(
      model.parameters,
      grads.data,
      options.maxGradNorm / norm,
    );
    expect(worst(learner.model.parameters.data, model.parameters.data)).toBeLessThan(1e-5);
    const moved = Math.hypot(...model.parameters.data.map((x, i) => x - before[i]));
    expect(facts.updateNorm / moved).toBeCloseTo(1, 3);
    expect(facts).toMatchObject({ spoiled: undefined, gradNorm: expect.closeTo(norm, 6) });
  });
});

test("after a step, and after discard, a new sum begins", async () => {
  const { grads } = await whole();
  const learner = new Learner(newModel(), { ...options, optimizer: { learningRate: 0 } }); // the weights stay
  await learner.accumulate(...part(0, 2));
  learner.apply();
  await learner.accumulate(...part(1, 3));
  learner.discard();
  await learner.accumulate(...part(0, 4));
  expect(worst(learner.grads.data, grads.data)).toBeLessThan(1e-6);
  expect(learner.optimizer.step).toBe(1);
});

test("embeddings and blocks that are frozen have no gradients, and stay", async () => {
  const { grads } = await whole();
  const learner = new Learner(newModel(), { ...options, frozenLayers: 1 });
  const { parameters } = learner.model;
  const before = new Map(parameters.table.map(({ name }) => [name, parameters.view(name).slice()]));
  await learner.accumulate(...part(0, 4));
  const trained = learner.grads.table.map(({ name }) => name);
  expect(trained).toContain("transformer.h.1.ln_1.weight");
  for (const name of trained) expect(worst(learner.grads.view(name), grads.view(name)), name).toBeLessThan(1e-6);
  learner.apply();
  for (const [name, values] of before) {
    const frozen = /\.(wte|wpe|h\.0)\./.test(name);
    expect([name, trained.includes(name)]).toEqual([name, !frozen]);
    if (frozen) expect([name, worst(parameters.view(name), values)]).toEqual([name, 0]);
  }
  const moved = "transformer.h.1.mlp.c_fc.weight";
  expect(worst(parameters.view(moved), before.get(moved)!)).toBeGreaterThan(0);
});

test("what is not finite is said once, by name, until a new sum begins", async () => {
  const learner = new Learner(newModel(), { ...options, name: "the second" });
  const [asked, loss, { weight }] = part(0, 4);
  await learner.accumulate(asked, loss, { weight: weight.map(() => Number.NaN) });
  await learner.accumulate(asked, loss, { weight });
  expect(learner.badScores).toBe("the second: the loss (NaN)");
  expect(learner.badGradient).toMatch(/^the second: the gradient of transformer\./);
  learner.discard();
  await learner.accumulate(asked, loss, { weight });
  expect([learner.badScores, learner.badGradient]).toEqual([undefined, undefined]);
});
