/** @file What the options of PPO do, on a small random model. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Metrics } from "../../src/algorithms/events.ts";
import { Learner } from "../../src/algorithms/learner.ts";
import { criticLoss, languageModelLoss, ppoLoss } from "../../src/algorithms/losses.ts";
import { ppoConfig } from "../../src/algorithms/options/config.ts";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { openSafetensors, writeSafetensors } from "../../src/checkpoint/safetensors.ts";
import type { RewardFunction, RewardSample } from "../../src/experience/reward-functions.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { namesAbove, ParameterBuffer, trainedRows } from "../../src/model/parameters.ts";
import { AdamW } from "../../src/nn/adamw.ts";
import { openFile, packagePath, writeAtomic } from "../../src/platform/files.ts";
import type { RunEvent } from "../../src/run/events.ts";
import { run } from "../../src/run/run.ts";
import type { Transform } from "../../src/sample/transforms.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";

const tokenizer = await loadTokenizer(packagePath("models", "tiny"));
const prompts = ["This movie", "The acting in this film was", "I", "Well, the director"];
const EOS = 8191;
const shape = { vocabSize: 8192, nEmbd: 16, nLayer: 2, nHead: 2, nInner: 32, nPositions: 32, eosTokenId: EOS };
const newModel = (options = {}) =>
  GPT2HeadWithValueModel.fromConfig(makeConfig({ ...shape, initializerRange: 0.2, ...options }), {
    threads: 1,
    seed: 5,
  });
const small: Partial<PPOConfig> = {
  steps: 2,
  batchSize: 4,
  miniBatchSize: 2,
  ppoEpochs: 2,
  maxNewTokens: 6,
  learningRate: 1e-2,
  seed: 3,
};
/** Different for different texts, without much meaning. */
const score = ({ response }: RewardSample) => (response.length % 7) - 2;
const reward: RewardFunction = (batch) => batch.map(score);

async function train(config: Partial<PPOConfig>, options: { transforms?: Transform[]; model?: typeof model } = {}) {
  const trained = options.model ?? newModel();
  const seen: RewardSample[] = [];
  const watched: RewardFunction = (batch) => {
    seen.push(...batch);
    return batch.map(score);
  };
  const { transforms } = options;
  const trainer = new PPOTrainer({
    model: trained,
    tokenizer,
    reward: watched,
    config: { ...small, ...config },
    transforms,
  });
  const metrics: Required<Metrics>[] = [];
  const tokens: number[][] = [];
  for await (const event of trainer.train(prompts))
    if (event.type === "step") {
      metrics.push(event.metrics as Required<Metrics>);
      tokens.push(...event.samples.map((s) => s.tokens));
    }
  return { trainer, metrics, tokens, seen, weights: trained.parameters.data };
}
/** Not toEqual: it would describe a difference of many numbers for minutes. */
const same = (a: Float32Array, b: Float32Array) => a.length === b.length && a.every((x, i) => x === b[i]);

/** Adds to the logits of some tokens, everywhere. */
const favour = (ids: number[], by: number): Transform => ({
  kind: "adjust",
  name: "favour",
  dependsOnTokens: false,
  bias: () => ({ ids: Int32Array.from(ids), values: new Float32Array(ids.length).fill(by) }),
});

