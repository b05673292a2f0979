/** @file Every parameter's gradient of the language-model and PPO losses against PyTorch autograd. */
import { describe, expect, test } from "vitest";
import { languageModelLoss, ppoLoss } from "../../src/algorithms/losses.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import type { Distribution } from "../../src/model/distribution.ts";
import type { RowLoss } from "../../src/model/head.ts";
import { KeptSet } from "../../src/model/kept-set.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { maxDifference, relativeError, tinyDir, tinyGolden } from "../support/golden.ts";

const golden = tinyGolden();
const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 2 });
const { config, parameters } = model;
const B = golden.lengths.length;
const T = Math.max(...golden.lengths);
const ids = golden.ints("inputIds");

interface Rows {
  rows: Int32Array;
  ids: Int32Array;
}

async function lossAndGradients(
  asked: Rows,
  distribution: Distribution,
  loss: RowLoss,
  inputs: Record<string, Float32Array>,
  keep: "heavy" | "nothing",
  half = false,
) {
  const grads = new ParameterBuffer(parameters.table);
  grads.data.fill(Number.NaN); // whatever is not written shows
  let total = 0;
  const scores = { logprobs: [] as number[], values: [] as number[], entropies: [] as number[] };
  // Two micro-batches of the same sequences, each with half of the rows, must add up to the whole.
  const parts = half ? [asked.rows.length >> 1, asked.rows.length] : [asked.rows.length];
  let start = 0;
  for (const [i, end] of parts.entries()) {
    const rows = asked.rows.slice(start, end);
    const kept = distribution.kept?.slice(start, end);
    const whole = {
      tokens: { ids, B, T },
      rows,
      ids: asked.ids.slice(start, end),
      distribution: { ...distribution, kept },
    };
    const own = Object.fromEntries(Object.entries(inputs).map(([n, x]) => [n, x.slice(start, end)]));
    const result = await model.lossAndGradients(whole, loss, own, grads, i > 0, keep);
    total += result.loss;
    for (const n of ["logprobs", "values", "entropies"] as const) scores[n].push(...result[n]);
    start = end;
  }
  return { loss: total, grads, ...scores };
}

const check = (grads: ParameterBuffer, prefix: string, skip: string[] = []) => {
  for (const p of parameters.table) {
    if (skip.includes(p.name)) continue;
    const error = relativeError(grads.view(p.name), golden.floats(`${prefix}.grad.${p.name}`));
    if (!(error <= 1e-3)) expect.fail(`${p.name}: relative error ${error}`);
  }
};

const lmRows: Rows = (() => {
  const rows: number[] = [];
  const next: number[] = [];
  golden.lengths.forEach((length, b) => {
    for (let t = 0; t + 1 < length; t++) {
      rows.push(b * T + t);
      next.push(ids[b * T + t + 1]);
    }
  });
  return { rows: Int32Array.from(rows), ids: Int32Array.from(next) };
})();

const responseRows: Rows = (() => {
  const row = golden.ints("ppo.rows");
  const position = golden.ints("ppo.positions");
  return {
    rows: row.map((b, i) => b * T + position[i] - 1),
    ids: row.map((b, i) => ids[b * T + position[i]]),
  };
})();

