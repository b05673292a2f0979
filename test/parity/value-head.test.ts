/** @file The value head: every branch of the notebook's class against PyTorch, and dropout in train mode. */
import { readFileSync } from "node:fs";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { hostMemory } from "../../src/backend/slots.ts";
import { RNG } from "../../src/base/rng.ts";
import { type GPT2Config, parseConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { mul, reduceSum } from "../../src/graph/ops/index.ts";
import type { AskedTokens } from "../../src/model/asked.ts";
import type { RowLoss } from "../../src/model/head.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { generate } from "../../src/sample/generate.ts";
import { scoreTokens } from "../../src/sample/score.ts";
import { goldenPath, maxDifference, relativeError, tinyDir, tinyGolden } from "../support/golden.ts";
import { goldenSet } from "../support/golden-set.ts";
import { worst } from "../support/worst.ts";

const golden = goldenSet("value-head/golden.safetensors");
const cases = JSON.parse(readFileSync(goldenPath("value-head/golden.json"), "utf8")) as {
  name: string;
  options: Record<string, unknown>;
  shape: number[];
  projection: number;
}[];
const tiny = tinyGolden();
const body = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 1 });
const C = body.config.nEmbd;
const B = tiny.lengths.length;
const T = Math.max(...tiny.lengths);
const ids = tiny.ints("inputIds");
const mask = tiny.ints("attentionMask");
const inputIds = { data: ids, shape: [B, T] };
const attentionMask = { data: mask, shape: [B, T] };
const measured = worst("value head");
afterAll(() => measured.print());

/** gpt2-tiny's body with another value head. */
function withHead(config: GPT2Config, projection: number, seed = 0): GPT2HeadWithValueModel {
  const model = GPT2HeadWithValueModel.fromConfig(config, { engine: body.engine, seed });
  for (const { name } of model.parameters.table)
    if (!name.startsWith("v_head.")) model.parameters.view(name).set(body.parameters.view(name));
  for (const part of ["weight", "bias"])
    if (projection > 0) model.parameters.view(`v_head.summary.${part}`).set(golden.floats(`${projection}.${part}`));
  return model;
}

/** sum of weight times value: its gradient by a value is the weight. */
const weightedValues: RowLoss = {
  name: "weightedValues",
  build: ({ values }, input) => reduceSum(mul(values, input("weight")), [0]),
};
const everyRow: AskedTokens = {
  tokens: { ids, B, T },
  rows: Int32Array.from({ length: B * T }, (_, n) => n),
  ids: new Int32Array(B * T),
  distribution: { temperature: 1 },
};
const weight = golden.floats("loss.weights");

describe.each(cases)("$name", ({ name, options, shape, projection }) => {
  const config = parseConfig({ ...body.config.raw, ...options }, name);
  const model = withHead(config, projection);

  test("values", async () => {
    const { values } = await model.forward({ inputIds, attentionMask });
    expect(values.shape).toEqual(shape);
    const width = shape[2] ?? 1;
    const existing = (data: Float32Array) => data.filter((_, i) => mask[Math.floor(i / width)] === 1);
    const gap = maxDifference(existing(values.data), existing(golden.floats(`${name}.values`)));
    measured.add("values", gap);
    expect(gap).toBeLessThan(1e-4);
  });

  test(projection === 1 ? "gradients" : "no loss on a head that is not a scalar", async () => {
    const grads = new ParameterBuffer(model.parameters.table);
    const run = () => model.lossAndGradients(everyRow, weightedValues, { weight }, grads);
    if (projection !== 1)
      return expect(run()).rejects.toThrow(`value head: found ${C} numbers per position, expected one`);
    await run();
    const names = model.parameters.table.filter((p) => golden.has(`${name}.grad.${p.name}`)).map((p) => p.name);
    expect(names).toHaveLength(6);
    for (const p of names) {
      const error = relativeError(grads.view(p), golden.floats(`${name}.grad.${p}`));
      measured.add("gradients, relative", error);
      expect(error, p).toBeLessThan(1e-3);
    }
  });
});

test("sampling and scoring need a scalar", async () => {
  const wide = withHead({ ...body.config, summaryProjToLabels: false }, C);
  const message =
    `value head: found ${C} numbers per position, expected one: a value is a scalar. ` +
    "Fix: set summary_use_proj and summary_proj_to_labels to true in config.json";
  await expect(generate(wide, [ids.slice(0, 4)], { maxNewTokens: 2 })).rejects.toThrow(message);
  await expect(scoreTokens(wide, ids.slice(0, 4))).rejects.toThrow(message);
  await expect(wide.score(everyRow)).rejects.toThrow(message);
});

