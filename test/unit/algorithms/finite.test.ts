/** @file Numbers that go bad: named where they first appear, the state before them on disk, and steps that may be skipped. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { badWeights } from "../../../src/algorithms/learner.ts";
import type { PPOConfig } from "../../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../../src/algorithms/ppo.ts";
import type { Experience } from "../../../src/experience/experience.ts";
import { checkFinite } from "../../../src/experience/finite.ts";
import type { RewardFunction } from "../../../src/experience/reward-functions.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { CausalLMWithValueHead } from "../../../src/model/model.ts";
import { ParameterBuffer, parameterTable } from "../../../src/model/parameters.ts";
import { AdamW } from "../../../src/nn/adamw.ts";
import { packagePath } from "../../../src/platform/files.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import { run } from "../../../src/run/run.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { gpt2Of } from "../../support/gpt2.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-finite-"));
const tokenizer = await loadTokenizer(packagePath("models", "tiny"));
const shape = { vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 16, bosTokenId: 8191, eosTokenId: 8191 };
const newModel = () => GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { threads: 1, seed: 5 });
const prompts = ["This", "Two movies"];
const reward: RewardFunction = (batch) => batch.map(({ response }) => response.length / 10);
/** Two optimizer steps in each PPO step: two epochs of one minibatch. */
const small: Partial<PPOConfig> = {
  steps: 3,
  batchSize: 4,
  miniBatchSize: 4,
  ppoEpochs: 2,
  maxNewTokens: 4,
  learningRate: 1e-2,
  saveEvery: 0,
};

beforeAll(async () => {
  await newModel().savePretrained(join(directory, "model"));
  await tokenizer.save(join(directory, "model"));
});
afterEach(() => vi.restoreAllMocks());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("weights that are bad before anything is learned: the model and the parameter, not the learning rate", () => {
  const spoiled = newModel();
  spoiled.parameters.view("transformer.wpe.weight")[3] = Number.NaN;
  const found = (part: string) =>
    `the ${part}, parameter transformer.wpe.weight, element 3: found NaN, expected finite weights to begin with. ` +
    "Fix: load another checkpoint: this one was spoiled before it was saved, or damaged since";
  expect(() => new PPOTrainer({ model: spoiled, tokenizer, reward })).toThrow(found("policy"));
  expect(() => new PPOTrainer({ model: newModel(), tokenizer, reward, reference: spoiled })).toThrow(
    found("reference"),
  );
});

type Result = Awaited<ReturnType<GPT2HeadWithValueModel["lossAndGradients"]>>;

/** Spoil the results of minibatches, counted from 0 (from `first` in a resumed run). */
function spoil(how: (call: number, result: Result, grads: Float32Array) => void, first = 0): void {
  const original = CausalLMWithValueHead.prototype.lossAndGradients;
  let call = first;
  vi.spyOn(CausalLMWithValueHead.prototype, "lossAndGradients").mockImplementation(async function (
    this: GPT2HeadWithValueModel,
    ...args
  ) {
    const result = await original.apply(this, args);
    how(call++, result, args[3].view("transformer.h.0.ln_1.weight"));
    return result;
  });
}
const nanLoss = (...calls: number[]) =>
  spoil((call, result) => {
    if (calls.includes(call)) result.loss = Number.NaN;
  });

async function train(out: string, config: Partial<PPOConfig> = {}, resume = false, score = reward) {
  const events: RunEvent[] = [];
  const spec = {
    model: join(directory, "model"),
    prompts,
    out: join(directory, out),
    rewardName: "length",
    threads: 1,
  };
  const all = async () => {
    for await (const event of run({ ...spec, config: { ...small, ...config }, resume }, score)) events.push(event);
  };
  const error = await all().then(
    () => undefined,
    (thrown) => thrown as Error,
  );
  const warnings = events.flatMap((e) => (e.type === "warning" ? [`${e.step}: ${e.message}`] : []));
  const skipped = events.flatMap((e) => (e.type === "step" ? [e.metrics["ppo/skipped_updates"]] : []));
  return { events, error, warnings, skipped };
}
const checkpoints = (out: string) => readdirSync(join(directory, out)).filter((name) => name.startsWith("checkpoint"));
const file = (out: string, name: string) => readFileSync(join(directory, out, name));

