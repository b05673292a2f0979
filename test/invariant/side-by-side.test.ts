/** @file Responses that share rows, and a prompt with others, are to the model what they are alone: log-probs, values, gradients. */
import { afterAll, describe, expect, test } from "vitest";
import { ppoLoss } from "../../src/algorithms/losses.ts";
import { RNG } from "../../src/base/rng.ts";
import { ask, pick } from "../../src/experience/ask.ts";
import { experience } from "../../src/experience/experience.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { generate } from "../../src/sample/generate.ts";
import { familyNames, tinyModel } from "../support/families.ts";
import { maxDifference } from "../support/golden.ts";
import { commonToken, prompts } from "../support/prompts.ts";

describe.each(familyNames)("%s", async (family) => {
  const model = await tinyModel(family, { threads: 2 });
  afterAll(() => model.dispose());
  const table = model.parameters.table.filter(({ rounded }) => !rounded);
  const loss = ppoLoss({ clipRange: 0.2, clipRangeValue: 0.2, vfCoef: 0.1, entropyCoef: 0.01 });

  test("as each row alone", async () => {
    const queries = prompts(model.sizes.vocabSize, [11, 4, 7]);
    const options = { maxNewTokens: 9, numReturnSequences: 4, eosTokenId: await commonToken(model, queries), seed: 3 };
    const rollout = await generate(model, queries, options);
    const data = experience([rollout]);
    const rows = [4, 0, 9, 11, 1, 2, 8, 3, 6, 10]; // in any order, groups not whole
    const { asked, index } = ask(data, rows, model.sizes.context, rollout.adjustments);
    const { B, T, positions } = asked.tokens;
    expect(positions).toBeDefined();
    expect(B * T).toBeLessThan(rows.length * 20); // of which the longest alone has 19 or 20
    const rng = new RNG(5);
    const noise = () => Float32Array.from(data.logprobs, () => rng.normal());
    const given = { advantages: noise(), oldValues: data.values, returns: noise(), oldLogprobs: data.logprobs };
    const inputs = (places: Int32Array) => ({
      ...Object.fromEntries(Object.entries(given).map(([name, array]) => [name, pick(array, places)])),
      weight: new Float32Array(places.length).fill(1 / index.length),
    });
    const together = new ParameterBuffer(table);
    const scores = await model.lossAndGradients(asked, loss, inputs(index), together);

    const alone = new ParameterBuffer(table);
    let at = 0;
    for (const [i, row] of rows.entries()) {
      const one = ask(data, [row], model.sizes.context, rollout.adjustments);
      expect(one.asked.tokens.positions).toBeUndefined();
      const own = await model.lossAndGradients(one.asked, loss, inputs(one.index), alone, i > 0);
      for (const name of ["logprobs", "values", "entropies"] as const)
        expect(maxDifference(scores[name].subarray(at, at + one.index.length), own[name]), name).toBeLessThan(1e-5);
      at += one.index.length;
    }
    expect(at).toBe(index.length);
    for (const { name } of table) {
      const [a, b] = [together.view(name), alone.view(name)];
      const scale = Math.max(1e-2, ...b.map(Math.abs));
      expect(maxDifference(a, b) / scale, name).toBeLessThan(2e-5);
    }
  });
});
