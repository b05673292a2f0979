/** @file Policy, reference and value model are told apart by the memory of their weights. */
import { afterAll, expect, test } from "vitest";
import { PPOTrainer } from "../../../src/algorithms/ppo.ts";
import { builtInRewards } from "../../../src/experience/reward-functions.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { generate } from "../../../src/sample/generate.ts";
import { tokenizer } from "../../support/ppo.ts";

const made: GPT2HeadWithValueModel[] = [];
const newModel = (change = {}) => {
  const config = makeConfig({
    vocabSize: 8192,
    nEmbd: 8,
    nLayer: 3,
    nHead: 1,
    nPositions: 16,
    eosTokenId: 8191,
    ...change,
  });
  const model = GPT2HeadWithValueModel.fromConfig(config, { seed: 1, threads: 1 });
  made.push(model);
  return model;
};
afterAll(() => {
  for (const model of made) model.dispose();
});
const reward = builtInRewards.length;
const trainer = (model: GPT2HeadWithValueModel, reference?: GPT2HeadWithValueModel, config = {}) =>
  new PPOTrainer({
    model,
    tokenizer,
    reward,
    reference,
    config: { batchSize: 1, miniBatchSize: 1, maxNewTokens: 4, ...config },
  });

test("the model itself is no reference", () => {
  const model = newModel();
  expect(() => trainer(model, model)).toThrow(
    "PPOTrainer, reference: found the model itself, expected weights that do not change while the policy is trained",
  );
});

test("nor is another model of the same parameters, or one that shares a trained layer", () => {
  const model = newModel();
  const twin = Object.assign(Object.create(Object.getPrototypeOf(model)), { ...model, config: { ...model.config } });
  expect(() => trainer(model, twin)).toThrow(/shares transformer.wte.weight with the policy/);
  expect(() => trainer(model, model.frozenCopy(1))).toThrow(/shares transformer.wte.weight/);
  expect(() => trainer(model, model.frozenCopy(2), { frozenLayers: 1 })).toThrow(/shares transformer.h.1.ln_1.weight/);
  // The other way round: the policy is the copy.
  expect(() => trainer(model.frozenCopy(2), model, { frozenLayers: 1 })).toThrow(/with weights of its own/);
});

test("frozen layers may be shared, and copies are references", () => {
  const model = newModel();
  trainer(model, model.frozenCopy());
  trainer(model, model.frozenCopy(2), { frozenLayers: 2 });
  trainer(model, model.frozenCopy(1), { frozenLayers: 2 });
  trainer(model.frozenCopy(2), model, { frozenLayers: 2 });
  trainer(model, model.frozenCopy(2), { frozenLayers: 2, valueModel: "separate" });
  trainer(model, newModel());
});

test("a policy that shares what would be trained is refused", () => {
  expect(() => trainer(newModel().frozenCopy(1))).toThrow(/found a copy that shares its first layers/);
});

test("a reference with another vocabulary is refused before anything is sampled", () => {
  expect(() => trainer(newModel(), newModel({ vocabSize: 8200 }))).toThrow(/a vocabulary of 8200, expected 8192/);
});

test("one step at a time on one model, whoever takes it", async () => {
  const model = newModel();
  const [first, second] = [trainer(model), trainer(model)];
  const { queries, responses } = await generate(model, [[1, 2]], first.sampling());
  const both = await Promise.allSettled([
    first.step(queries, responses, [1]),
    second.step(queries, responses, [1]),
    first.step(queries, responses, [1]),
  ]);
  expect(both.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected"]);
  expect((both[1] as PromiseRejectedResult).reason.message).toMatch(/a step on a model whose last step has not ended/);
  const again = await generate(model, queries, second.sampling());
  await second.step(queries, again.responses, [1]); // one after another is fine
});
