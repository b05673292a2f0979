/** @file A learner: parts of a batch add up to the batch, one step is AdamW's with the clipped sum, what is frozen stays. */
import { afterAll, describe, expect, test } from "vitest";
import { Learner, type LearnerOptions } from "../../../src/algorithms/learner.ts";
import { languageModelLoss } from "../../../src/algorithms/losses.ts";
import { Engine } from "../../../src/backend/engine.ts";
import { OrtNode } from "../../../src/backend/ort-node.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { ParameterBuffer } from "../../../src/model/parameters.ts";
import { AdamW, globalNorm } from "../../../src/nn/adamw.ts";
import { hidden } from "../../support/backends.ts";

const config = makeConfig({ vocabSize: 19, nPositions: 8, nEmbd: 8, nLayer: 2, nHead: 2 });
const models: GPT2HeadWithValueModel[] = [];
const newModel = (engine = new Engine({ threads: 1 })) => {
  models.push(GPT2HeadWithValueModel.fromConfig(config, { engine, seed: 2 }));
  return models[models.length - 1];
};
/** Where weights, gradients and moments lie: the host's loops compute, or programs. */
const places: [string, () => Engine][] = [
  ["the host", () => new Engine({ threads: 1 })],
  ["a device that keeps them", () => Engine.over(hidden(new OrtNode({ threads: 1 }), true))],
];
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

describe.each(places)("on %s", (_, engine) => {
  test.each([
    [false, false],
    [true, false],
    [false, true],
  ])("parts add up; steps are AdamW's with the clipped sum (recomputing %s, apart %s)", async (again, apart) => {
    const { model, grads } = await whole();
    const reference = new AdamW(model.parameters.table, options.optimizer);
    const learner = new Learner(newModel(engine()), { ...options, gradientCheckpointing: again });
    learner.sumsApart = apart;
    for (const step of [1, 2]) {
      for (const [b0, b1] of [
        [0, 1],
        [1, 3],
        [3, 4],
      ])
        await learner.accumulate(...part(b0, b1));
      await model.lossAndGradients(...part(0, 4), grads);
      const norm = globalNorm(grads.data);
      expect(norm).toBeGreaterThan(2 * options.maxGradNorm); // it is clipped
      expect(await learner.gradNorm()).toBeCloseTo(norm, step === 1 ? 6 : 4);
      await learner.grads.refresh();
      expect(worst(learner.grads.data, grads.data)).toBeLessThan(step === 1 ? 1e-6 : 1e-5);
      const before = model.parameters.data.slice();
      const facts = await learner.apply();
      reference.update(model.parameters, grads.data, options.maxGradNorm / norm);
      await learner.model.parameters.refresh();
      expect(worst(learner.model.parameters.data, model.parameters.data)).toBeLessThan(1e-5);
      const moved = Math.hypot(...model.parameters.data.map((x, i) => x - before[i]));
      expect(facts.updateNorm / moved).toBeCloseTo(1, 3);
      expect(facts).toMatchObject({ spoiled: undefined, gradNorm: expect.closeTo(norm, 4) });
    }
    await learner.optimizer.refresh();
    for (const name of ["m", "v"] as const)
      expect(worst(learner.optimizer.state[name]!, reference.state[name]!), name).toBeLessThan(1e-6);
  });

  test("a gradient that was made elsewhere is added", async () => {
    const { grads } = await whole();
    const learner = new Learner(newModel(engine()), options);
    for (const [b0, b1] of [
      [0, 2],
      [2, 4],
    ]) {
      const { grads: numbers, ...scores } = await learner.gradient(...part(b0, b1));
      await learner.add({ ...scores, grads: numbers.slice() });
    }
    await learner.grads.refresh();
    expect(worst(learner.grads.data, grads.data)).toBeLessThan(1e-6);
  });

  test("what is not finite is said once, by name, until a new sum begins", async () => {
    const learner = new Learner(newModel(engine()), { ...options, name: "the second" });
    const [asked, loss, { weight }] = part(0, 4);
    await learner.accumulate(asked, loss, { weight: weight.map(() => Number.NaN) });
    await learner.accumulate(asked, loss, { weight });
    expect(learner.badScores).toBe("the second: the loss (NaN)");
    expect(await learner.badGradient()).toMatch(/^the second: the gradient of transformer\./);
    learner.discard();
    await learner.accumulate(asked, loss, { weight });
    expect([learner.badScores, await learner.badGradient()]).toEqual([undefined, undefined]);
    learner.optimizer.options.learningRate = Number.POSITIVE_INFINITY;
    expect((await learner.apply()).spoiled).toMatch(
      /^the second: the weight transformer\..* after the optimizer step$/,
    );
  });
});

