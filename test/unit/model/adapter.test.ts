import { describe, expect, it } from "vitest";
import { Learner } from "../../../src/algorithms/learner.ts";
import { languageModelLoss } from "../../../src/algorithms/losses.ts";
import { ValueheadError } from "../../../src/base/errors.ts";
import { adapterRows, loraConfig } from "../../../src/model/adapter.ts";
import type { AskedTokens } from "../../../src/model/asked.ts";
import { namesAbove, ParameterBuffer, trainedRows } from "../../../src/model/parameters.ts";
import { smallModel } from "../../support/families.ts";

const shape = { vocabSize: 61, context: 32 };
const open = (name: string) => smallModel(name, shape, { threads: 1, seed: 3 });
const ids = Int32Array.from({ length: 12 }, (_, i) => (i * 7 + 3) % 61);
const asked: AskedTokens = {
  distribution: { temperature: 1 },
  tokens: { ids, B: 2, T: 6 },
  rows: Int32Array.of(0, 1, 2, 3, 4, 6, 7, 8, 9, 10),
  ids: Int32Array.of(...ids.subarray(1, 6), ...ids.subarray(7, 12)),
};
const logits = async (model: ReturnType<typeof open>) =>
  (await model.forward({ inputIds: { data: ids, shape: [2, 6] } })).logits.data;
const largest = (a: Float32Array, b: Float32Array) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
const moduleNames = (rows: { name: string }[]) => [
  ...new Set(rows.map(({ name }) => name.replace(/\.lora_[AB]\.weight$/, ""))),
];

describe.each(["gpt2", "llama"])("%s", (name) => {
  it("computes what it did before, bit for bit, until something is trained; so does the base without the adapter", async () => {
    const model = open(name);
    const before = await logits(model);
    model.addAdapter({ rank: 2 });
    expect(await logits(model)).toEqual(before);
    for (const { name: row, adapts } of model.parameters.table)
      if (adapts) model.parameters.view(row).set(model.parameters.view(row).map((_, i) => Math.sin(i)));
    expect(largest(await logits(model), before)).toBeGreaterThan(0.1);
    expect(await logits(model.withoutAdapter())).toEqual(before);
  });

  it("merged it computes the same, and the base is as it was", async () => {
    const model = open(`${name} with LoRA`);
    const [unmerged, base] = [await logits(model), await logits(model.withoutAdapter())];
    const merged = await model.merge();
    expect(merged.adapter).toBeUndefined();
    expect(largest(await logits(merged), unmerged)).toBeLessThan(1e-5);
    expect(largest(unmerged, base)).toBeGreaterThan(0.1);
    expect(await logits(model.withoutAdapter())).toEqual(base);
  });

  it("the gradient of A, B and the value head is that of finite differences, and nothing else has one", async () => {
    const model = open(`${name} with LoRA`);
    const { table } = model.parameters;
    const names = namesAbove(model, table, 0);
    expect([...names].filter((row) => !/lora_[AB]|^v_head/.test(row))).toEqual([]);
    const grads = new ParameterBuffer(trainedRows(table, names));
    const weight = new Float32Array(asked.rows.length).fill(1 / asked.rows.length);
    await model.lossAndGradients(asked, languageModelLoss, { weight }, grads);
    const lossAt = async (row: string, i: number, change: number) => {
      const view = model.parameters.view(row);
      const kept = view[i];
      view[i] = kept + change;
      const { logprobs } = await model.score(asked);
      view[i] = kept;
      return -logprobs.reduce((sum, x) => sum + x, 0) / logprobs.length;
    };
    for (const row of [...names].filter((row) => row.includes("lora"))) {
      const gradient = grads.view(row);
      const i = gradient.reduce((best, x, at) => (Math.abs(x) > Math.abs(gradient[best]) ? at : best), 0);
      const h = 2e-2;
      const slope = ((await lossAt(row, i, h)) - (await lossAt(row, i, -h))) / (2 * h);
      expect(Math.abs(slope - gradient[i]), row).toBeLessThan(0.02 * Math.abs(gradient[i]) + 2e-4);
    }
  });
});

const matrix = (name: string, layer: number, matrix: "in,out" | "out,in" = "out,in") =>
  ({
    name: `h.${layer}.${name}.weight`,
    short: `${name}.weight`,
    layer,
    shape: [4, 6],
    axes: ["a", "b"],
    matrix,
  }) as const;
const table = [0, 1].flatMap((layer) => [
  matrix("attn.q", layer),
  matrix("attn.o", layer, "in,out"),
  matrix("mlp.o", layer),
]);

