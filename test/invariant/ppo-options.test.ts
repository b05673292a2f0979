/** @file What the options of PPO do, on a small random model. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeConfig } from "../../src/gpt2/config.ts";
import { GPT2HeadWithValueModel } from "../../src/gpt2/model.ts";
import { ParameterBuffer, trainedTable } from "../../src/gpt2/parameters.ts";
import { openSafetensors, writeSafetensors } from "../../src/gpt2/safetensors.ts";
import { languageModelLoss } from "../../src/rl/losses.ts";
import { openFile, packagePath, writeAtomic } from "../../src/runtime/files.ts";
import type { Transform } from "../../src/sample/transforms.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";
import type { PpoConfig } from "../../src/train/config.ts";
import type { Metrics } from "../../src/train/events.ts";
import { PPOTrainer } from "../../src/train/ppo.ts";
import type { RewardFunction, RewardSample } from "../../src/train/rewards.ts";
import { type RunEvent, run } from "../../src/train/run.ts";

const tokenizer = await loadTokenizer(packagePath("models", "tiny"));
const prompts = ["This movie", "The acting in this film was", "I", "Well, the director"];
const EOS = 8191;
const shape = { vocabSize: 8192, nEmbd: 16, nLayer: 2, nHead: 2, nInner: 32, nPositions: 32, eosTokenId: EOS };
const newModel = (options = {}) =>
  GPT2HeadWithValueModel.fromConfig(makeConfig({ ...shape, initializerRange: 0.2, ...options }), {
    threads: 1,
    seed: 5,
  });
const small: Partial<PpoConfig> = {
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

async function train(config: Partial<PpoConfig>, options: { transforms?: Transform[]; model?: typeof model } = {}) {
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
    expect(weights).toEqual(before);
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
    expect(await weights("minibatch", 4)).toEqual(await weights("batch", 4));
    expect(await weights("minibatch", 2)).not.toEqual(await weights("batch", 2));
  });

  test("whitening per minibatch: each has advantages of mean 0", async () => {
    const { metrics } = await train({ whiteningScope: "minibatch", miniBatchSize: 1, stopAtEos: false });
    for (const m of metrics) expect(Math.abs(m["ppo/policy/advantages_mean"])).toBeLessThan(1e-6);
  });

  test("variance and bias correction reach the update", async () => {
    const plain = await train({ steps: 1 });
    for (const config of [{ whiteningVariance: "biased" }, { adamBiasCorrection: "tensorflow" }] as const)
      expect((await train({ steps: 1, ...config })).weights).not.toEqual(plain.weights);
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
    const transforms = [favour([EOS], 7)]; // some end, some do not
    const { metrics, tokens } = await train({ missingEosPenalty: 8 }, { transforms });
    const missing = [0, 4].map((start) => tokens.slice(start, start + 4).filter((t) => !t.includes(EOS)).length);
    expect(missing[0] + missing[1]).toBeGreaterThan(0);
    expect(missing[0] + missing[1]).toBeLessThan(8);
    metrics.forEach((m, i) => {
      expect(m["ppo/mean_scores"]).toBeCloseTo(m["env/reward_mean"] - 2 * missing[i], 10);
    });
  });

  test("truncateToken ends what the reward sees, failScore replaces what it says of the others", async () => {
    const [stop] = tokenizer.encode(".");
    const config = { truncateToken: ".", truncateAfter: 2, failScore: -9, steps: 1, logSamples: 4 };
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
  const started = (config: Partial<PpoConfig>, m = newModel()) => {
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
      const config: Partial<PpoConfig> = { ...small, steps: 1, valueHeadInit: "zero" };
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
    const rest = new ParameterBuffer(trainedTable(m.parameters.table, n));
    const inputs = { weight: new Float32Array(4).fill(0.25) };
    for (const adds of [false, true]) {
      await m.lossAndGradients(asked, languageModelLoss, inputs, whole, adds);
      await m.lossAndGradients(asked, languageModelLoss, inputs, rest, adds);
    }
    expect(rest.has("transformer.wte.weight")).toBe(false);
    expect(rest.has("lm_head.weight")).toBe(!tieWordEmbeddings);
    expect(rest.table.map((p) => p.name)).toEqual(m.parameters.table.slice(2 + 12 * n).map((p) => p.name));
    for (const { name } of rest.table) expect(rest.view(name), name).toEqual(whole.view(name));
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
      const same = weights.subarray(p.start, p.end).every((x, i) => x === before[p.start + i]);
      expect(same, p.name).toBe(frozen.includes(p));
      const reference = trainer.reference.parameters.view(p.name);
      expect(reference === view(p.name), p.name).toBe(frozen.includes(p));
      expect([...reference], p.name).toEqual([...before.subarray(p.start, p.end)]);
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

test("a run with running moments and frozen layers, resumed, equals an uninterrupted one bit for bit", async () => {
  const start = join(directory, "start");
  await newModel().savePretrained(start);
  await tokenizer.save(start);
  const config: Partial<PpoConfig> = {
    ...small,
    steps: 3,
    scoreScaling: "normalize",
    scoreClip: 1.5,
    frozenLayers: 1,
    preset: "trl-0.11",
    microBatchSize: 0,
  };
  const go = async (out: string, resume: boolean, stopAt = 0) => {
    const controller = new AbortController();
    const spec = { model: start, prompts, out: join(directory, out), rewardName: "test", config, threads: 1, resume };
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
  const read = (out: string, file: string) => readFileSync(join(directory, out, "checkpoint-3", file));
  for (const file of ["model.safetensors", "trainer.safetensors", "trainer.json"])
    expect(read("parts", file).equals(read("whole", file)), file).toBe(true);
  const state = JSON.parse(read("parts", "trainer.json").toString());
  expect(state.trainer.scores.count).toBe(12);
  const { options } = JSON.parse(readFileSync(join(directory, "parts", "config.json"), "utf8"));
  expect(options).toMatchObject({ preset: "trl-0.11", batchSize: 4, maxGradNorm: 0 });
});
