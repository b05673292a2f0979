/**
 * @file LoRA against PEFT and PyTorch (tools/reference/lora.py): adapters that PEFT saved compute the same here, forwards and
 * backwards, token by token and merged; what is saved here computes the same when it is loaded again. tools/reference/check_peft_roundtrip.py
 * loads that in PEFT.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { languageModelLoss, ppoLoss } from "../../src/algorithms/losses.ts";
import { checkModel, loadModel, readModel } from "../../src/families/index.ts";
import type { RowLoss } from "../../src/model/head.ts";
import { namesAbove, ParameterBuffer, trainedRows } from "../../src/model/parameters.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { generate } from "../../src/sample/generate.ts";
import { goldenPath, maxDifference, relativeError, type TinyGolden, tinyGolden } from "../support/golden.ts";
import { worst } from "../support/worst.ts";

interface LoRAGolden extends TinyGolden {
  base: string;
  greedy: { ids: number[]; tokens: number[] }[];
  tensors: Record<string, number[]>;
}

const saved = mkdtempSync(join(tmpdir(), "valuehead-lora-"));
const measured = worst("lora");
afterAll(() => {
  measured.print();
  rmSync(saved, { recursive: true, force: true });
});
const names = readdirSync(goldenPath("lora"));

test("there is one of each kind", () => {
  expect(names.length).toBeGreaterThanOrEqual(6);
});

describe.each(names)("%s", async (name) => {
  const directory = goldenPath(`lora/${name}`);
  const golden = tinyGolden(directory) as LoRAGolden;
  const model = await loadModel(directory, { threads: 2 });
  afterAll(() => model.dispose());
  const { vocabSize: V } = model.sizes;
  const { lengths } = golden;
  const B = lengths.length;
  const T = Math.max(...lengths);
  const ids = golden.ints("inputIds");
  const mask = golden.ints("attentionMask");
  const given = { inputIds: { data: ids, shape: [B, T] }, attentionMask: { data: mask, shape: [B, T] } };
  const trained = trainedRows(model.parameters.table, namesAbove(model, model.parameters.table, 0));

  /** Numbers at existing positions only; `width` numbers per position. */
  const existing = (data: Float32Array, width: number) => data.filter((_, i) => mask[Math.floor(i / width)] === 1);
  const same = (what: string, got: Float32Array, want: Float32Array, width: number, limit = 1e-4) => {
    const gap = maxDifference(existing(got, width), existing(want, width));
    measured.add(what, gap);
    expect(gap, what).toBeLessThan(limit);
  };

  test("what it is, before its weights are read and after", async () => {
    for (const read of [readModel, checkModel]) expect((await read(directory)).adapter).toEqual(model.adapter);
    expect(model.notes).toEqual([]);
    expect(model.valueHeadIsNew).toBe(false);
    expect(model.baseName).toBe(goldenPath(golden.base));
    expect(trained.map((row) => row.name).sort()).toEqual([...golden.parameters].sort());
  });

  test("logits and values", async () => {
    const out = await model.forward(given);
    same("logits", out.logits.data, golden.floats("logits"), V);
    same("values", out.values.data, golden.floats("values"), 1);
  });

  test("log-probs and values of score", async () => {
    const rows = lengths.flatMap((n, b) => Array.from({ length: n - 1 }, (_, t) => b * T + t));
    const asked = { tokens: { ids, B, T }, rows: Int32Array.from(rows), ids: Int32Array.from(rows, (n) => ids[n + 1]) };
    const got = await model.score({ ...asked, distribution: { temperature: 1 } });
    const at = (x: Float32Array) => Float32Array.from(rows, (n) => x[n]);
    expect(maxDifference(got.logprobs, at(golden.floats("logprobs")))).toBeLessThan(1e-4);
    expect(maxDifference(got.values, at(golden.floats("values")))).toBeLessThan(1e-4);
  });

  test("the adapter off: the base, bit for bit", async () => {
    const off = model.withoutAdapter();
    const base = await loadModel(goldenPath(golden.base), { engine: model.engine });
    const [got, want] = [await off.forward(given), await base.forward(given)];
    same("logits without it", got.logits.data, golden.floats("base.logits"), V);
    expect(existing(got.logits.data, V)).toEqual(existing(want.logits.data, V));
  });

  test("merged", async () => {
    const merged = await model.merge();
    for (const what of Object.keys(golden.tensors)) {
      const matrix = /^merged\.(.*\.weight)$/.exec(what)?.[1];
      if (matrix) expect(maxDifference(merged.parameters.view(matrix), golden.floats(what)), what).toBeLessThan(1e-5);
    }
    const [got, unmerged] = [await merged.forward(given), await model.forward(given)];
    same("merged logits", got.logits.data, golden.floats("merged.logits"), V);
    same("merged and not", got.logits.data, unmerged.logits.data, V, 1e-5);
    same("values, merged and not", got.values.data, unmerged.values.data, 1, 1e-5);
    expect(merged.adapter).toBeUndefined();
    expect(merged.baseName).toBeUndefined(); // an adapter on top of it is none of the base
  });

  test("the sampler's logits and values, prompt by prompt and token by token", async () => {
    const decoder = new Decoder(model, B, T);
    await decoder.prefill(lengths.map((n, b) => ids.slice(b * T, b * T + Math.ceil(n / 2))));
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
    const grads = new ParameterBuffer(trained);
    grads.data.fill(Number.NaN); // whatever is not written shows
    const whole = { tokens: { ids, B, T }, ...asked, distribution: { temperature: 1 } };
    return { grads, ...(await model.lossAndGradients(whole, loss, inputs, grads, false, keep)) };
  }
  const checkGradients = (grads: ParameterBuffer, prefix: string) => {
    for (const { name: parameter } of trained) {
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
    expect(readdirSync(to)).toEqual(["adapter_config.json", "adapter_model.safetensors", "v_head.safetensors"]);
    const written = JSON.parse(readFileSync(join(to, "adapter_config.json"), "utf8"));
    const read = JSON.parse(readFileSync(join(directory, "adapter_config.json"), "utf8"));
    for (const field of ["peft_type", "task_type", "bias", "fan_in_fan_out", "r", "lora_alpha", "use_rslora"])
      expect(written[field], field).toEqual(read[field]);
    expect(written.base_model_name_or_path).toBe(goldenPath(golden.base));
    const again = await loadModel(to, { threads: 2 });
    expect(again.notes).toEqual([]);
    expect(again.parameters.data).toEqual(model.parameters.data);
    expect(again.parameters.table).toEqual(model.parameters.table);
    const given2 = await loadModel(goldenPath(golden.base), { adapter: to, engine: again.engine });
    for (const m of [again, given2]) {
      const out = await m.forward(given);
      same("logits", out.logits.data, golden.floats("logits"), V);
      same("values", out.values.data, golden.floats("values"), 1);
    }
    again.dispose();
  });
});