const model = newModel();
const before = model.parameters.data.slice();
let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "valuehead-options-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("updates", () => {
  test("ratioThreshold: a minibatch above it leaves everything as it is", async () => {
    const { metrics, weights, trainer } = await train({ ratioThreshold: 0.5 }); // every ratio is near 1
    expect(same(weights, before)).toBe(true);
    expect(trainer.optimizer.step).toBe(0);
    for (const m of metrics) expect([m["ppo/skipped_minibatches"], m["ppo/grad_norm"]]).toEqual([4, 0]);
    expect(metrics).toHaveLength(2);
  });

  test("ratioThreshold: only those above it are skipped", async () => {
    // The first minibatch has a ratio of 1; a learning rate like this makes many of the others larger.
    const { metrics, trainer } = await train({ ratioThreshold: 1.01, learningRate: 0.1, ppoEpochs: 4, steps: 1 });
    expect(metrics[0]["ppo/skipped_minibatches"]).toBeGreaterThan(0);
    expect(metrics[0]["ppo/skipped_minibatches"]).toBe(8 - trainer.optimizer.step);
    const all = await train({ ratioThreshold: 0, learningRate: 0.1, ppoEpochs: 4, steps: 1 });
    expect([all.metrics[0]["ppo/skipped_minibatches"], all.trainer.optimizer.step]).toEqual([0, 8]);
  });

  test("targetKl ends the epochs after the one that went too far", async () => {
    const near = await train({ targetKl: 1e3, ppoEpochs: 3, steps: 1 });
    expect([near.metrics[0]["ppo/epochs"], near.trainer.optimizer.step]).toEqual([3, 6]);
    const config = { learningRate: 0.1, ppoEpochs: 3, steps: 1 };
    const one = await train({ ...config, miniBatchSize: 4, targetKl: 1e-4 });
    // Epoch 1 is one minibatch, scored before its update: its KL is 0. Epoch 2 sees what epoch 1 did.
    expect([one.metrics[0]["ppo/epochs"], one.trainer.optimizer.step]).toEqual([2, 2]);
    expect(one.metrics[0]["ppo/policy/policykl"]).toBeGreaterThan(0);
  });

  test("whitening per minibatch is whitening per batch when there is one minibatch, and is not with two", async () => {
    const weights = async (whiteningScope: "batch" | "minibatch", miniBatchSize: number) =>
      (await train({ whiteningScope, miniBatchSize, whitenRewards: true })).weights;
    expect(same(await weights("minibatch", 4), await weights("batch", 4))).toBe(true);
    expect(same(await weights("minibatch", 2), await weights("batch", 2))).toBe(false);
  });

  test("variance and bias correction reach the update", async () => {
    const plain = await train({ steps: 1 });
    for (const config of [{ whiteningVariance: "biased" }, { adamBiasCorrection: "tensorflow" }] as const)
      expect(same((await train({ steps: 1, ...config })).weights, plain.weights)).toBe(false);
  });
});

describe("responses and scores", () => {
  test("without stopAtEos every response has maxNewTokens tokens, whatever it says", async () => {
    const transforms = [favour([EOS], 30)];
    const free = await train({ stopAtEos: false }, { transforms });
    for (const response of free.tokens) expect(response).toEqual([EOS, EOS, EOS, EOS, EOS, EOS]);
    const ended = await train({}, { transforms });
    for (const response of ended.tokens) expect(response).toEqual([EOS]);
  });

  test("missingEosPenalty is subtracted where there is no end of text", async () => {
    const transforms = [favour([EOS], 7)]; // some end, some do not; of 5 never as many
    const config = { missingEosPenalty: 10, batchSize: 5, miniBatchSize: 5, logSamples: 5 };
    const { metrics, tokens } = await train(config, { transforms });
    metrics.forEach((m, i) => {
      const missing = tokens.slice(5 * i, 5 * i + 5).filter((response) => !response.includes(EOS)).length;
      if (i === 0) expect([1, 2, 3, 4]).toContain(missing);
      expect(m["ppo/mean_scores"]).toBeCloseTo(m["env/reward_mean"] - 2 * missing, 10);
    });
  });

  test("truncateToken ends what the reward sees, failScore replaces what it says of the others", async () => {
    const [stop] = tokenizer.encode(".");
    const config = { truncateToken: ".", truncateAfter: 2, failScore: -9, steps: 1, logSamples: 4, seed: 2 };
    const { metrics, tokens, seen } = await train(config, { transforms: [favour([stop], 7)] });
    const scores = tokens.map((response, i) => {
      const end = response.indexOf(stop, 2);
      const shown = end < 0 ? response : response.slice(0, end + 1);
      expect(seen[i].response).toBe(tokenizer.decode(shown, { skipSpecialTokens: true }));
      expect(seen[i].text).toBe(seen[i].prompt + seen[i].response);
      return end < 0 ? -9 : score(seen[i]);
    });
    expect(tokens.some((t) => t.length > t.indexOf(stop, 2) + 1)).toBe(true);
    expect(scores.filter((s) => s === -9).length % 4).not.toBe(0); // some, not all
    expect(metrics[0]["ppo/mean_scores"]).toBeCloseTo(scores.reduce((a, b) => a + b, 0) / 4, 10);
  });

  test("a truncateToken that is several tokens, and a penalty without an end of text, are refused", () => {
    const options = { model, tokenizer, reward };
    expect(() => new PPOTrainer({ ...options, config: { truncateToken: "the end" } })).toThrow(
      /truncateToken: found "the end", \d tokens of this tokenizer, expected a text that is one token/,
    );
    const endless = newModel({ eosTokenId: null });
    expect(() => new PPOTrainer({ ...options, model: endless, config: { missingEosPenalty: 1 } })).toThrow(
      "missingEosPenalty: found a model without an end-of-text token",
    );
  });
});

