/** @file The library on WebGPU in a tab of a real Chromium, with SwiftShader: what it computes there is what Node's CPU computes. */
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as library from "../../src/index.ts";
import { chromium, openBrowser, SWIFTSHADER } from "../support/browser.ts";
import { relativeError } from "../support/golden.ts";
import { sameSteps } from "../support/same-steps.ts";
import { installForBrowser, type StaticServer, serveInstalled } from "../support/tab.ts";

declare global {
  var valuehead: typeof library;
  var buffersOfGPU: number;
  var devicesOfGPU: GPUDevice[];
}

let installed: Awaited<ReturnType<typeof installForBrowser>>;
let server: StaticServer;
const browsers: Browser[] = [];
beforeAll(async () => {
  if (!chromium) return;
  installed = await installForBrowser();
  server = await serveInstalled(installed.directory, false);
});
afterAll(async () => {
  for (const browser of browsers) await browser.close();
  await server?.close();
  installed?.remove();
});

async function tab(flags: readonly string[]): Promise<Page> {
  const browser = await openBrowser(flags);
  browsers.push(browser);
  const page = await browser.newPage();
  await page.addInitScript(() => {
    globalThis.buffersOfGPU = 0; // that exist, the runtime's own among them
    globalThis.devicesOfGPU = [];
    if (typeof GPUDevice === "undefined") return;
    const { requestDevice } = GPUAdapter.prototype;
    GPUAdapter.prototype.requestDevice = async function (options) {
      const device = await requestDevice.call(this, options);
      globalThis.devicesOfGPU.push(device);
      return device;
    };
    const { createBuffer } = GPUDevice.prototype;
    GPUDevice.prototype.createBuffer = function (options) {
      const buffer = createBuffer.call(this, options);
      globalThis.buffersOfGPU++;
      const destroy = buffer.destroy.bind(buffer);
      buffer.destroy = () => {
        globalThis.buffersOfGPU--;
        buffer.destroy = destroy;
        destroy();
      };
      return buffer;
    };
  });
  await page.goto(server.url);
  await page.waitForFunction(() => globalThis.valuehead !== undefined);
  return page;
}

/** A short text, sampled and scored. Sent to the page as text. */
async function answers(vh: typeof library, device: library.Device | undefined) {
  const model = await vh.loadModel("tiny", { device, threads: 1 });
  const tokenizer = await vh.loadTokenizer(await vh.resolveModel("tiny"));
  const ids = tokenizer.encode("The movie was");
  const { responses } = await vh.generate(model, [ids], { maxNewTokens: 6, seed: 5, temperature: 0.7 });
  const tokens = [...ids, ...responses[0].tokens];
  const { logprobs, values } = await vh.scoreTokens(model, tokens);
  model.dispose();
  return { tokens, sampled: [...responses[0].logprobs], logprobs: [...logprobs], values: [...values] };
}

/** Two steps of a small new model: metrics and weights. Sent to the page as text. */
async function training(vh: typeof library, device: library.Device | undefined) {
  const tokenizer = await vh.loadTokenizer(await vh.resolveModel("tiny"));
  const sizes = { vocabSize: 8192, nEmbd: 32, nLayer: 1, nHead: 2, nPositions: 32, eosTokenId: 8191 };
  const config = vh.makeConfig({ ...sizes, initializerRange: 0.2 });
  const model = vh.GPT2HeadWithValueModel.fromConfig(config, { device, threads: 1, seed: 5 });
  const batch = { batchSize: 4, miniBatchSize: 2, ppoEpochs: 1, maxNewTokens: 4, minNewTokens: 4 };
  const trainer = new vh.PPOTrainer({
    model,
    tokenizer,
    reward: vh.builtInRewards.length,
    config: { ...batch, steps: 2, learningRate: 1e-3, seed: 3 },
  });
  const steps: library.Metrics[] = [];
  for await (const event of trainer.train(["This movie", "The acting in this film was"])) {
    if (event.type !== "step") continue;
    steps.push({ ...event.metrics });
  }
  await model.parameters.refresh();
  const weights = ["transformer.wte.weight", "transformer.h.0.attn.c_attn.weight", "v_head.summary.bias"];
  const numbers = weights.map((name) => [...model.parameters.view(name)]);
  model.dispose();
  return { steps, numbers };
}

