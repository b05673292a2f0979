/** @file Sampling in int8: near the model, the same for a row in any batch, recorded as drawn, and corrected when learned from. */
import { afterAll, describe, expect, test } from "vitest";
import { ppoLoss } from "../../src/algorithms/losses.ts";
import { ppoConfig } from "../../src/algorithms/options/config.ts";
import { ask } from "../../src/experience/ask.ts";
import { experience } from "../../src/experience/experience.ts";
import { rescore, weightTargets } from "../../src/experience/rescore.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel, loadModel } from "../../src/families/index.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { packagePath } from "../../src/platform/files.ts";
import { importanceWeights } from "../../src/rl/importance.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { generate } from "../../src/sample/generate.ts";
import { int8Weights } from "../../src/sample/quantized-weights.ts";
import type { DecodingWeights } from "../../src/sample/weights.ts";
import { familyNames, type Model, smallModel } from "../support/families.ts";
import { maxDifference, relativeError, tinyDir } from "../support/golden.ts";
import { commonToken, prompts } from "../support/prompts.ts";

describe.each(familyNames)("%s", async (family) => {
  const model: Model =
    family === "gpt2"
      ? await loadModel(packagePath("models", "tiny"), { threads: 1 })
      : smallModel(family, { vocabSize: 1013, context: 48, initializerRange: 0.15 }, { threads: 1, seed: 8 });
  const { vocabSize: V } = model.sizes;
  const weights = int8Weights(model);
  afterAll(() => {
    weights.release();
    model.dispose();
  });

  const ragged = prompts(V, [4, 1, 9, 6]);
  const steps = [[3, 11, 7, 5].map((x) => x + 300), [9, 2, 4, 8].map((x) => x + 500)];

  /** Logits [B, V] after the prompts, and after one more token in each row, and another. */
  async function decoded(using: DecodingWeights | undefined, rows: readonly number[]) {
    const decoder = new Decoder(model, rows.length, 14, using);
    await decoder.prefill(rows.map((b) => ragged[b]));
    const all = [decoder.logits.slice()];
    for (const next of steps) {
      await decoder.step(Int32Array.from(rows, (b) => next[b]));
      all.push(decoder.logits.slice());
    }
    decoder.release();
    return all;
  }

  /** Spread of the errors over the spread of the logits, which is what a softmax sees. */
  function logitError(got: Float32Array, want: Float32Array): number {
    let worst = 0;
    for (let b = 0; b * V < want.length; b++) {
      const [g, w] = [got, want].map((x) => x.slice(b * V, (b + 1) * V));
      const mean = w.reduce((a, x) => a + x / V, 0);
      worst = Math.max(
        worst,
        relativeError(
          g.map((x) => x - mean),
          w.map((x) => x - mean),
        ),
      );
    }
    return worst;
  }

  /** The model with every quantised matrix replaced by what the int8 numbers stand for, from the definition. */
  function dequantised(): Model {
    const copy = model.frozenCopy();
    const round = (data: Float32Array, outputs: number, at: (o: number, i: number) => number) => {
      for (let o = 0; o < outputs; o++) {
        const places = Array.from({ length: data.length / outputs }, (_, i) => at(o, i));
        const step = Math.max(...places.map((p) => Math.abs(data[p]))) / 127;
        for (const p of places) data[p] = Math.round(data[p] / step) * step;
      }
    };
    for (const { name, shape, matrix } of copy.parameters.table) {
      const view = copy.parameters.view(name);
      if (matrix === "in,out") round(view, shape[1], (o, i) => i * shape[1] + o);
      if (matrix === "out,in") round(view, shape[0], (o, i) => o * shape[1] + i);
    }
    return copy;
  }

  // A base held in int8 has no fp32 matrices to round or to change: test/invariant/int8-base.test.ts compares it.
  const inFp32 = test.skipIf(model.parameters.rounded.size > 0);

  inFp32("logits are those of the rounded weights but for the rounding of what they multiply", async () => {
    const rounded = dequantised();
    const lmHead = rounded.getOutputEmbeddings().data;
    const C = model.sizes.width;
    const got = await decoded(weights, [0, 1, 2, 3]);
    for (const [t, logits] of got.entries())
      for (const [b, prompt] of ragged.entries()) {
        const ids = [...prompt, ...steps.slice(0, t).map((next) => next[b])];
        // The head is quantised and the embedding is not: hidden states with the one, logits with the other.
        const { hiddenStates } = await rounded.forward({ inputIds: [ids], outputHiddenStates: true });
        const last = hiddenStates?.at(-1)?.data.slice(-C) as Float32Array;
        const want = new Float32Array(V);
        for (let v = 0; v < V; v++) {
          const row = lmHead.subarray(v * C, (v + 1) * C);
          const step = row.reduce((a, x) => Math.max(a, Math.abs(x)), 0) / 127;
          for (let c = 0; c < C; c++) want[v] += last[c] * Math.round(row[c] / step) * step;
        }
        expect(logitError(logits.subarray(b * V, (b + 1) * V), want)).toBeLessThan(0.07);
      }
  });

  test("logits are near those of the model", async () => {
    const got = await decoded(weights, [0, 1, 2, 3]);
    const want = await decoded(undefined, [0, 1, 2, 3]);
    for (const [t, logits] of got.entries()) expect(logitError(logits, want[t])).toBeLessThan(0.08);
  });

  test("a row is the same alone as among others", async () => {
    const together = await decoded(weights, [0, 1, 2, 3]);
    for (const b of [0, 1, 2, 3]) {
      const alone = await decoded(weights, [b]);
      for (const [t, logits] of together.entries())
        expect(maxDifference(alone[t], logits.subarray(b * V, (b + 1) * V))).toBeLessThan(1e-4);
    }
  });

  test("recorded log-probs are those of the int8 model, decoded again in another order", async () => {
    const eosTokenId = await commonToken(model, ragged);
    const options = { maxNewTokens: 8, eosTokenId, seed: 4, precision: "int8" as const };
    const { responses } = await generate(model, ragged, options);
    const other = await generate(model, ragged, { ...options, precision: "fp32" });
    expect(maxDifference(responses[0].logprobs.slice(0, 1), other.responses[0].logprobs.slice(0, 1))).toBeGreaterThan(
      0,
    );
    const order = [2, 0, 3, 1];
    const decoder = new Decoder(model, 4, 20, weights);
    await decoder.prefill(order.map((b) => ragged[b]));
    for (let t = 0; t < 8; t++) {
      order.forEach((b, i) => {
        if (t >= responses[b].tokens.length) return;
        const row = decoder.logits.subarray(i * V, (i + 1) * V);
        const max = row.reduce((a, x) => Math.max(a, x));
        const sum = row.reduce((a, x) => a + Math.exp(x - max), 0);
        expect(responses[b].logprobs[t]).toBeCloseTo(row[responses[b].tokens[t]] - max - Math.log(sum), 5);
      });
      await decoder.step(Int32Array.from(order, (b) => responses[b].tokens[t] ?? 0));
    }
    decoder.release();
  });

  inFp32("the model's other weights can change without it; a new copy has them", async () => {
    const other = model.frozenCopy();
    const before = int8Weights(other);
    const matrix = other.parameters.table.find((row) => row.matrix)?.name as string;
    other.parameters.view(matrix).fill(0);
    const after = int8Weights(other);
    const sample = (using: typeof before) => generate(other, ragged, { maxNewTokens: 4, seed: 1, weights: using });
    const want = await generate(model, ragged, { maxNewTokens: 4, seed: 1, weights });
    expect((await sample(before)).responses[2].logprobs).toEqual(want.responses[2].logprobs);
    expect((await sample(after)).responses[2].logprobs).not.toEqual(want.responses[2].logprobs);
    before.release();
    after.release();
  });
});

