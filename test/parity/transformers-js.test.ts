/** @file Exported models in @huggingface/transformers for JavaScript: it loads them offline, and says what the model says here. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RNG } from "../../src/base/rng.ts";
import { generate } from "../../src/sample/generate.ts";
import { type ExportDtype, exportOnnx } from "../../src/ship/export.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { root } from "../support/cli.ts";
import { familyNames, type Model, smallModel } from "../support/families.ts";
import { leftPadded, transformersJS } from "../support/transformers-js.ts";

const scratch = mkdtempSync(join(tmpdir(), "valuehead-export-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const V = 8192;
const TEXTS = ["This movie is", "I went to the cinema and", "A"];
let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(join(root, "models", "tiny"));
});

/** The largest difference, relative to numbers above 1. */
function gap(got: ArrayLike<number>, want: ArrayLike<number>): number {
  expect(got.length).toBe(want.length);
  return Array.from(got, (x, i) => Math.abs(x - want[i]) / (1 + Math.abs(want[i]))).reduce((a, b) => Math.max(a, b), 0);
}

/** What forward() says after the last token of each row, [V] each. */
async function lastLogits(model: Model, rows: readonly Int32Array[]): Promise<Float32Array[]> {
  const results: Float32Array[] = [];
  for (const row of rows) {
    const { logits } = await model.forward({ inputIds: [row] });
    results.push(logits.data.slice((row.length - 1) * V));
  }
  return results;
}

const exported = async (model: Model, name: string, dtype: ExportDtype, limit?: number) => {
  const directory = join(scratch, name);
  if (!existsSync(directory)) await exportOnnx(model, directory, { tokenizer, dtype, limit });
  const { AutoModelForCausalLM } = await transformersJS();
  return AutoModelForCausalLM.from_pretrained(directory, { dtype });
};

describe.each(familyNames)("%s", (family) => {
  let model: Model;
  let rows: Int32Array[];
  beforeAll(() => {
    model = smallModel(family, { vocabSize: V, context: 64 }, { seed: 5, threads: 1 });
    rows = TEXTS.map((text) => tokenizer.encode(text));
  });

  test("logits of a batch padded on the left, then of one more token with the cache", async () => {
    const js = await exported(model, family, "fp32");
    const inputs = await leftPadded(rows);
    const [B, T] = inputs.input_ids.dims;
    const { logits, ...present } = await js(inputs);
    expect(logits.dims).toEqual([B, T, V]);
    const want = await lastLogits(model, rows);
    for (let b = 0; b < B; b++) {
      const got = (logits.data as Float32Array).subarray((b * T + T - 1) * V, (b + 1) * T * V);
      expect(gap(got, want[b])).toBeLessThan(1e-4);
    }
    // Every position of the longest row, which has no padding.
    const whole = await model.forward({ inputIds: [rows[1]] });
    expect(gap((logits.data as Float32Array).subarray(T * V, 2 * T * V), whole.logits.data)).toBeLessThan(1e-4);

    const next = await leftPadded(rows.map((_, b) => [17 + b]));
    const longer = rows.map((row, b) => Int32Array.of(...row, 17 + b));
    const mask = (await leftPadded(longer)).attention_mask;
    const { DynamicCache } = await transformersJS();
    const cache = Object.entries(present).map(([n, t]) => [n.replace("present", "past_key_values"), t] as const);
    const past_key_values = new DynamicCache(Object.fromEntries(cache));
    const step = await js({ input_ids: next.input_ids, attention_mask: mask, past_key_values });
    expect(step.logits.dims).toEqual([B, 1, V]);
    const after = await lastLogits(model, longer);
    for (let b = 0; b < B; b++)
      expect(gap((step.logits.data as Float32Array).subarray(b * V, (b + 1) * V), after[b])).toBeLessThan(1e-4);
    await js.dispose();
  });

  test("pipeline() writes the greedy text that generate() writes", async () => {
    const directory = join(scratch, family);
    const { pipeline } = await transformersJS();
    const write = await pipeline("text-generation", directory, { dtype: "fp32" });
    const { responses } = await generate(model, rows.slice(0, 1), { maxNewTokens: 24, temperature: 1, topK: 1 });
    const ours = tokenizer.decodeAfter(rows[0], responses[0].tokens, { skipSpecialTokens: true });
    const [{ generated_text }] = await write(TEXTS[0], { max_new_tokens: 24, do_sample: false });
    expect(generated_text).toBe(TEXTS[0] + ours);
    await write.dispose();
  });

  test("q8 is near the fp32 model, and a third of its size or less", async () => {
    const js = await exported(model, `${family}-q8`, "q8");
    const { logits } = await js(await leftPadded(rows));
    const [B, T] = logits.dims;
    const want = await lastLogits(model, rows);
    for (let b = 0; b < B; b++) {
      const got = (logits.data as Float32Array).subarray((b * T + T - 1) * V, (b + 1) * T * V);
      const spread = Math.sqrt(want[b].reduce((s, x) => s + x * x, 0) / V);
      const error = Math.sqrt(want[b].reduce((s, x, i) => s + (x - got[i]) ** 2, 0) / V);
      if (process.env.MEASURE) console.log(family, "q8", error / spread);
      expect(error / spread).toBeGreaterThan(0);
      expect(error / spread).toBeLessThan(0.05);
    }
    const sizes = [`${family}/onnx/model.onnx`, `${family}-q8/onnx/model_quantized.onnx`].map(
      (name) => statSync(join(scratch, name)).size,
    );
    expect(sizes[1]).toBeLessThan(sizes[0] / 3);
    await js.dispose();
  });
});

