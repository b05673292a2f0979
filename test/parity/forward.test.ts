/** @file Logits, values and log-probs of the tiny GPT-2 against transformers, and ragged batches against single rows. */
import { afterAll, describe, expect, test } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { contents } from "../support/backends.ts";
import { maxDifference, tinyDir, tinyGolden } from "../support/golden.ts";

const golden = tinyGolden();
const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 2 });
const { nEmbd: C, vocabSize: V } = model.config;
const B = golden.lengths.length;
const T = Math.max(...golden.lengths);
const ids = golden.ints("inputIds");

afterAll(() => model.dispose());

/** Positions (b T + t) that exist, and the token after each (0 after the last). */
const rows = Int32Array.from(golden.lengths.flatMap((n, b) => Array.from({ length: n }, (_, t) => b * T + t)));
const nextIds = rows.map((n) => (n % T < T - 1 ? ids[n + 1] : 0));
/** Of those, the places in `rows` that have a next token. */
const targets = Array.from(rows.keys()).filter((i) => rows[i] % T < golden.lengths[Math.floor(rows[i] / T)] - 1);

const at = (x: Float32Array, indices: ArrayLike<number>) => Float32Array.from(indices, (i) => x[i]);

async function forward(tokens: { ids: Int32Array; B: number; T: number }, positions: Int32Array) {
  const hidden = await model.body.hidden(model.parameters, tokens);
  const states = await contents(model, hidden);
  const picked = new Float32Array(positions.length * C);
  positions.forEach((n, r) => {
    picked.set(states.subarray(n * C, (n + 1) * C), r * C);
  });
  model.pool.release(hidden);
  const logits = new Float32Array(positions.length * V);
  const values = new Float32Array(positions.length);
  await model.head.logits(model.parameters, picked, positions.length, logits, values);
  return { logits, values };
}

describe("against transformers", () => {
  test("logits and values", async () => {
    const { logits, values } = await forward({ ids, B, T }, rows);
    const want = golden.floats("logits");
    const wanted = Float32Array.from(
      { length: rows.length * V },
      (_, i) => want[rows[Math.floor(i / V)] * V + (i % V)],
    );
    expect(maxDifference(logits, wanted)).toBeLessThan(1e-4);
    expect(maxDifference(values, at(golden.floats("values"), rows))).toBeLessThan(1e-4);
  });

  // 3 times round is one chunk of rows, 200 times is two.
  test.each([1, 3, 200])("log-probs and values of score, every position %s times", async (times) => {
    const repeat = (x: Int32Array) => Int32Array.from({ length: x.length * times }, (_, i) => x[i % x.length]);
    const asked = { tokens: { ids, B, T }, rows: repeat(rows), ids: repeat(nextIds), distribution: { temperature: 1 } };
    if (times === 200) expect(asked.rows.length).toBeGreaterThan(model.head.chunkRows);
    const got = await model.score(asked);
    for (let k = 0; k < times; k++) {
      const part = (x: Float32Array) => x.subarray(k * rows.length, (k + 1) * rows.length);
      const wanted = at(golden.floats("logprobs"), at(Float32Array.from(rows), targets));
      expect(maxDifference(at(part(got.logprobs), targets), wanted)).toBeLessThan(1e-4);
      expect(maxDifference(part(got.values), at(golden.floats("values"), rows))).toBeLessThan(1e-4);
    }
  });
});

describe("a batch padded on the right", () => {
  test("equals each row alone", async () => {
    const together = await forward({ ids, B, T }, rows);
    const asked = { tokens: { ids, B, T }, rows, ids: nextIds, distribution: { temperature: 0.8 } };
    const scored = await model.score(asked);
    let start = 0;
    for (const [b, length] of golden.lengths.entries()) {
      const own = { ids: ids.slice(b * T, b * T + length), B: 1, T: length };
      const positions = Int32Array.from({ length }, (_, t) => t);
      const end = start + length;
      const alone = await forward(own, positions);
      expect(maxDifference(together.logits.subarray(start * V, end * V), alone.logits)).toBeLessThan(1e-5);
      expect(maxDifference(together.values.subarray(start, end), alone.values)).toBeLessThan(1e-5);
      const single = { ...asked, tokens: own, rows: positions, ids: nextIds.slice(start, end) };
      const { logprobs, entropies } = await model.score(single);
      expect(maxDifference(scored.logprobs.subarray(start, end), logprobs)).toBeLessThan(1e-5);
      expect(maxDifference(scored.entropies.subarray(start, end), entropies)).toBeLessThan(1e-5);
      start = end;
    }
  });

  test("does not depend on the ids in the padding", async () => {
    const other = ids.slice();
    for (let n = 0; n < B * T; n++) if (n % T >= golden.lengths[Math.floor(n / T)]) other[n] = 1 + (n % (V - 1));
    expect(other).not.toEqual(ids);
    const [a, b] = [await forward({ ids, B, T }, rows), await forward({ ids: other, B, T }, rows)];
    expect(b.logits).toEqual(a.logits);
    expect(b.values).toEqual(a.values);
  });
});