describe("the value head", () => {
  const head = (m: typeof model) => [
    ...m.parameters.view("v_head.summary.weight"),
    ...m.parameters.view("v_head.summary.bias"),
  ];
  const started = (config: Partial<PPOConfig>, m = newModel()) => {
    const { notes } = new PPOTrainer({ model: m, tokenizer, reward, config: { ...small, ...config } });
    return { values: head(m), notes };
  };

  test("that is new begins as valueHeadInit says, and the notes tell", () => {
    expect(started({}).values).toEqual(head(model));
    expect(started({}).notes).toEqual([]);
    const zero = started({ valueHeadInit: "zero" });
    expect(zero.values.every((x) => x === 0)).toBe(true);
    expect(zero.notes).toEqual(["the new value head begins at zero (valueHeadInit)"]);
    const { values, notes } = started({ valueHeadInit: "uniform" });
    expect(values.every((x) => x !== 0 && Math.abs(x) <= 0.25)).toBe(true); // 1 / sqrt(16)
    expect(Math.max(...values.map(Math.abs))).toBeGreaterThan(0.15);
    expect(notes).toEqual(["the new value head begins U(-0.250, 0.250) (valueHeadInit)"]);
  });

  test("of a normal start has the asked deviation and no bias", () => {
    const { values } = started({ valueHeadStd: 3 }, newModel({ nEmbd: 256 }));
    expect(values.at(-1)).toBe(0);
    const std = Math.sqrt(values.slice(0, -1).reduce((sum, x) => sum + x * x, 0) / 256);
    expect(Math.abs(std - 3)).toBeLessThan(0.6); // 4.5 standard errors
  });

  test("that was loaded stays, and a run says so; one that was not loaded is made", async () => {
    const withHead = join(directory, "with-head");
    await newModel().savePretrained(withHead);
    await tokenizer.save(withHead);
    const without = join(directory, "without-head");
    await newModel().savePretrained(without);
    await tokenizer.save(without);
    const path = join(without, "model.safetensors");
    const file = await openSafetensors(await openFile(path));
    const tensors: { name: string; shape: readonly number[]; dtype: "F32"; data: Float32Array }[] = [];
    for (const [name, info] of file.tensors) {
      const data = new Float32Array(info.shape.reduce((a, b) => a * b, 1));
      await file.readFloat32Into(name, data);
      if (!name.startsWith("v_head.")) tensors.push({ name, shape: info.shape, dtype: "F32", data });
    }
    await file.close();
    await writeAtomic(path, (sink) => writeSafetensors(sink, tensors));

    const notes = async (name: string) => {
      const config: Partial<PPOConfig> = { ...small, steps: 1, valueHeadInit: "zero" };
      const spec = { model: name, prompts, out: `${name}-run`, rewardName: "test", config, threads: 1 };
      let said: readonly string[] = [];
      for await (const event of run(spec, reward)) if (event.type === "loaded") said = event.notes;
      return said.join("\n");
    };
    expect(await notes(withHead)).toBe("valueHeadInit zero is not applied: the model comes with a value head");
    expect(await notes(without)).toMatch(/has no v_head.*\nthe new value head begins at zero/s);
  });
});

