/** @file Whatever the weights are stored as for decoding, the logits are those of the full forward pass. */
import { afterAll, describe, expect, test } from "vitest";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { generate } from "../../src/sample/generate.ts";
import { decodingWeights } from "../../src/sample/precision.ts";
import { storedWeights, transposedWeights } from "../../src/sample/weights.ts";
import { familyNames, tinyModel } from "../support/families.ts";
import { maxDifference } from "../support/golden.ts";
import { prompts } from "../support/prompts.ts";

describe.each(familyNames)("%s", async (family) => {
  const model = await tinyModel(family, { threads: 1 });
  const { vocabSize: V } = model.sizes;
  afterAll(() => model.dispose());

  const ragged = prompts(V, [4, 1, 9, 6, 3]);

  /** Logits [B, V] of the last token of each row, from one pass over each row alone. */
  async function fullForward(rows: readonly number[][]) {
    const logits = new Float32Array(rows.length * V);
    for (const [b, row] of rows.entries())
      logits.set((await model.forward({ inputIds: [row] })).logits.data.slice(-V), b * V);
    return logits;
  }

  test.each(["stored", "transposed", "transposed into scratch"])("%s weights", async (form) => {
    const scratch = new ParameterBuffer(model.parameters.table);
    scratch.data.fill(Number.NaN);
    const weights =
      form === "stored" ? storedWeights(model) : transposedWeights(model, form === "transposed" ? undefined : scratch);
    const decoder = new Decoder(model, ragged.length, 14, weights);
    await decoder.prefill(ragged);
    const rows = ragged.map((r) => [...r]);
    expect(maxDifference(decoder.logits, await fullForward(rows))).toBeLessThan(1e-4);
    for (const next of [3, 11]) {
      await decoder.step(new Int32Array(rows.length).fill(next));
      for (const row of rows) row.push(next);
      expect(maxDifference(decoder.logits, await fullForward(rows))).toBeLessThan(1e-4);
    }
    decoder.release();
  });

  const copied = family === "gpt2"; // Llama's matrices are stored the way a transposed copy would be

  if (copied)
    test("a transposed copy keeps the matrices of the moment it was made", async () => {
      const other = model.frozenCopy();
      const weights = transposedWeights(other);
      for (const { name, matrix } of other.parameters.table) if (matrix) other.parameters.view(name).fill(0);
      const options = { maxNewTokens: 3, seed: 5, weights };
      const { responses } = await generate(other, ragged, options);
      const before = await generate(model, ragged, { maxNewTokens: 3, seed: 5 });
      responses.forEach((r, b) => {
        expect([...r.tokens]).toEqual([...before.responses[b].tokens]);
        expect(maxDifference(r.logprobs, before.responses[b].logprobs)).toBeLessThan(1e-5);
      });
    });

  test("transposing is for several rows and enough steps", () => {
    const copies = (rows: number, steps: number) => {
      const scratch = new ParameterBuffer(model.parameters.table);
      decodingWeights(model, { rows, steps }, scratch);
      return scratch.data.some((x) => x !== 0);
    };
    expect([copies(1, 100), copies(3, 100), copies(4, 11), copies(4, 12), copies(64, 24)]).toEqual([
      false,
      false,
      false,
      copied,
      copied,
    ]);
  });
});
