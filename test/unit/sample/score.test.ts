import { describe, expect, it } from "vitest";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { scoreTokens } from "../../../src/sample/score.ts";
import { maxDifference, tinyDir, tinyGolden } from "../../support/golden.ts";

const golden = tinyGolden();
const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
const V = model.config.vocabSize;
const W = golden.ints("inputIds").length / golden.lengths.length; // padded width

describe.each([0, 1, 2])("row %i of the golden batch", (b) => {
  const T = golden.lengths[b];
  const ids = golden.ints("inputIds").slice(b * W, b * W + T);

  it("has transformers' log-probs, values and most likely next tokens", async () => {
    const { logprobs, values, greedy } = await scoreTokens(model, ids);
    expect(maxDifference(values, golden.floats("values").slice(b * W, b * W + T))).toBeLessThan(1e-4);
    const theirs = golden.floats("logprobs").slice(b * W, b * W + T - 1);
    expect(logprobs[0]).toBeNaN();
    expect(maxDifference(logprobs.slice(1), theirs)).toBeLessThan(1e-4);
    const logits = golden.floats("logits");
    const best = Array.from({ length: T }, (_, t) => {
      const row = Array.from(logits.subarray((b * W + t) * V, (b * W + t + 1) * V));
      return row.indexOf(Math.max(...row));
    });
    expect(Array.from(greedy)).toEqual(best);
  });

  it("is the same in chunks of three rows", async () => {
    const whole = await scoreTokens(model, ids);
    Object.defineProperty(model.head, "chunkRows", { value: 3, configurable: true });
    const chunked = await scoreTokens(model, ids);
    Reflect.deleteProperty(model.head, "chunkRows");
    expect(maxDifference(chunked.logprobs.slice(1), whole.logprobs.slice(1))).toBeLessThan(1e-5);
    expect(maxDifference(chunked.values, whole.values)).toBeLessThan(1e-5);
    expect(chunked.greedy).toEqual(whole.greedy);
  });
});

it("refuses no tokens, too many, and ids outside the vocabulary", async () => {
  await expect(scoreTokens(model, new Int32Array(0))).rejects.toThrow("found no tokens");
  await expect(scoreTokens(model, new Int32Array(model.config.nPositions + 1))).rejects.toThrow("n_positions");
  await expect(scoreTokens(model, Int32Array.of(0, V))).rejects.toThrow(`found id ${V}`);
});
