/**
 * @file GPT-2 at its real size against PyTorch. Runs only where VALUEHEAD_GPT2 names a checkpoint directory with
 * reference.safetensors in it; `tools/reference/gpt2_124m.py` makes one.
 */
import { afterAll, describe, expect, test } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { seen } from "../support/backends.ts";
import { maxDifference, readTensors } from "../support/golden.ts";

const directory = process.env.VALUEHEAD_GPT2;

describe.runIf(directory)("GPT-2 in VALUEHEAD_GPT2", async () => {
  if (!directory) return;
  const tensors = readTensors(`${directory}/reference.safetensors`);
  const get = (name: string) => tensors.get(name) ?? expect.fail(`reference.safetensors has no ${name}`);
  const model = await GPT2HeadWithValueModel.fromPretrained(directory);
  const { nEmbd: C, vocabSize: V } = model.config;
  const [B, T] = get("inputIds").shape;
  const ids = get("inputIds").data as Int32Array;
  const mask = get("attentionMask").data;
  const rows = Int32Array.from({ length: B * T }, (_, n) => n).filter((n) => mask[n] === 1);
  const hasNext = (n: number) => n % T < T - 1 && mask[n + 1] === 1;
  const report = (what: string, difference: number, expected: ArrayLike<number>) => {
    const size = Array.from(expected, Math.abs).reduce((a, b) => Math.max(a, b));
    process.stdout.write(`${what}: max abs difference ${difference.toExponential(2)} (largest ${size.toFixed(2)})\n`);
    expect(difference).toBeLessThan(1e-4);
  };

  afterAll(() => model.dispose());

  test("values and next-token log-probs", async () => {
    const nextIds = rows.map((n) => (hasNext(n) ? ids[n + 1] : 0));
    const got = await model.score({ tokens: { ids, B, T }, rows, ids: nextIds, distribution: { temperature: 1 } });
    const values = Float32Array.from(rows, (n) => get("values").data[n]);
    report("values", maxDifference(got.values, values), values);
    const targets = Array.from(rows.keys()).filter((i) => hasNext(rows[i]));
    const logprobs = targets.map((i) => get("logprobs").data[rows[i]]);
    const gotLogprobs = targets.map((i) => got.logprobs[i]);
    report("log-probs", maxDifference(gotLogprobs, logprobs), logprobs);
  });

  test("logits of the last three positions of each row", async () => {
    const hidden = await model.body.hidden(model.parameters, { ids, B, T });
    const positions = get("positions");
    const R = positions.data.length;
    const picked = new Float32Array(R * C);
    positions.data.forEach((t, r) => {
      const n = Math.floor(r / positions.shape[1]) * T + t;
      picked.set(seen(model, hidden).subarray(n * C, (n + 1) * C), r * C);
    });
    const logits = new Float32Array(R * V);
    await model.head.logits(model.parameters, picked, R, logits, new Float32Array(R));
    const want = get("logits").data;
    report("logits", maxDifference(logits, want), want);
    for (let r = 0; r < R; r++) {
      const row = logits.subarray(r * V, (r + 1) * V);
      const n = Math.floor(r / positions.shape[1]) * T + positions.data[r];
      expect(row.indexOf(row.reduce((a, b) => Math.max(a, b)))).toBe(get("greedy").data[n]);
    }
  });
});