test("a device's moments are read after refresh, and not before", async () => {
  const learner = new Learner(newModel(places[1][1]()), options);
  await learner.accumulate(...part(0, 4));
  await learner.apply();
  expect(() => learner.optimizer.state).toThrow(
    "the optimizer's state: found moments that were changed on the GPU since the host read them, expected the host's copy to be up to " +
      "date before it is used. Fix: await optimizer.refresh() first",
  );
  await learner.optimizer.refresh();
  const { step, m, v } = learner.optimizer.state;
  expect([step, m?.some((x) => x !== 0), v?.some((x) => x !== 0)]).toEqual([1, true, true]);
});

describe("of a model of some size", () => {
  const larger = makeConfig({ vocabSize: 19, nPositions: 8, nEmbd: 192, nLayer: 2, nHead: 2 });
  const open = (toTrain?: boolean) => GPT2HeadWithValueModel.fromConfig(larger, { threads: 1, seed: 2, toTrain });

  /** After a step of a new learner: which arrays lie in the same memory as the gradients. */
  async function beside(model: GPT2HeadWithValueModel, learner = new Learner(model, options)) {
    await learner.accumulate(...part(0, 4));
    await learner.apply();
    const { m, v } = learner.optimizer.state;
    const arrays = { weights: model.parameters, m, v };
    return Object.entries(arrays).flatMap(([name, at]) => (at?.buffer === learner.grads.buffer ? name : []));
  }

  test("gradients and moments lie together; where a run trains it, beside its weights; the bits are the same", async () => {
    const [used, trained, twice] = [open(), open(true), open(true)];
    models.push(used, trained, twice);
    expect(await beside(used)).toEqual(["m", "v"]);
    expect(await beside(trained)).toEqual(["weights", "m", "v"]);
    const [a, b] = [used, trained].map(({ parameters: { data } }) => Buffer.from(data.slice().buffer));
    expect(a.equals(b)).toBe(true);
    const [first, second] = [0, 1].map(() => new Learner(twice, options)); // there is room for one
    expect(await beside(twice, second)).toEqual(["m", "v"]);
    expect(await beside(twice, first)).toEqual(["weights", "m", "v"]);
  });

  test("moments of a checkpoint are read to where a step needs no copy of them", () => {
    const model = open();
    models.push(model);
    const { optimizer, grads } = new Learner(model, options);
    const { m, v } = optimizer.moments();
    expect([m, v].map(({ buffer }) => buffer === grads.buffer)).toEqual([true, true]);
    optimizer.setState({ step: 3, m, v });
    const begun = optimizer.begin(1);
    expect([begun.m === m, begun.v === v]).toEqual([true, true]);
  });
});

test("after a step, and after discard, a new sum begins", async () => {
  const { grads } = await whole();
  const learner = new Learner(newModel(), { ...options, optimizer: { learningRate: 0 } }); // the weights stay
  await learner.accumulate(...part(0, 2));
  await learner.apply();
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
  await learner.apply();
  for (const [name, values] of before) {
    const frozen = /\.(wte|wpe|h\.0)\./.test(name);
    expect([name, trained.includes(name)]).toEqual([name, !frozen]);
    if (frozen) expect([name, worst(parameters.view(name), values)]).toEqual([name, 0]);
  }
  const moved = "transformer.h.1.mlp.c_fc.weight";
  expect(worst(parameters.view(moved), before.get(moved)!)).toBeGreaterThan(0);
});
