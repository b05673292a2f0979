/** @file The first minibatch of PPO: before any update the ratio of new to old probabilities is 1, however it was sampled. */
import { afterAll, expect, test } from "vitest";
import { Rng } from "../../src/base/rng.ts";
import { GPT2HeadWithValueModel } from "../../src/gpt2/model.ts";
import { ParameterBuffer } from "../../src/gpt2/parameters.ts";
import { ppoLoss } from "../../src/rl/losses.ts";
import { generate } from "../../src/sample/generate.ts";
import { ask, experience, pick } from "../../src/train/batch.ts";
import { tinyDir } from "../support/golden.ts";

const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 2 });
const grads = new ParameterBuffer(model.parameters.table);
const loss = ppoLoss({ clipRange: 0.2, clipRangeValue: 0.2, vfCoef: 0.1, entropyCoef: 0.01 });
const rng = new Rng(3);
const queries = [5, 2, 9, 1, 7, 7].map((length) => Int32Array.from({ length }, () => rng.int(100)));

afterAll(() => model.dispose());

/** Drawn often after these prompts: as eos it ends some responses early. */
const eosTokenId = await (async () => {
  const { responses } = await generate(model, queries, { maxNewTokens: 20, eosTokenId: null, seed: 99 });
  const counts = new Array(model.config.vocabSize).fill(0);
  for (const { tokens } of responses) for (const id of tokens) counts[id]++;
  return counts.indexOf(Math.max(...counts));
})();

let ended = 0;
let cut = 0;

/** The largest |ratio - 1| over all response tokens. */
async function worstRatio(
  sampling: { temperature: number; topK: number; topP: number },
  minNewTokens: number,
  replay = true,
) {
  // Two rollouts make one batch, as they do in a training step; a minibatch takes the rows in any order.
  const options = { ...sampling, minNewTokens, maxNewTokens: 14, eosTokenId };
  const rollouts = [
    await generate(model, queries.slice(0, 3), { ...options, seed: 1 }),
    await generate(model, queries.slice(3), { ...options, seed: 2 }),
  ];
  for (const r of rollouts.flatMap((x) => x.responses)) r.finished ? ended++ : cut++;
  const data = experience(rollouts);
  const { asked, index } = ask(data, [4, 0, 5, 2, 1, 3], model.config.nPositions);
  expect(index.length).toBe(rollouts.flatMap((x) => x.responses).reduce((n, r) => n + r.tokens.length, 0));
  const n = index.length;
  const oldLogprobs = pick(data.logprobs, index);
  const inputs = {
    oldLogprobs,
    weight: new Float32Array(n).fill(1 / n),
    advantages: Float32Array.from({ length: n }, () => rng.normal()),
    oldValues: pick(data.values, index),
    returns: Float32Array.from({ length: n }, () => rng.normal()),
  };
  const distribution = replay ? asked.distribution : { temperature: asked.distribution.temperature };
  const result = await model.lossAndGradients({ ...asked, distribution }, loss, inputs, grads);
  expect(grads.data.every(Number.isFinite)).toBe(true);
  return Math.max(...Array.from(result.logprobs, (x, i) => Math.abs(Math.exp(x - oldLogprobs[i]) - 1)));
}

const grid = [0.7, 1, 1.3].flatMap((temperature) =>
  [0, 5, 50].flatMap((topK) => [1, 0.9, 0.5].map((topP) => ({ temperature, topK, topP }))),
);

test.each(grid)("temperature $temperature, top-k $topK, top-p $topP", async (sampling) => {
  for (const minNewTokens of [0, 8]) expect(await worstRatio(sampling, minNewTokens)).toBeLessThan(1e-4);
});

test("some responses ended with eos and some did not", () => {
  expect(ended).toBeGreaterThan(20);
  expect(cut).toBeGreaterThan(20);
});

test("it sees kept sets that are left out", async () => {
  expect(await worstRatio({ temperature: 1, topK: 0, topP: 0.9 }, 0, false)).toBeGreaterThan(0.05);
  expect(await worstRatio({ temperature: 1, topK: 0, topP: 1 }, 8, false)).toBeGreaterThan(1e-3);
});
