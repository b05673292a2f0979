/**
 * @file Llama, Qwen2 and Qwen3 look-alikes against transformers: logits, values, hidden states, attentions, positions, caches, every
 * gradient, greedy tokens, and that what is saved here computes the same.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { languageModelLoss, ppoLoss } from "../../src/algorithms/losses.ts";
import { loadModel } from "../../src/families/index.ts";
import type { RowLoss } from "../../src/model/head.ts";
import { ParameterBuffer, VALUE_HEAD_NAMES } from "../../src/model/parameters.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { generate } from "../../src/sample/generate.ts";
import { goldenPath, maxDifference, relativeError, type TinyGolden, tinyGolden } from "../support/golden.ts";
import { worst } from "../support/worst.ts";

interface LlamaGolden extends TinyGolden {
  /** Columns of the first call of the two that make the cache case. */
  split: number;
  greedy: { ids: number[]; tokens: number[] }[];
}

const saved = mkdtempSync(join(tmpdir(), "valuehead-llama-"));
const measured = worst("llama");
afterAll(() => {
  measured.print();
  rmSync(saved, { recursive: true, force: true });
});
const names = readdirSync(goldenPath("llama"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

test("there is one of each kind", () => {
  expect(names.length).toBeGreaterThanOrEqual(7);
});

describe.each(names)("%s", async (name) => {
  const directory = goldenPath(`llama/${name}`);
  const golden = tinyGolden(directory) as LlamaGolden;
  const model = await loadModel(directory, { threads: 2 });
  const valueHead = (m: typeof model) => {
    for (const n of VALUE_HEAD_NAMES) m.parameters.view(n).set(golden.floats(n));
  };
  valueHead(model);
  afterAll(() => model.dispose());
  const { vocabSize: V, width: C, heads: H, kvHeads: K, headSize: D, layers } = model.sizes;
  const { lengths, split: S } = golden;
  const B = lengths.length;
  const T = Math.max(...lengths);
  const ids = golden.ints("inputIds");
  const matrix = (from: string) => ({ data: golden.ints(from), shape: [B, T] });
  const given = { inputIds: matrix("inputIds"), attentionMask: matrix("attentionMask") };

  /** Numbers at existing positions only; `width` numbers per position. */
  const existing = (data: Float32Array, width: number, mask: Int32Array) =>
    data.filter((_, i) => mask[Math.floor(i / width)] === 1);
  const same = (
    what: string,
    got: Float32Array | undefined,
    want: Float32Array,
    width: number,
    mask = given.attentionMask.data,
  ) => {
    const gap = maxDifference(existing(got as Float32Array, width, mask), existing(want, width, mask));
    measured.add(what, gap);
    expect(gap, what).toBeLessThan(1e-4);
  };

  test("logits, values, hidden states and attentions", async () => {
    const out = await model.forward({ ...given, outputHiddenStates: true, outputAttentions: true });
    same("logits", out.logits.data, golden.floats("logits"), V);
    same("values", out.values.data, golden.floats("values"), 1);
    expect(out.hiddenStates).toHaveLength(layers + 1);
    for (let i = 0; i <= layers; i++)
      same("hidden states", out.hiddenStates?.[i].data, golden.floats(`hiddenStates.${i}`), C);
    for (let i = 0; i < layers; i++) {
      // [B, H, T, T] -> the rows of queries that exist
      const ofQuery = (data: Float32Array) =>
        data.filter(
          (_, j) => given.attentionMask.data[Math.floor(j / (H * T * T)) * T + (Math.floor(j / T) % T)] === 1,
        );
      const gap = maxDifference(
        ofQuery(out.attentions?.[i].data as Float32Array),
        ofQuery(golden.floats(`attentions.${i}`)),
      );
      measured.add("attentions", gap);
      expect(gap).toBeLessThan(1e-5);
    }
  });

  test("positions of one's own, and padding on the left", async () => {
    const moved = await model.forward({ ...given, positionIds: matrix("options.positionIds") });
    same("logits", moved.logits.data, golden.floats("position.logits"), V);
    same("values", moved.values.data, golden.floats("position.values"), 1);
    const left = { inputIds: matrix("left.inputIds"), attentionMask: matrix("left.attentionMask") };
    for (const positions of [{}, { positionIds: matrix("left.positionIds") }]) {
      const out = await model.forward({ ...left, ...positions });
      same("logits", out.logits.data, golden.floats("left.logits"), V, left.attentionMask.data);
      same("values", out.values.data, golden.floats("left.values"), 1, left.attentionMask.data);
    }
  });

  test("a cache: what is in it, and what follows from it", async () => {
    const columns = (x: Int32Array, from: number, to: number) => ({
      data: x.filter((_, i) => i % T >= from && i % T < to),
      shape: [B, to - from],
    });
    const [all, mask] = [golden.ints("left.inputIds"), golden.ints("left.attentionMask")];
    const first = await model.forward({ inputIds: columns(all, 0, S), attentionMask: columns(mask, 0, S) });
    for (let i = 0; i < layers; i++) {
      const { keys, values } = first.pastKeyValues[i];
      expect(keys.shape).toEqual([B, K, S, D]);
      // [B, K, S, D]: positions that exist
      const there = (data: Float32Array) =>
        data.filter((_, j) => mask[Math.floor(j / (K * S * D)) * T + (Math.floor(j / D) % S)] === 1);
      expect(maxDifference(there(keys.data), there(golden.floats(`cache.keys.${i}`)))).toBeLessThan(1e-4);
      expect(maxDifference(there(values.data), there(golden.floats(`cache.values.${i}`)))).toBeLessThan(1e-4);
    }
    const second = await model.forward({
      inputIds: columns(all, S, T),
      attentionMask: matrix("left.attentionMask"),
      pastKeyValues: first.pastKeyValues,
    });
    const everywhere = new Int32Array(B * (T - S)).fill(1);
    same("logits", second.logits.data, golden.floats("cache.logits"), V, everywhere);
    same("values", second.values.data, golden.floats("cache.nextValues"), 1, everywhere);
  });

  test("log-probs and values of score", async () => {
    const rows = lengths.flatMap((n, b) => Array.from({ length: n - 1 }, (_, t) => b * T + t));
    const asked = { tokens: { ids, B, T }, rows: Int32Array.from(rows), ids: Int32Array.from(rows, (n) => ids[n + 1]) };
    const got = await model.score({ ...asked, distribution: { temperature: 1 } });
    const at = (x: Float32Array) => Float32Array.from(rows, (n) => x[n]);
    expect(maxDifference(got.logprobs, at(golden.floats("logprobs")))).toBeLessThan(1e-4);
    expect(maxDifference(got.values, at(golden.floats("values")))).toBeLessThan(1e-4);
  });

  test("the sampler's logits and values, prompt by prompt and token by token", async () => {
    const decoder = new Decoder(model, B, T);
    const prompts = lengths.map((n) => Math.ceil(n / 2));
    await decoder.prefill(prompts.map((n, b) => ids.slice(b * T, b * T + n)));
    const check = () =>
      decoder.lengths.forEach((length, b) => {
        if (length > lengths[b]) return;
        const end = b * T + length - 1;
        const want = golden.floats("logits").subarray(end * V, (end + 1) * V);
        const gap = maxDifference(decoder.logits.subarray(b * V, (b + 1) * V), want);
        measured.add("sampler's logits", gap);
        expect(gap).toBeLessThan(1e-4);
        expect(Math.abs(decoder.values[b] - golden.floats("values")[end])).toBeLessThan(1e-4);
      });
    check();
    while (decoder.lengths.some((length, b) => length < lengths[b])) {
      await decoder.step(decoder.lengths.map((length, b) => ids[b * T + Math.min(length, T - 1)]));
      check();
    }
    decoder.release();
  });

  test("greedy tokens", async () => {
    for (const { ids: prompt, tokens } of golden.greedy) {
      const options = { maxNewTokens: tokens.length, topK: 1, seed: 1 };
      const { responses } = await generate(model, [Int32Array.from(prompt)], options);
      expect(Array.from(responses[0].tokens)).toEqual(tokens);
    }
  });

  async function gradients(
    asked: { rows: Int32Array; ids: Int32Array },
    loss: RowLoss,
    inputs: Record<string, Float32Array>,
    keep: "heavy" | "nothing",
  ) {
    const grads = new ParameterBuffer(model.parameters.table);
    grads.data.fill(Number.NaN); // whatever is not written shows
    const whole = { tokens: { ids, B, T }, ...asked, distribution: { temperature: 1 } };
    return { grads, ...(await model.lossAndGradients(whole, loss, inputs, grads, false, keep)) };
  }
  const checkGradients = (grads: ParameterBuffer, prefix: string) => {
    for (const { name: parameter } of model.parameters.table) {
      const want = golden.floats(`${prefix}.grad.${parameter}`);
      if (want.every((g) => g === 0)) {
        expect(
          grads.view(parameter).every((g) => g === 0),
          parameter,
        ).toBe(true);
        continue;
      }
      const error = relativeError(grads.view(parameter), want);
      measured.add("gradients, relative", error);
      if (!(error <= 1e-3)) expect.fail(`${parameter}: relative error ${error}`);
    }
  };

  test.each(["heavy", "nothing"] as const)("gradients of the language-model loss, keeping %s", async (keep) => {
    expect(model.parameters.table.map((p) => p.name).sort()).toEqual([...golden.parameters].sort());
    const rows = Int32Array.from(lengths.flatMap((n, b) => Array.from({ length: n - 1 }, (_, t) => b * T + t)));
    const weight = new Float32Array(rows.length).fill(1 / rows.length);
    const asked = { rows, ids: rows.map((n) => ids[n + 1]) };
    const { loss, grads } = await gradients(asked, languageModelLoss, { weight }, keep);
    expect(loss).toBeCloseTo(golden.losses.lm.loss, 5);
    checkGradients(grads, "lm");
  });

  test.each(["heavy", "nothing"] as const)("gradients of the PPO loss, keeping %s", async (keep) => {
    const [row, position] = [golden.ints("ppo.rows"), golden.ints("ppo.positions")];
    const asked = {
      rows: row.map((b, i) => b * T + position[i] - 1),
      ids: row.map((b, i) => ids[b * T + position[i]]),
    };
    const want = golden.losses.ppo;
    const loss = ppoLoss({
      clipRange: want.clipRange,
      clipRangeValue: want.valueClipRange,
      vfCoef: want.vfCoef,
      entropyCoef: want.entropyCoef,
    });
    const inputs = {
      weight: new Float32Array(row.length).fill(1 / row.length),
      oldLogprobs: golden.floats("ppo.oldLogprobs"),
      advantages: golden.floats("ppo.advantages"),
      oldValues: golden.floats("ppo.oldValues"),
      returns: golden.floats("ppo.returns"),
    };
    const got = await gradients(asked, loss, inputs, keep);
    expect(got.loss).toBeCloseTo(want.loss, 5);
    for (const n of ["logprobs", "values", "entropies"] as const)
      expect(maxDifference(got[n], golden.floats(`ppo.${n}`)), n).toBeLessThan(1e-4);
    checkGradients(got.grads, "ppo");
  });

  test("what is saved here loads with the same weights and computes the same", async () => {
    const to = join(saved, name);
    await model.savePretrained(to);
    const again = await loadModel(to, { threads: 2 });
    expect(again.notes).toEqual([]);
    expect(again.parameters.data).toEqual(model.parameters.data);
    expect({ ...again.config, raw: 0 }).toEqual({ ...model.config, raw: 0 });
    const read = JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
    const written = JSON.parse(readFileSync(join(to, "config.json"), "utf8"));
    const { torch_dtype: _, rope_scaling: _scaling, ...kept } = read; // rope_scaling is written as rope_type, not type
    expect(written).toMatchObject(kept);
    const out = await again.forward(given);
    same("logits", out.logits.data, golden.floats("logits"), V);
    same("values", out.values.data, golden.floats("values"), 1);
    again.dispose();
  });
});