/** A run that saves each step, and loses its GPU in the second. Sent to the page as text. */
async function lostRun(vh: typeof library) {
  const config = vh.makeConfig({ vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 32, eosTokenId: 8191 });
  await vh.GPT2HeadWithValueModel.fromConfig(config, { device: "wasm", threads: 1 }).savePretrained("/models/small");
  await (await vh.loadTokenizer(await vh.resolveModel("tiny"))).save("/models/small");
  const seen: string[] = [];
  try {
    for await (const event of vh.run({ ...SPEC, device: "webgpu" }, vh.builtInRewards.length)) {
      seen.push(event.type === "warning" ? event.message : `${event.type} ${"step" in event ? event.step : ""}`);
      if (event.type === "checkpoint") for (const device of globalThis.devicesOfGPU) device.destroy();
    }
  } catch (error) {
    seen.push(String(error));
  }
  return seen;
}

/** The same run goes on. */
async function resumedRun(vh: typeof library) {
  const seen: string[] = [];
  const goesOn = { ...SPEC, device: "webgpu" as const, resume: true };
  for await (const event of vh.run(goesOn, vh.builtInRewards.length))
    if (event.type === "step" || event.type === "loaded") seen.push(JSON.stringify(event));
  return seen;
}

/** In the page it stands before the code. */
const SPEC = {
  ...{ model: "/models/small", prompts: ["This movie", "I"], rewardName: "length", out: "/runs/lost" },
  config: { steps: 2, saveEvery: 1, batchSize: 2, miniBatchSize: 2, ppoEpochs: 1, maxNewTokens: 2 },
};

const inPage = <T>(page: Page, code: (vh: typeof library, device: library.Device) => Promise<T>): Promise<T> =>
  page.evaluate(
    ([code, spec]) => new Function("vh", "device", "SPEC", `return (${code})(vh, device)`)(valuehead, "webgpu", spec),
    [code.toString(), SPEC] as const,
  );

function close(found: readonly number[], expected: readonly number[]): void {
  expect(found).toHaveLength(expected.length);
  for (const [i, want] of expected.entries())
    if (!(Number.isNaN(want) && Number.isNaN(found[i])) && !(Math.abs(found[i] - want) <= 1e-4))
      expect.fail(`number ${i}: found ${found[i]}, expected ${want}`);
}

describe.skipIf(!chromium)("a tab with WebGPU", () => {
  test("samples and scores as Node's CPU does, and its buffers do not grow in number", async () => {
    const expected = await answers(library, "cpu");
    const page = await tab(SWIFTSHADER);
    const found = await inPage(page, answers);
    expect(found.tokens).toEqual(expected.tokens);
    close(found.sampled, expected.sampled);
    close(found.logprobs, expected.logprobs);
    close(found.values, expected.values);
    const rounds = await page.evaluate(async () => {
      const model = await valuehead.loadModel("tiny", { device: "webgpu" });
      const counts: number[] = [];
      for (let round = 0; round < 5; round++) {
        await valuehead.scoreTokens(model, [1, 2, 3, 4]);
        counts.push(globalThis.buffersOfGPU);
      }
      return counts;
    });
    expect(rounds[0]).toBeGreaterThan(0);
    expect(rounds[4]).toBe(rounds[2]);
  }, 300_000);

  test("trains as Node's CPU does", async () => {
    const expected = await training(library, "cpu");
    const { steps, numbers } = await inPage(await tab(SWIFTSHADER), training);
    sameSteps(steps, expected.steps);
    for (const [i, weights] of numbers.entries())
      expect(relativeError(Float32Array.from(weights), Float32Array.from(expected.numbers[i]))).toBeLessThan(1e-3);
  }, 300_000);

  test("a GPU that is lost ends the run with what to do, and its last checkpoint goes on in the page loaded anew", async () => {
    const page = await tab(SWIFTSHADER);
    const seen = await inPage(page, lostRun);
    expect(seen.slice(0, 2).map((line) => line.split(" ")[0])).toEqual(["loaded", "progress"]);
    expect(seen).toContain("checkpoint 1");
    expect(seen.at(-1)).toMatch(
      /device "webgpu": found a GPU that was lost while it was at work \(.*load the page anew\) and resume the run/,
    );
    await page.reload();
    await page.waitForFunction(() => globalThis.valuehead !== undefined);
    const [loaded, step] = (await inPage(page, resumedRun)).map((line) => JSON.parse(line));
    expect([loaded.resumedAt, step.step]).toEqual([1, 2]);
  }, 300_000);

  test("says what is missing where a browser gives no GPU", async () => {
    const page = await tab(["--disable-gpu", "--disable-features=WebGPU,WebGPUService"]);
    const said = await page.evaluate(async () => {
      const model = await valuehead.loadModel("tiny", { device: "webgpu" });
      return valuehead.scoreTokens(model, [1, 2, 3]).then(String, (error) => `${error.kind}: ${error.message}`);
    });
    expect(said).toMatch(/^engine: device "webgpu": found a browser .*expected a browser with WebGPU.*Fix: use Chrome/);
  }, 120_000);
});