test("weights that are finite while the norm of their change is not: nothing is called undefined", () => {
  const table = parameterTable(gpt2Of({ vocabSize: 4, nPositions: 2, nEmbd: 2, nLayer: 1, nHead: 1 }));
  const weights = new ParameterBuffer(table);
  expect(badWeights(weights, 1)).toBeUndefined();
  expect(badWeights(weights, Number.POSITIVE_INFINITY)).toBe(
    "the change of the weights, which the optimizer step made too large to be added up",
  );
  weights.view("transformer.wpe.weight")[1] = Number.NaN;
  expect(badWeights(weights, Number.NaN)).toBe("the weight transformer.wpe.weight after the optimizer step");
});

describe("a number that is not finite stops the run and is named", () => {
  test("a loss: what it was computed from is looked at first", async () => {
    nanLoss(2);
    const { error } = await train("loss");
    expect(error?.message).toBe(
      "PPO step 2, epoch 1, minibatch from response 0: found a number that is not finite in the loss (NaN), expected finite " +
        "numbers. Fix: resume from the last checkpoint (--resume) with a lower learningRate or a smaller maxGradNorm",
    );
    vi.restoreAllMocks();
    spoil((call, result) => {
      if (call === 1) [result.loss, result.values[3]] = [Number.NaN, Number.POSITIVE_INFINITY];
    });
    expect((await train("value")).error?.message).toMatch(
      /^PPO step 1, epoch 2, .*not finite in the values of the minibatch \(Infinity\), so in the loss \(NaN\)/,
    );
  });

  test("a gradient, by the name of its parameter; one whose square overflows", async () => {
    spoil((call, _, grads) => {
      if (call === 1) grads[2] = Number.NaN;
    });
    expect((await train("gradient")).error?.message).toMatch(
      /^PPO step 1, epoch 2, .*not finite in the gradient of transformer\.h\.0\.ln_1\.weight, expected/,
    );
    vi.restoreAllMocks();
    spoil((_, __, grads) => {
      grads[2] = 1e20;
    });
    expect((await train("square", { maxGradNorm: 0 })).error?.message).toMatch(
      /in the square of the gradient \(norm 1/,
    );
    expect((await train("clipped")).error).toBeUndefined();
  });

  test("a weight, when the optimizer spoils it", async () => {
    vi.spyOn(AdamW.prototype, "update").mockImplementation((parameters) => {
      parameters.view("transformer.wte.weight")[0] = Number.POSITIVE_INFINITY; // no option can do this any more
      return Number.POSITIVE_INFINITY;
    });
    expect((await train("weight")).error?.message).toMatch(
      /^PPO step 1, epoch 1, .*not finite in the weight transformer\.\S+ after the optimizer step/,
    );
  });

  test("a reward: which response, to which prompt; and one too large for 32 bits", async () => {
    const nan: RewardFunction = (batch) => batch.map((_, i) => (i === 2 ? Number.NaN : 1));
    expect((await train("nan", {}, false, nan)).error?.message).toMatch(
      /^reward length, score 2 of 4, for prompt "(This|Two movies).*", response ".*": found NaN, expected a finite number/,
    );
    const huge: RewardFunction = (batch) => batch.map((_, i) => (i === 2 ? 1e39 : 1));
    expect((await train("huge", {}, false, huge)).error?.message).toMatch(
      /^reward length, score 2 of 4, for prompt ".*", response ".*": found 1e\+39, expected a number that float32 can hold/,
    );
  });

  test("what is computed per token: the first array in the order of computation, and tokens that exist only", () => {
    // two responses of 2 and 3 tokens, [B, W] = [2, 3]
    const batch = { rows: 2, width: 3, mask: Uint8Array.of(1, 1, 0, 1, 1, 1) };
    const responses = [new Int32Array(2), new Int32Array(3)];
    const data = { batch, queries: [new Int32Array(1), new Int32Array(1)], responses } as unknown as Experience;
    const good = Float32Array.of(1, 2, Number.NaN, 3, 4, 5);
    const bad = Float32Array.of(1, 2, 0, 3, Number.NEGATIVE_INFINITY, Number.NaN);
    expect(() => checkFinite(7, data, prompts, { values: good })).not.toThrow();
    expect(() => checkFinite(7, data, prompts, { values: good, returns: bad, advantages: bad })).toThrow(
      'PPO step 7, response 1 of 2, to "Two movies": found -Infinity in returns, token 1 of 3, expected finite numbers. Fix: ',
    );
  });

  test.each([
    [
      "v_head.summary.weight",
      /^PPO step 2, response 0 of 4, to "(This|Two movies)": found (NaN|-?Infinity) in values, token 0/,
    ],
    ["transformer.ln_f.bias", /^logits of the next token: found NaN or infinity, expected finite numbers/],
  ])("a weight that was spoiled (%s): at the next step, which is not saved", async (name, message) => {
    const model = newModel();
    const trainer = new PPOTrainer({ model, tokenizer, reward, config: small });
    const going = async () => {
      for await (const event of trainer.train(prompts))
        if (event.type === "step") model.parameters.view(name)[0] = Number.NaN;
    };
    await expect(going()).rejects.toThrow(message);
    model.dispose();
  });
});

describe("the state before it is on disk", () => {
  test("as it was after the last whole step, when the step in progress has changed nothing", async () => {
    await train("two", { steps: 2 });
    nanLoss(4); // the first optimizer step of the third PPO step
    const { error, events } = await train("clean");
    expect(error?.message).toMatch(/^PPO step 3, epoch 1/);
    expect(events.at(-1)).toMatchObject({ type: "checkpoint", step: 2 });
    for (const name of ["model.safetensors", "trainer.safetensors"])
      expect(file("clean", `checkpoint-2/${name}`).equals(file("two", `checkpoint-2/${name}`)), name).toBe(true);
    // After an error nothing older is deleted: the state says so, and is the same otherwise.
    const state = (run: string) => JSON.parse(file(run, "checkpoint-2/trainer.json").toString());
    expect(state("clean")).toEqual({ ...state("two"), keepOlder: true });
  });

  test("but not when weights were spoiled: then the last checkpoint is what there is", async () => {
    const { update } = AdamW.prototype;
    let calls = 0;
    vi.spyOn(AdamW.prototype, "update").mockImplementation(function (this: AdamW, parameters, ...rest) {
      const norm = update.call(this, parameters, ...rest);
      if (++calls < 6) return norm;
      parameters.view("transformer.wte.weight")[3] = Number.NaN;
      return Number.NaN;
    });
    const { error } = await train("spoiled", { saveEvery: 1, keepBest: false, keepCheckpoints: 1 });
    expect(error?.message).toMatch(
      /^PPO step 3, epoch 2, .* in the weight transformer\.wte\.weight after the optimizer step/,
    );
    expect(checkpoints("spoiled")).toEqual(["checkpoint-2"]);
    calls = 0;
    await train("unsaved");
    expect(checkpoints("unsaved")).toEqual([]);
  });

  test("as it was before the bad optimizer step, when the step in progress has changed weights; and says so", async () => {
    nanLoss(5); // the second optimizer step of the third PPO step
    const { error, warnings } = await train("partly");
    expect(error?.message).toMatch(/^PPO step 3, epoch 2/);
    expect(warnings).toEqual([
      "2: checkpoint-2 holds the weights as they were before the numbers went bad, 1 optimizer steps into step 3, which " +
        "begins again when the run is resumed; delete it to resume from an older one",
    ]);
    vi.restoreAllMocks();
    const resumed = await train("partly", { learningRate: 1e-3 }, true);
    expect(resumed.error).toBeUndefined();
    expect(resumed.events.filter((e) => e.type === "step").map((e) => e.step)).toEqual([3]);
  });

  test("and an exact checkpoint of that step is not replaced, nor an older one deleted", async () => {
    await train("exact", { steps: 2, saveEvery: 1, keepCheckpoints: 1, keepBest: false });
    const before = file("exact", "checkpoint-2/model.safetensors");
    nanLoss(1);
    const { error, warnings } = await train("exact", { saveEvery: 1, keepCheckpoints: 1, keepBest: false }, true);
    expect([error?.message.slice(0, 19), warnings]).toEqual(["PPO step 3, epoch 2", []]);
    expect(file("exact", "checkpoint-2/model.safetensors").equals(before)).toBe(true);
    vi.restoreAllMocks();
    nanLoss(6);
    await train("older", { steps: 4, saveEvery: 2, keepCheckpoints: 1, keepBest: false });
    expect(checkpoints("older")).toEqual(["checkpoint-2", "checkpoint-3"]);
  });
});

describe("maxSkippedSteps", () => {
  const weightsAfter = async (config: Partial<PPOConfig>) => {
    const model = newModel();
    const trainer = new PPOTrainer({ model, tokenizer, reward, config: { ...small, steps: 1, ...config } });
    for await (const _ of trainer.train(prompts));
    model.dispose();
    const { step, m, v } = trainer.optimizer.state;
    return { weights: model.parameters.data, step, m, v };
  };

  test("a skipped step leaves weights and moments as they were", async () => {
    const one = await weightsAfter({ ppoEpochs: 1 });
    spoil((call, result, grads) => {
      if (call === 1) [result.loss, grads[0]] = [Number.NaN, Number.NaN];
    });
    const skipped = await weightsAfter({ maxSkippedSteps: 1 });
    expect(skipped).toEqual(one);
    vi.restoreAllMocks();
    expect((await weightsAfter({})).weights).not.toEqual(one.weights);
  });

  test("counts over the run, warns each time, and stops after so many", async () => {
    nanLoss(1, 2, 4);
    const { error, skipped, warnings } = await train("count", { maxSkippedSteps: 2 });
    expect(skipped).toEqual([1, 2]);
    expect(warnings).toEqual([
      "1: an optimizer step was skipped: a number in the loss (NaN) is not finite",
      "2: an optimizer step was skipped: a number in the loss (NaN) is not finite",
    ]);
    expect(error?.message).toMatch(
      /^PPO step 3, epoch 1, .* in the loss \(NaN\), after 2 optimizer steps of the run were skipped for the same reason, /,
    );
  });

  test("does not let a PPO step pass of which nothing was learned", async () => {
    nanLoss(2, 3);
    const { error, skipped } = await train("nothing", { maxSkippedSteps: 9 });
    expect(skipped).toEqual([0]);
    expect(error?.message).toMatch(/^PPO step 2, epoch 2, .*after 1 optimizer steps/);
  });

  test("the metrics of a step are of what was learned from", async () => {
    spoil((call, result) => {
      if (call === 2) [result.loss, result.logprobs[1], result.values[0]] = [Number.NaN, Number.NaN, Number.NaN];
    });
    const { events } = await train("metrics", { maxSkippedSteps: 1, batchSize: 8, ppoEpochs: 1 });
    for (const event of events)
      if (event.type === "step")
        for (const [name, value] of Object.entries(event.metrics)) expect(Number.isFinite(value), name).toBe(true);
    expect(events.filter((e) => e.type === "step")).toHaveLength(3);
  });

  test("the count survives a resume, which equals the uninterrupted run bit for bit", async () => {
    const bad = (call: number, result: Result) => {
      if (call === 1 || call === 4) result.loss = Number.NaN;
    };
    spoil(bad);
    await train("whole", { maxSkippedSteps: 2 });
    vi.restoreAllMocks();
    spoil(bad);
    await train("part", { maxSkippedSteps: 2, steps: 2 });
    vi.restoreAllMocks();
    spoil(bad, 4);
    const { skipped } = await train("part", { maxSkippedSteps: 2 }, true);
    expect(skipped).toEqual([2]);
    for (const name of ["model.safetensors", "trainer.safetensors", "trainer.json"])
      expect(file("part", `checkpoint-3/${name}`).equals(file("whole", `checkpoint-3/${name}`)), name).toBe(true);
    expect(JSON.parse(String(file("part", "checkpoint-3/trainer.json"))).trainer.skippedUpdates).toBe(2);
  });
});
