/** @file GPT2HeadWithValueModel.forward, every argument, against transformers; and against itself where layouts differ. */
import { describe, expect, test } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import type { FloatTensor, ForwardInput } from "../../src/model/forward.ts";
import { maxDifference, tinyDir, tinyGolden } from "../support/golden.ts";

const golden = tinyGolden();
const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 2 });
const { vocabSize: V, nEmbd: C, nHead: H, nLayer } = model.config;
const B = golden.lengths.length;
const T = Math.max(...golden.lengths);
const ids = golden.ints("inputIds");
const mask = golden.ints("attentionMask");
const inputIds = { data: ids, shape: [B, T] };
const attentionMask = { data: mask, shape: [B, T] };
const rows = golden.lengths.map((length, b) => Array.from(ids.subarray(b * T, b * T + length)));

/** Numbers at existing positions only; `width` numbers per position. */
const existing = (data: Float32Array, width: number) => data.filter((_, i) => mask[Math.floor(i / width)] === 1);
const same = (got: FloatTensor, want: Float32Array, width: number) =>
  expect(maxDifference(existing(got.data, width), existing(want, width))).toBeLessThan(1e-4);

test("logits, values, hidden states and attentions", async () => {
  const out = await model.forward({ inputIds, attentionMask, outputHiddenStates: true, outputAttentions: true });
  expect([out.logits.shape, out.values.shape]).toEqual([
    [B, T, V],
    [B, T],
  ]);
  same(out.logits, golden.floats("logits"), V);
  same(out.values, golden.floats("values"), 1);
  expect(out.hiddenStates?.map((h) => h.shape)).toEqual(Array(nLayer + 1).fill([B, T, C]));
  out.hiddenStates?.forEach((h, i) => {
    same(h, golden.floats(`hiddenStates.${i}`), C);
  });
  expect(out.attentions).toHaveLength(nLayer);
  out.attentions?.forEach((a, layer) => {
    const want = golden.floats(`attentions.${layer}`);
    const ofQuery = (i: number) => mask[Math.floor(i / (H * T * T)) * T + (Math.floor(i / T) % T)];
    const keep = (data: Float32Array) => data.filter((_, i) => ofQuery(i) === 1);
    expect(maxDifference(keep(a.data), keep(want))).toBeLessThan(1e-5);
  });
});

test("a head mask", async () => {
  const headMask = { data: golden.floats("options.headMask"), shape: [nLayer, H] };
  const out = await model.forward({ inputIds, attentionMask, headMask });
  same(out.logits, golden.floats("headMask.logits"), V);
  same(out.values, golden.floats("headMask.values"), 1);
});

test("positions and token types", async () => {
  const positionIds = { data: golden.ints("options.positionIds"), shape: [B, T] };
  const tokenTypeIds = { data: golden.ints("options.tokenTypeIds"), shape: [B, T] };
  const out = await model.forward({ inputIds, attentionMask, positionIds, tokenTypeIds });
  same(out.logits, golden.floats("positionAndType.logits"), V);
  same(out.values, golden.floats("positionAndType.values"), 1);
});

test("padding on the left, with positions from the mask, equals each row alone", async () => {
  const left = rows.map((row) => [...Array(T - row.length).fill(0), ...row]);
  const leftMask = rows.map((row) => [...Array(T - row.length).fill(0), ...row.map(() => 1)]);
  const out = await model.forward({ inputIds: left, attentionMask: leftMask });
  for (const [b, row] of rows.entries()) {
    const alone = await model.forward({ inputIds: [row] });
    const got = out.logits.data.subarray((b * T + T - row.length) * V, (b + 1) * T * V);
    expect(maxDifference(got, alone.logits.data)).toBeLessThan(1e-4);
    expect(maxDifference(got, golden.floats("logits").subarray(b * T * V, (b * T + row.length) * V))).toBeLessThan(
      1e-4,
    );
  }
});

test("embeddings instead of ids, and a cache from an earlier call, change nothing", async () => {
  const row = rows[2];
  const whole = await model.forward({ inputIds: [row] });
  const wte = model.parameters.view("transformer.wte.weight");
  const inputsEmbeds = {
    data: Float32Array.from(row.flatMap((id) => Array.from(wte.subarray(id * C, (id + 1) * C)))),
    shape: [1, row.length, C],
  };
  const embedded = await model.forward({ inputsEmbeds });
  expect(maxDifference(embedded.logits.data, whole.logits.data)).toBeLessThan(1e-6);

  const first = await model.forward({ inputIds: [row.slice(0, 5)] });
  const second = await model.forward({ inputIds: [row.slice(5)], pastKeyValues: first.pastKeyValues });
  const joined = Float32Array.of(...first.values.data, ...second.values.data);
  expect(maxDifference(joined, whole.values.data)).toBeLessThan(1e-4);
  expect(maxDifference(second.logits.data, whole.logits.data.subarray(5 * V))).toBeLessThan(1e-4);
  expect(maxDifference(second.pastKeyValues[1].keys.data, whole.pastKeyValues[1].keys.data)).toBeLessThan(1e-4);
});

test("the tuple has the notebook's order", async () => {
  const object = await model.forward({ inputIds, outputHiddenStates: true, outputAttentions: true });
  const tuple = await model.forwardTuple({ inputIds, outputHiddenStates: true, outputAttentions: true });
  expect(tuple).toHaveLength(5);
  expect(tuple[0]).toEqual(object.logits);
  expect(tuple[1]).toEqual(object.pastKeyValues);
  expect(tuple[2]).toEqual(object.hiddenStates);
  expect(tuple[3]).toEqual(object.attentions);
  expect(tuple[4]).toEqual(object.values);
});

describe("bad input", () => {
  const some = [[1, 2, 3]];
  const cases: Record<string, ForwardInput> = {
    "a rank of one": { inputIds: [1, 2, 3] as never },
    "ragged rows": { inputIds: [[1, 2], [3]] },
    "an id outside the vocabulary": {
      inputIds: [
        [1, 2],
        [3, V],
      ],
    },
    "a negative id": { inputIds: [[1, -1]] },
    "too long": { inputIds: [Array(49).fill(1)] },
    "both ids and embeddings": { inputIds: some, inputsEmbeds: { data: new Float32Array(3 * C), shape: [1, 3, C] } },
    "neither ids nor embeddings": {},
    "embeddings of another width": { inputsEmbeds: { data: new Float32Array(6), shape: [1, 3, 2] } },
    "a mask with no ones in a row": {
      inputIds: [
        [1, 2],
        [3, 4],
      ],
      attentionMask: [
        [1, 1],
        [0, 0],
      ],
    },
    "a mask of another shape": { inputIds: some, attentionMask: [[1, 1]] },
    "a mask of other numbers": { inputIds: some, attentionMask: [[1, 2, 1]] },
    "positions beyond the context": { inputIds: some, positionIds: [[0, 1, 48]] },
    "a head mask of another shape": { inputIds: some, headMask: { data: new Float32Array(3), shape: [3] } },
  };
  test.each(Object.entries(cases))("%s", async (_, given) => {
    await expect(model.forward(given)).rejects.toThrowErrorMatchingSnapshot();
  });

  test("a cache of another batch size, or with layers missing", async () => {
    const { pastKeyValues } = await model.forward({ inputIds: [[1], [2]] });
    await expect(model.forward({ inputIds: some, pastKeyValues })).rejects.toThrowErrorMatchingSnapshot();
    const one = { inputIds: [[1], [2]], pastKeyValues: pastKeyValues.slice(1) };
    await expect(model.forward(one)).rejects.toThrowErrorMatchingSnapshot();
  });
});
