/** @file The library on WebGPU in a tab of a real Chromium, with SwiftShader: what it computes there is what Node's CPU computes. */
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as library from "../../src/index.ts";
import { chromium, openBrowser } from "../support/browser.ts";
import { installForBrowser, type StaticServer, serveInstalled } from "../support/tab.ts";

declare global {
  var valuehead: typeof library;
  var buffersOfGPU: number;
}

const FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];

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

async function tab(flags: string[]): Promise<Page> {
  const browser = await openBrowser(flags);
  browsers.push(browser);
  const page = await browser.newPage();
  await page.addInitScript(() => {
    globalThis.buffersOfGPU = 0; // that exist, the runtime's own among them
    if (typeof GPUDevice === "undefined") return;
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

const inPage = <T>(page: Page, code: (vh: typeof library, device: library.Device) => Promise<T>): Promise<T> =>
  page.evaluate(
    (code) => new Function("vh", "device", `return (${code})(vh, device)`)(valuehead, "webgpu"),
    code.toString(),
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
    const page = await tab(FLAGS);
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

  test("says what is missing where a browser gives no GPU", async () => {
    const page = await tab(["--disable-gpu", "--disable-features=WebGPU,WebGPUService"]);
    const said = await page.evaluate(async () => {
      const model = await valuehead.loadModel("tiny", { device: "webgpu" });
      return valuehead.scoreTokens(model, [1, 2, 3]).then(String, (error) => `${error.kind}: ${error.message}`);
    });
    expect(said).toMatch(/^engine: device "webgpu": found a browser .*expected a browser with WebGPU.*Fix: use Chrome/);
  }, 120_000);
});
