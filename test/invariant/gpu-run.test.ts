/** @file A run on a GPU, in Node: what it computes is what the CPU computes, what it sends is the batch, and it can be resumed. */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import type { Device } from "../../src/backend/devices.ts";
import { Engine } from "../../src/backend/engine.ts";
import { WebGPU } from "../../src/backend/webgpu.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel, loadModel } from "../../src/families/index.ts";
import { parameterTable } from "../../src/model/parameters.ts";
import { run } from "../../src/run/run.ts";
import type { RewardedSpec } from "../../src/run/spec.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { chatTokenizerJson } from "../support/chat.ts";
import { relativeError } from "../support/golden.ts";
import { gpt2Of } from "../support/gpt2.ts";
import { hasGPU } from "../support/gpu.ts";
import { type Steps, sameSteps } from "../support/same-steps.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-gpu-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());

const tokenizer = Tokenizer.fromJson(chatTokenizerJson(), { bos_token: null, eos_token: "<|im_end|>" });
const V = Math.max(...(chatTokenizerJson().added_tokens ?? []).map(({ id }) => id)) + 1;
const eosTokenId = tokenizer.encode("<|im_end|>", { addSpecialTokens: false })[0];
const shape = makeConfig({
  vocabSize: V,
  nEmbd: 64,
  nLayer: 2,
  nHead: 4,
  nPositions: 32,
  eosTokenId,
  initializerRange: 0.2,
});
const [B, W] = [8, 12];
const prompts = ["This movie", "The acting", "I", "Well"];
const config: Partial<PPOConfig> = {
  ...{ steps: 3, batchSize: B, miniBatchSize: 4, ppoEpochs: 2, maxNewTokens: W },
  ...{ learningRate: 1e-3, saveEvery: 2, keepCheckpoints: 2, seed: 3 },
};

const { compile } = WebGPU.prototype;

/** Steps of a run, and what went to the GPU and back in each. */
async function train(name: string, device: Device, more: Partial<RewardedSpec> = {}) {
  const [steps, sent, received, buffers]: [Steps, number[], number[], number[]] = [[], [], [], []];
  let gpu: WebGPU | undefined;
  vi.spyOn(WebGPU.prototype, "compile").mockImplementation(function (this: WebGPU, program) {
    gpu = this;
    return compile.call(this, program);
  });
  const spec = { model: join(directory, "model"), prompts, rewardName: "length", out: join(directory, name), config };
  let before = { sent: 0, received: 0, buffers: 0 };
  for await (const event of run({ ...spec, device, threads: 1, ...more } as RewardedSpec, builtInRewards.length)) {
    if (event.type === "step") {
      steps.push(event.metrics);
      const now = { ...(gpu?.traffic ?? before) };
      sent.push(now.sent - before.sent);
      received.push(now.received - before.received);
      buffers.push(now.buffers);
      before = now;
    }
  }
  return { steps, sent, received, buffers };
}

describe.skipIf(!hasGPU)("a run on a GPU", () => {
  beforeAll(async () => {
    const model = GPT2HeadWithValueModel.fromConfig(shape, { engine: new Engine({ threads: 1 }), seed: 5 });
    await model.savePretrained(join(directory, "model"));
    await tokenizer.save(join(directory, "model"));
  });

  it("has the metrics of the CPU for three steps; sends and receives what depends on the batch; goes on from a checkpoint", async () => {
    const [onCPU, onGPU] = [await train("cpu", "cpu"), await train("gpu", "webgpu")];
    sameSteps(onGPU.steps, onCPU.steps);

    // Logits, their softmax and a value for each token that is drawn; in each pass ids, scores and what tokens may see.
    const weights = 4 * parameterTable(gpt2Of(shape)).reduce((n, { start, end }) => n + end - start, 0);
    const [drawn, few] = [4 * B * W * (2 * V + 1), weights / 4];
    expect(onGPU.sent[0]).toBeGreaterThan(4 * weights); // policy, reference, two moments
    for (const step of [1, 2]) expect([step, onGPU.sent[step] < few]).toEqual([step, true]);
    expect(onGPU.received[0]).toBeLessThan(drawn + few);
    expect(onGPU.received[1]).toBeLessThan(drawn + few + 3 * weights); // the checkpoint: weights and moments
    expect(onGPU.received[1]).toBeGreaterThan(3 * weights);
    expect(onGPU.received[2]).toBeLessThan(drawn + few);
    expect(onGPU.buffers[2]).toBeLessThan(1.1 * onGPU.buffers[1]);

    rmSync(join(directory, "resumed"), { recursive: true, force: true });
    cpSync(join(directory, "gpu"), join(directory, "resumed"), { recursive: true });
    rmSync(join(directory, "resumed", "checkpoint-3"), { recursive: true });
    const { steps } = await train("resumed", "webgpu", { resume: true });
    sameSteps(steps, onGPU.steps.slice(2));
    const weightsOf = async (name: string) => {
      const model = await loadModel(join(directory, name, "checkpoint-3"), { engine: new Engine({ threads: 1 }) });
      return model.parameters.data;
    };
    const trained = await weightsOf("gpu");
    expect(relativeError(await weightsOf("resumed"), trained)).toBeLessThan(1e-5);
    expect(relativeError(await weightsOf("cpu"), trained)).toBeLessThan(1e-3);
  }, 300_000);
});
