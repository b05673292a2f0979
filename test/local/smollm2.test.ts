/**
 * @file SmolLM2-135M-Instruct against transformers. Runs only where VALUEHEAD_SMOLLM2 names the checkpoint directory and
 * VALUEHEAD_SMOLLM2_REFERENCE the file that `tools/reference/smollm2.py` made of it.
 */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { loadModel } from "../../src/families/index.ts";
import { generate } from "../../src/sample/generate.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";
import { maxDifference } from "../support/golden.ts";

interface Prompt {
  text: string;
  ids: number[];
  /** Of the last position: the first 50, computed in float64; and over the whole vocabulary. */
  logits64: number[];
  sum: number;
  sumOfSquares: number;
  argmax: number;
  /** At t: of ids[t + 1]. */
  logprobs: number[];
  greedy: number[];
  greedyText: string;
}

const { VALUEHEAD_SMOLLM2: directory, VALUEHEAD_SMOLLM2_REFERENCE: reference } = process.env;

describe.runIf(directory && reference)("the SmolLM2 in VALUEHEAD_SMOLLM2", async () => {
  if (!directory || !reference) return;
  const { prompts } = JSON.parse(readFileSync(reference, "utf8")) as { prompts: Prompt[] };
  const tokenizer = await loadTokenizer(directory);
  const model = await loadModel(directory, { tokenizer });
  const V = model.sizes.vocabSize;
  afterAll(() => model.dispose());
  const report = (what: string, difference: number) =>
    process.stdout.write(`${what}: max abs difference ${difference.toExponential(2)}\n`);

  test.each(prompts.map((p, i) => [i, p] as const))("prompt %i", async (i, p) => {
    expect(Array.from(tokenizer.encode(p.text))).toEqual(p.ids);
    const { logits } = await model.forward({ inputIds: [p.ids] });
    const last = logits.data.subarray((p.ids.length - 1) * V);
    const gap = maxDifference(last.subarray(0, p.logits64.length), p.logits64);
    report(`prompt ${i}, logits`, gap);
    expect(gap).toBeLessThan(1e-4);
    expect(last.indexOf(last.reduce((a, b) => Math.max(a, b)))).toBe(p.argmax);
    // Over all of the vocabulary, so 1e-4 for each logit at most; sums of as many roundings.
    expect(Math.abs(last.reduce((sum, x) => sum + x, 0) - p.sum) / V).toBeLessThan(1e-4);
    const root = (squares: number) => Math.sqrt(squares / V);
    expect(Math.abs(root(last.reduce((sum, x) => sum + x * x, 0)) - root(p.sumOfSquares))).toBeLessThan(1e-4);

    const T = p.ids.length;
    const rows = Int32Array.from({ length: T - 1 }, (_, t) => t);
    const tokens = { ids: Int32Array.from(p.ids), B: 1, T };
    const asked = { tokens, rows, ids: rows.map((t) => p.ids[t + 1]), distribution: { temperature: 1 } };
    const scored = maxDifference((await model.score(asked)).logprobs, p.logprobs);
    report(`prompt ${i}, log-probs`, scored);
    expect(scored).toBeLessThan(2e-4); // transformers' own float32 is off by up to 8e-5

    const options = { maxNewTokens: p.greedy.length, topK: 1, seed: 1 };
    const { responses } = await generate(model, [Int32Array.from(p.ids)], options);
    expect(Array.from(responses[0].tokens)).toEqual(p.greedy.slice(0, responses[0].tokens.length));
    expect(
      responses[0].tokens.length === p.greedy.length ||
        model.eosTokenIds.includes(p.greedy[responses[0].tokens.length - 1]),
    ).toBe(true);
  });
});