describe("dropout", () => {
  const first = 0.3;
  const last = 0.4;
  const config = { ...body.config, summaryFirstDropout: first, summaryLastDropout: last, summaryActivation: "tanh" };
  const seed = 12;
  let model: GPT2HeadWithValueModel;
  beforeEach(() => {
    model = withHead(config, 1, seed);
  });

  /** What the docstring says a call draws: row after row, the hidden state's C numbers, then the output. */
  function masks(rng: RNG, rows: number, L = 1) {
    const keep = (p: number) => (rng.uniform() < p ? 0 : 1 / (1 - p));
    return Array.from({ length: rows }, () => ({
      first: Array.from({ length: C }, () => keep(first)),
      last: Array.from({ length: L }, () => keep(last)),
    }));
  }
  /** The stream of this seed, which a model of that seed starts with. */
  const stream = () => RNG.fromState(withHead(config, 1, seed).vHead.dropoutRng.getState());
  const hiddenStates = async () => {
    const { hiddenStates } = await body.forward({ inputIds, attentionMask, outputHiddenStates: true });
    return (hiddenStates as { data: Float32Array }[])[body.config.nLayer].data;
  };
  const w = golden.floats("1.weight");
  const b = golden.floats("1.bias")[0];

  test("off in a new model and after eval(), on after train()", async () => {
    expect(model.training).toBe(false);
    const off = await model.forward({ inputIds, attentionMask });
    const again = await model.forward({ inputIds, attentionMask });
    expect(again.values).toEqual(off.values);
    expect(model.train()).toBe(model);
    expect(model.training).toBe(true);
    const on = await model.forward({ inputIds, attentionMask });
    expect(on.values.data).not.toEqual(off.values.data);
    expect(on.logits).toEqual(off.logits);
    expect(model.eval().training).toBe(false);
    expect((await model.forward({ inputIds, attentionMask })).values).toEqual(off.values);
    expect(model.train().frozenCopy().training).toBe(false);
  });

  test("values are those of the masks, by a computation of its own", async () => {
    const hidden = await hiddenStates();
    const rng = stream();
    for (let call = 0; call < 2; call++) {
      const { values } = await model.train().forward({ inputIds, attentionMask });
      const want = masks(rng, B * T).map(({ first, last }, n) => {
        let sum = b;
        for (let c = 0; c < C; c++) sum += first[c] * hidden[n * C + c] * w[c];
        return Math.tanh(sum) * last[0];
      });
      const gap = maxDifference(values.data, want);
      measured.add("values with masks", gap);
      expect(gap).toBeLessThan(1e-5);
      expect(want.filter((v) => v === 0).length).toBeGreaterThan(5);
    }
  });

  test("a head of width C without projection: both masks on the hidden state", async () => {
    const wide = withHead({ ...config, summaryUseProj: false }, 0, seed).train();
    const hidden = await hiddenStates();
    const { values } = await wide.forward({ inputIds, attentionMask });
    const drawn = masks(stream(), B * T, C);
    const want = hidden.map((h, i) => {
      const { first, last } = drawn[Math.floor(i / C)];
      return Math.tanh(h * first[i % C]) * last[i % C];
    });
    expect(maxDifference(values.data, want)).toBeLessThan(1e-5);
  });

  test("the same seed gives the same masks, another seed others; they change from call to call; the state continues", async () => {
    const values = async (of: GPT2HeadWithValueModel) => (await of.forward({ inputIds, attentionMask })).values.data;
    const one = await values(model.train());
    const state = model.vHead.dropoutRng.getState();
    const two = await values(model);
    expect(two).not.toEqual(one);
    const same = withHead(config, 1, seed).train();
    expect([await values(same), await values(same)]).toEqual([one, two]);
    model.vHead.dropoutRng.setState(state);
    expect(await values(model)).toEqual(two);
    expect(await values(withHead(config, 1, seed + 1).train())).not.toEqual(one);
  });

  test("numbers are kept with probability 1 - p", () => {
    const rows = 2000;
    const drawn = model.vHead.drawMasks(rows, rows + 3);
    for (const [name, p, n] of [
      ["dropout.first", first, rows * C],
      ["dropout.last", last, rows],
    ] as const) {
      const own = drawn[name].subarray(0, n);
      expect(new Set(own)).toEqual(new Set([0, Math.fround(1 / (1 - p))]));
      const kept = own.filter((x) => x > 0).length / n;
      expect(Math.abs(kept - (1 - p)), name).toBeLessThan(4.5 * Math.sqrt((p * (1 - p)) / n)); // 4.5 standard errors
      expect(drawn[name].subarray(n).every((x) => x === 0)).toBe(true);
    }
    // Neighbours are independent: as often kept together as chance has it.
    const x = drawn["dropout.first"];
    let both = 0;
    for (let i = 1; i < rows * C; i++) if (x[i] > 0 && x[i - 1] > 0) both++;
    expect(both / (rows * C)).toBeCloseTo((1 - first) ** 2, 1.9);
  });

  test("the loss sees the masks: values and the head's gradient by a computation of its own", async () => {
    const hidden = await hiddenStates();
    const grads = new ParameterBuffer(model.parameters.table);
    const got = await model.train().lossAndGradients(everyRow, weightedValues, { weight }, grads);
    const want = { weight: new Float64Array(C), bias: 0 };
    const values = masks(stream(), B * T).map(({ first, last }, n) => {
      let sum = b;
      for (let c = 0; c < C; c++) sum += first[c] * hidden[n * C + c] * w[c];
      const slope = weight[n] * last[0] * (1 - Math.tanh(sum) ** 2);
      for (let c = 0; c < C; c++) want.weight[c] += slope * first[c] * hidden[n * C + c];
      want.bias += slope;
      return Math.tanh(sum) * last[0];
    });
    const existing = (data: ArrayLike<number>) => Array.from(data).filter((_, n) => mask[n] === 1);
    expect(maxDifference(existing(got.values), existing(values))).toBeLessThan(1e-5);
    const error = relativeError(grads.view("v_head.summary.weight"), want.weight);
    measured.add("head's gradient with masks, relative", error);
    expect(error).toBeLessThan(1e-5);
    expect(grads.view("v_head.summary.bias")[0]).toBeCloseTo(want.bias, 5);
  });

  test("the gradient goes through the masks into the body: finite differences", async () => {
    const grads = new ParameterBuffer(model.parameters.table);
    const state = model.vHead.dropoutRng.getState();
    const loss = async () => {
      model.vHead.dropoutRng.setState(state); // the same masks each time
      const { values } = await model.train().forward({ inputIds, attentionMask });
      return values.data.reduce((sum, v, n) => sum + v * weight[n], 0);
    };
    await model.train().lossAndGradients(everyRow, weightedValues, { weight }, grads);
    for (const name of [
      "transformer.wte.weight",
      "transformer.h.0.attn.c_attn.weight",
      "transformer.h.1.mlp.c_proj.bias",
    ]) {
      const gradient = grads.view(name);
      const parameter = model.parameters.view(name);
      const before = parameter.slice();
      const norm = Math.hypot(...gradient);
      const step = 2e-2 / Math.max(1, norm);
      const moved = async (by: number) => {
        parameter.forEach((_, i) => {
          parameter[i] = before[i] + (by * gradient[i]) / norm;
        });
        const value = await loss();
        parameter.set(before);
        return value;
      };
      const slope = ((await moved(step)) - (await moved(-step))) / (2 * step);
      measured.add("body's gradient with masks, relative to finite differences", Math.abs(slope / norm - 1));
      expect(slope / norm, name).toBeCloseTo(1, 2);
    }
  });

  test("detached in train mode, no gradient reaches the body", async () => {
    const grads = new ParameterBuffer(model.parameters.table);
    const take = model.pool.take.bind(model.pool);
    vi.spyOn(model.pool, "take").mockImplementation((length) => {
      const buffer = take(length);
      hostMemory(model.engine.backend, buffer)?.fill(1); // what taken memory holds is undefined
      return buffer;
    });
    model.detachValueHead();
    await model.train().lossAndGradients(everyRow, weightedValues, { weight }, grads);
    for (const p of grads.table)
      expect(
        grads.view(p.name).some((g) => g !== 0),
        p.name,
      ).toBe(p.name.startsWith("v_head."));
  });

  test("sampling and scoring never have it", async () => {
    const queries = [ids.slice(0, 4), ids.slice(T, T + 3)];
    const look = async () => ({
      rollout: await generate(model, queries, { maxNewTokens: 5, seed: 3 }),
      table: await scoreTokens(model, ids.slice(0, 9)),
      scores: await model.score(everyRow),
    });
    const off = await look();
    model.train();
    const state = model.vHead.dropoutRng.getState();
    expect(await look()).toEqual(off);
    expect(model.vHead.dropoutRng.getState()).toEqual(state);
  });

  test("none with both probabilities 0, and no random numbers are used", async () => {
    const none = withHead({ ...config, summaryFirstDropout: 0, summaryLastDropout: 0 }, 1, seed);
    const off = await none.forward({ inputIds, attentionMask });
    const state = none.vHead.dropoutRng.getState();
    expect((await none.train().forward({ inputIds, attentionMask })).values).toEqual(off.values);
    expect(none.vHead.dropoutRng.getState()).toEqual(state);
  });
});
