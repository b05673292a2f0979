/** @file The first minibatch of PPO: before any update the ratio of new to old probabilities is 1, however it was sampled. */
import { afterAll, describe, expect, test } from "vitest";
import { ppoLoss } from "../../src/algorithms/losses.ts";
import { RNG } from "../../src/base/rng.ts";
import { ask, pick } from "../../src/experience/ask.ts";
import { experience } from "../../src/experience/experience.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { meanAndStandardError } from "../../src/rl/kl.ts";
import { generate } from "../../src/sample/generate.ts";
import type { SamplingOptions } from "../../src/sample/token-sampler.ts";
import type { Transform } from "../../src/sample/transforms.ts";
import { familyNames, tinyModel } from "../support/families.ts";

describe.each(familyNames)("%s", async (family) => {
  const model = await tinyModel(family, { threads: 2 });
  const grads = new ParameterBuffer(model.parameters.table.filter(({ rounded }) => !rounded));
  const loss = ppoLoss({ clipRange: 0.2, clipRangeValue: 0.2, vfCoef: 0.1, entropyCoef: 0.01 });
  const rng = new RNG(3);
  const queries = [5, 2, 9, 1, 7, 7].map((length) => Int32Array.from({ length }, () => rng.int(100)));

  afterAll(() => model.dispose());

  /** Drawn often after these prompts: as eos it ends some responses early. */
  const eosTokenId = await (async () => {
    const { responses } = await generate(model, queries, { maxNewTokens: 20, eosTokenId: null, seed: 99 });
    const counts = new Array(model.sizes.vocabSize).fill(0);
    for (const { tokens } of responses) for (const id of tokens) counts[id]++;
    return counts.indexOf(Math.max(...counts));
  })();

  let ended = 0;
  let cut = 0;

  /** The largest |ratio - 1| over all response tokens. */
  async function worstRatio(sampling: Partial<SamplingOptions>, minNewTokens: number, replay = true) {
    // Two rollouts make one batch, as they do in a training step; a minibatch takes the rows in any order.
    const options = { ...sampling, minNewTokens, maxNewTokens: 14, eosTokenId };
    const rollouts = [
      await generate(model, queries.slice(0, 3), { ...options, seed: 1 }),
      await generate(model, queries.slice(3), { ...options, seed: 2 }),
    ];
    for (const r of rollouts.flatMap((x) => x.responses)) r.finished ? ended++ : cut++;
    const data = experience(rollouts);
    const { asked, index } = ask(data, [4, 0, 5, 2, 1, 3], model.sizes.context, rollouts[0].adjustments);
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
    const distribution = replay ? asked.distribution : { ...asked.distribution, kept: undefined };
    const result = await model.lossAndGradients({ ...asked, distribution }, loss, inputs, grads);
    expect(grads.data.every(Number.isFinite)).toBe(true);
    return Math.max(...Array.from(result.logprobs, (x, i) => Math.abs(Math.exp(x - oldLogprobs[i]) - 1)));
  }

  const whole = [0.7, 1, 1.3].flatMap((temperature) =>
    [0, 5, 50].flatMap((topK) =>
      [1, 0.9, 0.5].flatMap((topP) =>
        [1, 1.2].map((repetitionPenalty) => ({ temperature, topK, topP, repetitionPenalty })),
      ),
    ),
  );
  // GPT-2 takes all of it, the others a third each; in sampling.test.ts they take all of it.
  const part = familyNames.indexOf(family);
  const grid = whole.filter((_, i) => part === 0 || i % 3 === part % 3);
  const name = "temperature $temperature, top-k $topK, top-p $topP, repetition penalty $repetitionPenalty";
  test.each(grid)(name, async (sampling) => {
    for (const minNewTokens of [0, 8]) expect(await worstRatio(sampling, minNewTokens)).toBeLessThan(1e-4);
  });

  const even: Transform = {
    kind: "truncate",
    name: "even",
    dependsOnTokens: false,
    keep: ({ candidates }) => candidates?.filter((id) => id % 2 === 0 || id % 3 === 0),
  };
  const likeTheLast: Transform = {
    kind: "adjust",
    name: "like the last",
    dependsOnTokens: true,
    bias: ({ prompt, response }) => ({
      ids: Int32Array.of(response.at(-1) ?? (prompt.at(-1) as number)),
      values: Float32Array.of(1 + response.length / 10),
    }),
  };
  test.each<Partial<SamplingOptions>>([
    { minP: 0.05 },
    { bannedTokens: [1, 2, 50] },
    { forcedTokens: { 0: 7, 3: 9 } },
    { bias: { ids: Int32Array.of(5, 6), values: Float32Array.of(1.5, -2) }, temperature: 0.8 },
    { transforms: [likeTheLast] },
    { topP: 0.95, transforms: [likeTheLast, even], repetitionPenalty: 0.8, minP: 0.01, bannedTokens: [3] },
  ])("also with %o", async (sampling) => {
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

  // The published figure is 0.8 at top-p 0.8 (huggingface/trl issue 6789); the kept mass is a little over p.
  test.each([0.95, 0.8, 0.5])(
    "without replay the mean ratio at top-p %d is about the kept mass, with replay 1",
    async (topP) => {
      const many = Array.from({ length: 64 }, (_, b) => queries[b % queries.length]);
      const rollout = await generate(model, many, { topP, maxNewTokens: 16, eosTokenId: null });
      const ratios = async (maskReplay: boolean) => {
        const data = experience([rollout], maskReplay);
        const { asked, index } = ask(
          data,
          many.map((_, b) => b),
          model.sizes.context,
          rollout.adjustments,
        );
        const { logprobs } = await model.score(asked);
        const old = pick(data.logprobs, index);
        return {
          ratios: logprobs.map((x, i) => Math.exp(x - old[i])),
          mass: Float64Array.from(index, (j) => data.keptMass[j]),
        };
      };
      const { ratios: without, mass } = await ratios(false);
      const kept = meanAndStandardError(mass);
      expect(Math.abs(meanAndStandardError(without).mean - kept.mean)).toBeLessThan(1e-4); // p / (p / mass), token by token
      expect(kept.mean).toBeGreaterThan(topP);
      expect(kept.mean).toBeLessThan(topP + 0.12);
      const { ratios: replayed } = await ratios(true);
      expect(Math.abs(meanAndStandardError(replayed).mean - 1)).toBeLessThan(1e-5);
    },
  );
});
