/**
 * @file The embedding of the padding token: its gradient is the loss's, not what transformers leaves of it (docs/decisions/0021-padding-token.md),
 * and padding itself gives none.
 */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { languageModelLoss } from "../../src/algorithms/losses.ts";
import { loadModel } from "../../src/families/index.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { goldenPath, relativeError } from "../support/golden.ts";

interface Golden {
  padTokenId: number;
  /** Ids of each row, without padding. */
  rows: number[][];
  models: Record<string, { loss: number; gradient: number[]; withPaddingIdx: number[]; norms: Record<string, number> }>;
}
const golden: Golden = JSON.parse(readFileSync(goldenPath("llama/padding-token.json"), "utf8"));
const { padTokenId: pad, rows } = golden;
const B = rows.length;
const T = Math.max(...rows.map((row) => row.length));
const EMBEDDING = "model.embed_tokens.weight";

describe.each(Object.entries(golden.models))("%s", async (name, reference) => {
  const model = await loadModel(goldenPath(`llama/${name}`), { threads: 1 });
  afterAll(() => model.dispose());

  /** The loss and every gradient, with that id at padding. */
  async function backward(filling: number) {
    const ids = new Int32Array(B * T).fill(filling);
    for (const [b, row] of rows.entries()) ids.set(row, b * T);
    const places = rows.flatMap((row, b) => row.slice(1).map((_, t) => b * T + t));
    const asked = {
      tokens: { ids, B, T },
      rows: Int32Array.from(places),
      ids: Int32Array.from(places, (n) => ids[n + 1]),
      distribution: { temperature: 1 },
    };
    const grads = new ParameterBuffer(model.parameters.table);
    const weight = new Float32Array(places.length).fill(1 / places.length);
    const { loss } = await model.lossAndGradients(asked, languageModelLoss, { weight }, grads);
    return { loss, grads };
  }

  test("the row has the gradient of the loss: torch's without padding_idx", async () => {
    const { loss, grads } = await backward(pad);
    expect(Math.abs(loss - reference.loss)).toBeLessThan(1e-5);
    const C = model.sizes.width;
    const row = grads.view(EMBEDDING).subarray(pad * C, (pad + 1) * C);
    expect(relativeError(row, Float32Array.from(reference.gradient))).toBeLessThan(1e-3);
    expect(relativeError(row, Float32Array.from(reference.withPaddingIdx))).toBeGreaterThan(0.1);
    for (const [parameter, norm] of Object.entries(reference.norms))
      expect(Math.hypot(...grads.view(parameter)) / norm, parameter).toBeCloseTo(1, 3);
  });

  test("what stands at padding changes no bit", async () => {
    const [one, other] = [await backward(pad), await backward(0)];
    expect(other.loss).toBe(one.loss);
    expect(other.grads.data).toEqual(one.grads.data);
  });
});
