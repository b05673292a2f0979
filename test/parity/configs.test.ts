/** @file Every field of config.json that changes what is computed: logits, values and gradients against transformers. */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { languageModelLoss } from "../../src/algorithms/losses.ts";
import { SUPPORTED_ACTIVATIONS } from "../../src/checkpoint/config-json.ts";
import { parseConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { goldenPath, maxDifference, relativeError } from "../support/golden.ts";
import { goldenSet } from "../support/golden-set.ts";
import { worst } from "../support/worst.ts";

const golden = goldenSet("configs/golden.safetensors");
const { lengths, cases } = JSON.parse(readFileSync(goldenPath("configs/golden.json"), "utf8")) as {
  lengths: number[];
  cases: { name: string; weights: string; loss: number; config: Record<string, unknown> }[];
};
const ids = golden.ints("inputIds");
const mask = golden.ints("attentionMask");
const [B, T] = golden.shape("inputIds");
const existing = (data: Float32Array, width: number) => data.filter((_, i) => mask[Math.floor(i / width)] === 1);

const targets = lengths.flatMap((length, b) => Array.from({ length: length - 1 }, (_, t) => b * T + t));
const rows = Int32Array.from(targets);
const next = rows.map((row) => ids[row + 1]);

function load(name: string): { model: GPT2HeadWithValueModel; loss: number } {
  const { weights, config, loss } = cases.find((c) => c.name === name) ?? expect.fail(`no case ${name}`);
  const model = GPT2HeadWithValueModel.fromConfig(parseConfig(config, name), { threads: 1 });
  for (const p of model.parameters.table) model.parameters.view(p.name).set(golden.floats(`${weights}.${p.name}`));
  return { model, loss };
}

const measured = worst("configs");
afterAll(() => measured.print());

test("every activation has a case", () => {
  expect(cases.map((c) => c.name)).toEqual(expect.arrayContaining([...SUPPORTED_ACTIVATIONS]));
});

describe.each(cases.map((c) => c.name))("%s", (name) => {
  test("logits and values", async () => {
    const { model } = load(name);
    const { vocabSize: V } = model.config;
    const inputIds = { data: ids, shape: [B, T] };
    const out = await model.forward({ inputIds, attentionMask: { data: mask, shape: [B, T] } });
    const logits = maxDifference(existing(out.logits.data, V), existing(golden.floats(`${name}.logits`), V));
    const values = maxDifference(existing(out.values.data, 1), existing(golden.floats(`${name}.values`), 1));
    measured.add("logits", logits);
    measured.add("values", values);
    expect(logits).toBeLessThan(1e-4);
    expect(values).toBeLessThan(1e-4);
    model.dispose();
  });

  test("the sampler's logits after each prompt", async () => {
    const { model } = load(name);
    const { vocabSize: V } = model.config;
    const decoder = new Decoder(model, B, T);
    await decoder.prefill(lengths.map((length, b) => ids.slice(b * T, b * T + length)));
    lengths.forEach((length, b) => {
      const end = b * T + length - 1;
      const want = golden.floats(`${name}.logits`).subarray(end * V, (end + 1) * V);
      const gap = maxDifference(decoder.logits.subarray(b * V, (b + 1) * V), want);
      measured.add("sampler's logits", gap);
      expect(gap).toBeLessThan(1e-4);
    });
    decoder.release();
    model.dispose();
  });

  test("gradients of the language-model loss", async () => {
    const { model, loss } = load(name);
    const grads = new ParameterBuffer(model.parameters.table);
    grads.data.fill(Number.NaN); // whatever is not written shows
    const asked = { tokens: { ids, B, T }, rows, ids: next, distribution: { temperature: 1 } };
    const weight = new Float32Array(rows.length).fill(1 / rows.length);
    const got = await model.lossAndGradients(asked, languageModelLoss, { weight }, grads);
    expect(got.loss).toBeCloseTo(loss, 5);
    for (const p of model.parameters.table) {
      if (p.name.startsWith("v_head.")) continue;
      const error = relativeError(grads.view(p.name), golden.floats(`${name}.grad.${p.name}`));
      measured.add("gradients, relative", error);
      if (!(error <= 1e-3)) expect.fail(`${p.name}: relative error ${error}`);
    }
    model.dispose();
  });
});