describe("targets, as PEFT matches them", () => {
  const targets: [targets: string | string[], names: string[]][] = [
    ["all-linear", ["h.0.attn.q", "h.0.attn.o", "h.0.mlp.o", "h.1.attn.q", "h.1.attn.o", "h.1.mlp.o"]],
    [["o"], ["h.0.attn.o", "h.0.mlp.o", "h.1.attn.o", "h.1.mlp.o"]],
    [["attn.o"], ["h.0.attn.o", "h.1.attn.o"]],
    [
      ["h.1.attn.q", "mlp.o"],
      ["h.0.mlp.o", "h.1.attn.q", "h.1.mlp.o"],
    ],
    [".*\\.[qo]", ["h.0.attn.q", "h.0.attn.o", "h.0.mlp.o", "h.1.attn.q", "h.1.attn.o", "h.1.mlp.o"]],
    ["h\\.1.*q", ["h.1.attn.q"]],
  ];
  it.each(targets)("%j", (targets, names) => {
    expect(moduleNames(adapterRows(table, loraConfig({ targets })))).toEqual(names);
  });

  it("layers and what is left out", () => {
    expect(moduleNames(adapterRows(table, loraConfig({ layers: [1], excluded: ["mlp.o"] })))).toEqual([
      "h.1.attn.q",
      "h.1.attn.o",
    ]);
  });

  it("shapes: A is [r, in] and B [out, r], however the matrix is stored", () => {
    const rows = adapterRows(table, loraConfig({ rank: 2, targets: ["attn.q", "attn.o"], layers: [0] }));
    expect(rows.map(({ short, shape }) => [short, shape])).toEqual([
      ["attn.q.lora_A.weight", [2, 6]],
      ["attn.q.lora_B.weight", [4, 2]],
      ["attn.o.lora_A.weight", [2, 4]],
      ["attn.o.lora_B.weight", [6, 2]],
    ]);
  });

  it("s is alpha / r, alpha / sqrt(r) when rank-stabilised, with ranks and alphas of its own where a pattern says", () => {
    const scaling = (partial: object) =>
      adapterRows(table, loraConfig({ targets: ["attn.q"], layers: [0], rank: 4, alpha: 6, ...partial }))[1];
    expect(scaling({}).adapts.scaling).toBe(1.5);
    expect(scaling({ rankStabilized: true }).adapts.scaling).toBe(3);
    expect(scaling({ rankPattern: { q: 2 } })).toMatchObject({ shape: [4, 2], adapts: { scaling: 3 } });
    expect(scaling({ alphaPattern: { "attn.q": 2 } }).adapts.scaling).toBe(0.5);
    expect(scaling({ rankPattern: { "tn.q": 2 } }).shape).toEqual([4, 4]);
  });
});

const refused: [partial: object, message: string][] = [
  [{ rank: 0 }, "addAdapter, rank: found 0, expected a whole number from 1"],
  [{ rank: 2.5 }, "addAdapter, rank: found 2.5"],
  [{ alpha: 0 }, "addAdapter, alpha: found 0, expected a number above 0"],
  [{ targets: [] }, "addAdapter, targets: found"],
  [{ targets: "(" }, "addAdapter, targets: found"],
  [
    { targets: ["q_proj"] },
    'adapter, targets: found "q_proj", which matches no matrix of a block, expected "all-linear", or some of attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj',
  ],
  [{ targets: ["c_attn", "lm_head"] }, 'adapter, targets: found "lm_head"'],
  [{ targets: ["c_attn"], excluded: ["attn.c_attn"] }, "adapter, targets: found"],
  [{ layers: [2] }, "adapter, layers: found block 2, expected 0 to 1: the model has 2 blocks"],
  [{ layers: [] }, "addAdapter, layers: found"],
  [{ r: 8 }, "addAdapter, r: found an unknown option, expected one of rank, alpha, targets"],
  [{ rankPattern: { c_attn: 0 } }, "addAdapter, rankPattern, c_attn: found 0"],
];
it.each(refused)("refused: %j", (partial, message) => {
  const model = open("gpt2");
  const before = model.parameters;
  expect(() => model.addAdapter(partial)).toThrow(ValueheadError);
  expect(() => model.addAdapter(partial)).toThrow(message);
  expect([model.adapter, model.parameters]).toEqual([undefined, before]); // as it was
});

it("a model has one adapter at a time, and none cannot be merged", async () => {
  const model = open("gpt2 with LoRA");
  expect(() => model.addAdapter()).toThrow("addAdapter: found a model that has an adapter");
  await expect(open("gpt2").merge()).rejects.toThrow("merge(): found a model without an adapter");
});

it("a model that was trained takes none: nothing could say what its base is", async () => {
  const model = open("gpt2");
  const learner = new Learner(model, { optimizer: { learningRate: 1e-3 }, maxGradNorm: 0 });
  const weight = new Float32Array(asked.rows.length).fill(0.1);
  await learner.accumulate({ ...asked, ids: asked.ids as Int32Array }, languageModelLoss, { weight });
  await learner.apply();
  expect(() => model.addAdapter()).toThrow(
    "addAdapter: found a model whose weights were trained since it was loaded, expected one that can be found again: an adapter is " +
      "saved with the name of its base. Fix: save it (savePretrained) and add the adapter to what loadModel opens there",
  );
});