describe.each(["heavy", "nothing"] as const)("keeping %s between forward and backward", (keep) => {
  test.each([false, true])("language-model loss, two micro-batches: %s", async (half) => {
    const weight = new Float32Array(lmRows.rows.length).fill(1 / lmRows.rows.length);
    const { loss, grads } = await lossAndGradients(
      lmRows,
      { temperature: 1 },
      languageModelLoss,
      { weight },
      keep,
      half,
    );
    expect(loss).toBeCloseTo(golden.losses.lm.loss, 5);
    // The value head takes no part in this loss and its gradient is exactly zero.
    check(grads, "lm", ["v_head.summary.weight", "v_head.summary.bias"]);
    expect(grads.view("v_head.summary.weight").every((g) => g === 0)).toBe(true);
  });

  test.each(["ppo", "ppoEntropy", "ppoMasked"])("%s", async (name) => {
    const want = golden.losses[name];
    const n = responseRows.rows.length;
    const old = name === "ppoMasked" ? "ppoMasked.oldLogprobs" : "ppo.oldLogprobs";
    const inputs = {
      weight: new Float32Array(n).fill(1 / n),
      oldLogprobs: golden.floats(old),
      advantages: golden.floats("ppo.advantages"),
      oldValues: golden.floats("ppo.oldValues"),
      returns: golden.floats("ppo.returns"),
    };
    const V = config.vocabSize;
    const flags = golden.ints("ppoMasked.kept");
    const kept = Array.from({ length: n }, (_, i) =>
      KeptSet.of(
        Int32Array.from({ length: V }, (_, v) => v).filter((v) => flags[i * V + v] === 1),
        V,
      ),
    );
    const distribution = name === "ppoMasked" ? { temperature: want.temperature, kept } : { temperature: 1 };
    const loss = ppoLoss({
      clipRange: want.clipRange,
      clipRangeValue: want.valueClipRange,
      vfCoef: want.vfCoef,
      entropyCoef: want.entropyCoef,
    });
    const got = await lossAndGradients(responseRows, distribution, loss, inputs, keep, name === "ppoEntropy");
    expect(got.loss).toBeCloseTo(want.loss, 5);
    expect(maxDifference(got.logprobs, golden.floats(`${name}.logprobs`))).toBeLessThan(1e-4);
    expect(maxDifference(got.values, golden.floats(`${name}.values`))).toBeLessThan(1e-4);
    expect(maxDifference(got.entropies, golden.floats(`${name}.entropies`))).toBeLessThan(1e-4);
    check(got.grads, name);
  });
});

test("a separate lm_head: its gradient and the embedding's add up to the tied one", async () => {
  const untied = GPT2HeadWithValueModel.fromConfig({ ...config, tieWordEmbeddings: false }, { threads: 2 });
  for (const p of untied.parameters.table) {
    const source = p.name === "lm_head.weight" ? "transformer.wte.weight" : p.name;
    untied.parameters.view(p.name).set(parameters.view(source));
  }
  const grads = new ParameterBuffer(untied.parameters.table);
  grads.data.fill(Number.NaN);
  const weight = new Float32Array(lmRows.rows.length).fill(1 / lmRows.rows.length);
  const asked = { tokens: { ids, B, T }, ...lmRows, distribution: { temperature: 1 } };
  const { loss } = await untied.lossAndGradients(asked, languageModelLoss, { weight }, grads);
  expect(loss).toBeCloseTo(golden.losses.lm.loss, 5);
  const embedding = grads.view("transformer.wte.weight");
  const sum = grads.view("lm_head.weight").map((g, i) => g + embedding[i]);
  expect(relativeError(sum, golden.floats("lm.grad.transformer.wte.weight"))).toBeLessThan(1e-3);
  expect(
    relativeError(
      grads.view("transformer.h.0.attn.c_attn.weight"),
      golden.floats("lm.grad.transformer.h.0.attn.c_attn.weight"),
    ),
  ).toBeLessThan(1e-3);
});

test("detached, the value loss moves the value head alone; attached, it reaches every body parameter", async () => {
  const n = responseRows.rows.length;
  const nothing = new Float32Array(n);
  const inputs = {
    weight: new Float32Array(n).fill(1 / n),
    oldLogprobs: golden.floats("ppo.oldLogprobs"),
    advantages: nothing, // no policy loss
    oldValues: golden.floats("ppo.oldValues"),
    returns: golden.floats("ppo.returns"),
  };
  const loss = ppoLoss({ clipRange: 0.2, clipRangeValue: 0.2, vfCoef: 1, entropyCoef: 0 });
  const attached = await lossAndGradients(responseRows, { temperature: 1 }, loss, inputs, "heavy");
  model.detachValueHead();
  const detached = await lossAndGradients(responseRows, { temperature: 1 }, loss, inputs, "heavy");
  model.vHead.detachHead = false;
  expect(attached.loss).toBeCloseTo(golden.losses.value.loss, 5);
  check(attached.grads, "value");
  for (const p of parameters.table) {
    const isHead = p.name.startsWith("v_head.");
    const zero = (x: Float32Array) => x.every((g) => g === 0);
    expect(zero(detached.grads.view(p.name)), p.name).toBe(!isHead);
    expect(zero(attached.grads.view(p.name)), p.name).toBe(false);
    if (isHead) expect(detached.grads.view(p.name)).toEqual(attached.grads.view(p.name));
  }
});