test.each(["gpt2", "llama"])("the adapter of a %s is merged", async (family) => {
  const model = smallModel(family, { vocabSize: V, context: 64 }, { seed: 5, threads: 1 });
  model.addAdapter({ rank: 3, alpha: 12 });
  const rng = new RNG(3);
  for (const { name, adapts } of model.parameters.table)
    if (adapts) {
      const view = model.parameters.view(name);
      for (let i = 0; i < view.length; i++) view[i] += 0.1 * rng.normal();
    }
  const rows = TEXTS.map((text) => tokenizer.encode(text));
  const want = await lastLogits(model, rows);
  const base = await lastLogits(model.withoutAdapter(), rows);
  expect(gap(base[0], want[0])).toBeGreaterThan(0.01); // it does something
  const js = await exported(model, `${family}-adapter`, "fp32");
  const { logits } = await js(await leftPadded(rows));
  const [B, T] = logits.dims;
  for (let b = 0; b < B; b++)
    expect(gap((logits.data as Float32Array).subarray((b * T + T - 1) * V, (b + 1) * T * V), want[b])).toBeLessThan(
      1e-4,
    );
  await js.dispose();
});

test.each(["fp32", "q8"] as const)("a model too large for one file is split in %s, and loads", async (dtype) => {
  const model = smallModel("llama", { vocabSize: V, context: 64 }, { seed: 5, threads: 1 });
  const js = await exported(model, `split-${dtype}`, dtype, 300_000);
  const config = JSON.parse(readFileSync(join(scratch, `split-${dtype}`, "config.json"), "utf8"));
  const [count] = Object.values<number>(config["transformers.js_config"].use_external_data_format);
  expect(count).toBeGreaterThan(1);
  const rows = TEXTS.map((text) => tokenizer.encode(text));
  const { logits } = await js(await leftPadded(rows));
  const [B, T] = logits.dims;
  const want = await lastLogits(model, rows);
  for (let b = 0; b < B; b++)
    expect(gap((logits.data as Float32Array).subarray((b * T + T - 1) * V, (b + 1) * T * V), want[b])).toBeLessThan(
      dtype === "q8" ? 0.3 : 1e-4,
    );
  await js.dispose();
});

test.each(["fp32", "q8"] as const)(
  "%s gives in WebAssembly, as browsers have it, what it gives here",
  async (dtype) => {
    const model = smallModel("qwen3", { vocabSize: V, context: 64 }, { seed: 5, threads: 1 });
    const js = await exported(model, `qwen3-wasm-${dtype}`, dtype);
    const row = tokenizer.encode(TEXTS[1]);
    const { logits } = await js(await leftPadded([row]));
    await js.dispose();

    // The runtime that transformers.js itself brings for browsers.
    const runtime = createRequire(createRequire(import.meta.url).resolve("@huggingface/transformers"))(
      "onnxruntime-web",
    );
    runtime.env.wasm.numThreads = 1;
    const file = join(scratch, `qwen3-wasm-${dtype}`, "onnx", dtype === "q8" ? "model_quantized.onnx" : "model.onnx");
    const session = await runtime.InferenceSession.create(new Uint8Array(readFileSync(file)), {
      executionProviders: ["wasm"],
    });
    const T = row.length;
    const whole = (numbers: ArrayLike<number>, dims: number[]) =>
      new runtime.Tensor("int64", BigInt64Array.from(Array.from(numbers, BigInt)), dims);
    const { layers, kvHeads, headSize } = model.sizes;
    const past = Array.from({ length: layers }, (_, layer) =>
      ["key", "value"].map((what) => `past_key_values.${layer}.${what}`),
    );
    const cache = past
      .flat()
      .map((name) => [name, new runtime.Tensor("float32", new Float32Array(), [1, kvHeads, 0, headSize])]);
    const results = await session.run({
      input_ids: whole(row, [1, T]),
      attention_mask: whole(new Array(T).fill(1), [1, T]),
      position_ids: whole(Array.from(row.keys()), [1, T]),
      num_logits_to_keep: whole([0], []),
      ...Object.fromEntries(cache),
    });
    expect(gap(results.logits.data, logits.data as Float32Array)).toBeLessThan(1e-3);
    await session.release();
  },
);