describe("frozen layers", () => {
  const asked = {
    tokens: { ids: Int32Array.from([5, 9, 2, 8, 4, 4, 1, 7]), B: 2, T: 4 },
    rows: Int32Array.from([0, 2, 5, 6]),
    ids: Int32Array.from([9, 8, 1, 7]),
    distribution: { temperature: 1 },
  };

  test.each([
    [true, 1],
    [true, 2],
    [false, 1],
  ])("gradients of the rest are those of the whole model (tied head %s, %d frozen)", async (tieWordEmbeddings, n) => {
    const m = newModel({ tieWordEmbeddings });
    const whole = new ParameterBuffer(m.parameters.table);
    const rest = new ParameterBuffer(trainedRows(m.parameters.table, namesAbove(m, m.parameters.table, n)));
    const inputs = { weight: new Float32Array(4).fill(0.25) };
    for (const adds of [false, true]) {
      await m.lossAndGradients(asked, languageModelLoss, inputs, whole, adds);
      await m.lossAndGradients(asked, languageModelLoss, inputs, rest, adds);
    }
    expect(rest.has("transformer.wte.weight")).toBe(false);
    expect(rest.has("lm_head.weight")).toBe(!tieWordEmbeddings);
    expect(rest.table.map((p) => p.name)).toEqual(m.parameters.table.slice(2 + 12 * n).map((p) => p.name));
    for (const { name } of rest.table) expect(same(rest.view(name), whole.view(name)), name).toBe(true);
    expect(rest.view("transformer.ln_f.weight").some((g) => g !== 0)).toBe(true);
    m.dispose();
  });

  test("stay as they are bit for bit, the rest learns, and the reference shares them", async () => {
    const { trainer, weights } = await train({ frozenLayers: 1, weightDecay: 0.1 });
    const { table, view } = {
      table: trainer.model.parameters.table,
      view: (n: string) => trainer.model.parameters.view(n),
    };
    const frozen = table.filter((p) => /wte|wpe|h\.0\./.test(p.name));
    expect(frozen).toHaveLength(14);
    for (const p of table) {
      const old = before.subarray(p.start, p.end);
      expect(same(weights.subarray(p.start, p.end), old), p.name).toBe(frozen.includes(p));
      const reference = trainer.reference?.parameters.view(p.name) as Float32Array;
      expect(reference === view(p.name), p.name).toBe(frozen.includes(p));
      expect(same(reference, old), p.name).toBe(true);
    }
    const trained = before.length - frozen.reduce((n, p) => n + p.end - p.start, 0);
    const { m, v } = trainer.optimizer.state;
    expect([trainer.optimizer.size, m?.length, v?.length]).toEqual([trained, trained, trained]);
  });

  test("of more blocks than the model has are refused", () => {
    expect(() => new PPOTrainer({ model, tokenizer, reward, config: { frozenLayers: 3 } })).toThrow(
      "frozenLayers: found 3, expected at most 2, the blocks of this model",
    );
  });
});

describe("a separate value model", () => {
  const config: Partial<PPOConfig> = {
    miniBatchSize: 4,
    learningRate: 3e-3,
    adamEpsilon: 1e-3,
    steps: 1,
    ppoEpochs: 8,
  };

  test("is trained by the value loss as the value head of a policy that has no policy loss", async () => {
    // Both losses on one model, with advantages that are all 0: only the value loss is left.
    const asked = {
      tokens: { ids: Int32Array.from([5, 9, 2, 8]), B: 1, T: 4 },
      rows: Int32Array.from([1, 2]),
      ids: Int32Array.from([2, 8]),
      distribution: { temperature: 1 },
    };
    const one = newModel();
    const grads = new ParameterBuffer(one.parameters.table);
    const inputs = {
      weight: Float32Array.of(0.5, 0.5),
      oldLogprobs: Float32Array.of(-3, -4),
      advantages: new Float32Array(2),
      oldValues: Float32Array.of(0.1, 0.2),
      returns: Float32Array.of(1, -1),
    };
    const options = { ...ppoConfig(), vfCoef: 0.3, maxGradNorm: 0, learningRate: 1e-2 };
    await one.lossAndGradients(asked, ppoLoss(options), inputs, grads);
    new AdamW(one.parameters.table, { learningRate: 1e-2 }).update(one.parameters, grads.data);

    const name = "the value model";
    const critic = new Learner(newModel(), { optimizer: { learningRate: 1e-2 }, maxGradNorm: 0, name });
    const { loss, values } = await critic.accumulate(asked, criticLoss(options), inputs);
    await critic.apply();
    const clipped = (v: number, old: number, r: number) =>
      Math.max((v - r) ** 2, (Math.min(Math.max(v, old - 0.2), old + 0.2) - r) ** 2);
    expect(loss).toBeCloseTo(0.15 * 0.5 * (clipped(values[0], 0.1, 1) + clipped(values[1], 0.2, -1)), 6);
    const gap = critic.model.parameters.data.reduce(
      (worst, x, i) => Math.max(worst, Math.abs(x - one.parameters.data[i])),
      0,
    );
    expect(gap).toBeLessThan(1e-6);
    expect(same(critic.model.parameters.data, before)).toBe(false);

    const all = await one.score(asked);
    for (const name of ["logprobs", "entropies", "values"] as const) {
      const alone = await one.score(asked, [name]);
      const others = {
        ...all,
        logprobs: new Float32Array(2),
        entropies: new Float32Array(2),
        values: new Float32Array(2),
      };
      expect({ ...alone, [name]: all[name] }).toEqual({ ...others, [name]: all[name] });
      expect(alone[name].every((x, i) => x !== 0 && Math.abs(x - all[name][i]) < 1e-6)).toBe(true);
    }
    await critic.accumulate(asked, criticLoss(options), { ...inputs, returns: Float32Array.of(Number.NaN, 0) });
    expect(critic.badScores).toBe("the value model: the loss (NaN)");
    expect(await critic.badGradient()).toMatch(/^the value model: the gradient of transformer/);
  });

  test("gives the values, learns them, and leaves the policy to the policy loss", async () => {
    const { trainer, metrics } = await train({ ...config, valueModel: "separate" });
    const shared = await train(config);
    // The first values are those of the same weights.
    expect(metrics[0]["ppo/val/mean"]).toBeCloseTo(shared.metrics[0]["ppo/val/mean"], 5);
    const head = (p: ParameterBuffer) => p.view("v_head.summary.weight");
    const { critic, model: policy } = trainer;
    expect(same(head(policy.parameters), head(model.parameters))).toBe(true);
    expect(same(head(critic!.model.parameters), head(model.parameters))).toBe(false);
    expect(critic!.optimizer.step).toBe(trainer.optimizer.step);
    expect(same(policy.parameters.data, shared.weights)).toBe(false);
    // Without a value loss the body of a policy with a shared head moves as this one does.
    const alone = await train({ ...config, vfCoef: 0 });
    const body = (w: Float32Array) => w.subarray(0, policy.parameters.table.at(-2)?.start);
    const gap = body(alone.weights).reduce(
      (worst, x, i) => Math.max(worst, Math.abs(x - policy.parameters.data[i])),
      0,
    );
    expect(gap).toBeLessThan(1e-6);
  });

  test("that nothing would train is refused", () => {
    expect(() => ppoConfig({ valueModel: "separate", vfCoef: 0 })).toThrow(
      "vfCoef: found 0, expected more than 0 with valueModel (separate): nothing else trains it",
    );
  });
});