test("heads that attention does not take are refused", () => {
  const config = makeConfig({ vocabSize: 50, nPositions: 16, nLayer: 1, nEmbd: 36, nHead: 3, nInner: 40 });
  const small = GPT2HeadWithValueModel.fromConfig(config);
  expect(() => int8Weights(small)).toThrow(
    "sampling in int8: found heads of 12 numbers, expected a multiple of 8. Fix: sample this model in fp32",
  );
});

describe("learning from what the int8 copy draws", async () => {
  const tiny = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
  const { vocabSize } = tiny.config;
  const prompt = Int32Array.of(5, 17, 3);
  const loss = ppoLoss({ clipRange: 0.2, clipRangeValue: 0.2, vfCoef: 0, entropyCoef: 0 });
  const copy = int8Weights(tiny);
  afterAll(() => {
    copy.release();
    tiny.dispose();
  });

  /** Every response of one token, as if drawn: its log-prob under the copy, and the batch rescored by the model. */
  const enumerated = async (cap: number) => {
    const all = Array.from({ length: vocabSize }, (_, id) => id);
    const decoder = new Decoder(tiny, 1, 4, copy);
    await decoder.prefill([prompt]);
    const max = decoder.logits.reduce((a, x) => Math.max(a, x));
    const sum = decoder.logits.reduce((a, x) => a + Math.exp(x - max), 0);
    const rolloutLogprobs = Float32Array.from(decoder.logits, (x) => x - max - Math.log(sum));
    decoder.release();
    const { adjustments } = await generate(tiny, [], { maxNewTokens: 1 });
    const responses = all.map((id) => ({
      tokens: Int32Array.of(id),
      logprobs: rolloutLogprobs.slice(id, id + 1),
      rawLogprobs: new Float32Array(1),
      values: new Float32Array(1),
      kept: [undefined],
      keptMass: Float64Array.of(1),
      finished: false,
    }));
    const drawn = experience([{ queries: all.map(() => prompt), responses }]);
    const config = ppoConfig({ rolloutPrecision: "int8", importanceWeightCap: cap });
    return {
      rolloutLogprobs,
      adjustments,
      ...(await rescore(tiny, drawn, config, { adjustments, partSize: config.miniBatchSize })),
    };
  };

  /** The expected gradient of the policy loss at the first update: the sum over all responses, each as likely as it is. */
  const expectedGradient = async (cap: number, drawnBy: "rollout" | "old") => {
    const { data, importance, rolloutLogprobs, adjustments } = await enumerated(cap);
    const p = drawnBy === "old" ? data.logprobs : rolloutLogprobs;
    const advantages = Float32Array.from({ length: vocabSize }, (_, id) => Math.sin(id * id));
    const { asked, index } = ask(data, Array.from(advantages.keys()), tiny.config.nPositions, adjustments);
    const inputs = {
      weight: p.map(Math.exp),
      oldLogprobs: data.logprobs,
      advantages:
        drawnBy === "old" ? advantages : weightTargets({ advantages, returns: advantages }, importance).advantages,
      oldValues: data.values,
      returns: data.values,
    };
    expect([...index]).toEqual([...advantages.keys()]);
    const grads = new ParameterBuffer(tiny.parameters.table);
    await tiny.lossAndGradients(asked, loss, inputs, grads);
    return grads.data;
  };

  test("the weighted gradient is, in expectation, that of the policy's own samples; the plain one is not", async () => {
    const want = await expectedGradient(2, "old");
    expect(relativeError(await expectedGradient(1e6, "rollout"), want)).toBeLessThan(1e-5);
    expect(relativeError(await expectedGradient(0, "rollout"), want)).toBeGreaterThan(0.01);
    // A cap of 1 cuts about half of the weights.
    expect(relativeError(await expectedGradient(1, "rollout"), want)).toBeGreaterThan(0.01);
  });

  test("each weight is the model's probability over the copy's: logits of the full forward, softmax in float64", async () => {
    const { data, rolloutLogprobs } = await enumerated(2);
    const { ratios } = importanceWeights(data.logprobs, rolloutLogprobs, data.batch, 2);
    const { logits } = await tiny.forward({ inputIds: [[...prompt]] });
    const z = Array.from(logits.data.subarray((prompt.length - 1) * vocabSize), Number);
    const max = Math.max(...z);
    const logSum = max + Math.log(z.reduce((sum, x) => sum + Math.exp(x - max), 0));
    const gap = z.map((x, i) => Math.abs(ratios[i] / Math.exp(x - logSum - rolloutLogprobs[i]) - 1));
    expect(Math.max(...gap)).toBeLessThan(1e-4);
    expect(Math.max(...ratios) / Math.min(...ratios)).toBeGreaterThan(1.02); // the two policies differ
  });
});