test.each([
  ["running moments and frozen layers", { frozenLayers: 1 }],
  ["a value model of its own", { valueModel: "separate" as const }],
  ["a value model of its own and frozen layers", { valueModel: "separate" as const, frozenLayers: 1 }],
])("a run with %s, resumed, equals an uninterrupted one bit for bit", async (_, options) => {
  const under = mkdtempSync(join(directory, "resume-"));
  const start = join(under, "start");
  await newModel().savePretrained(start);
  await tokenizer.save(start);
  const config: Partial<PPOConfig> = {
    ...small,
    steps: 3,
    scoreScaling: "normalize",
    scoreClip: 1.5,
    preset: "trl-0.11",
    microBatchSize: 0,
    ...options,
  };
  const go = async (out: string, resume: boolean, stopAt = 0) => {
    const controller = new AbortController();
    const spec = { model: start, prompts, out: join(under, out), rewardName: "test", config, threads: 1, resume };
    const events: RunEvent[] = [];
    for await (const event of run(spec, reward, { signal: controller.signal })) {
      events.push(event);
      if (event.type === "step" && event.step === stopAt) controller.abort();
    }
    return events;
  };
  await go("whole", false);
  await go("parts", false, 1);
  const resumed = await go("parts", true);
  expect(resumed.find((e) => e.type === "loaded")).toMatchObject({ resumedAt: 1 });
  const read = (out: string, file: string) => readFileSync(join(under, out, "checkpoint-3", file));
  const files = ["model.safetensors", "trainer.safetensors", "trainer.json"];
  if ("valueModel" in options) files.push("value_model/model.safetensors", "value_model/optimizer.safetensors");
  for (const file of files) expect(read("parts", file).equals(read("whole", file)), file).toBe(true);
  const state = JSON.parse(read("parts", "trainer.json").toString());
  expect(state.trainer.scores.count).toBe(12);
  const { options: saved } = JSON.parse(readFileSync(join(under, "parts", "config.json"), "utf8"));
  expect(saved).toMatchObject({ preset: "trl-0.11", batchSize: 4, maxGradNorm: 0 });
});
