/** @file A run in a tab does not grow: what JavaScript, WebAssembly and the GPU hold after 50 steps is what they held after 10. */
import { join } from "node:path";
import type { CDPSession, Worker } from "playwright-core";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type * as library from "../../src/index.ts";
import { chromium, openBrowser, SWIFTSHADER } from "../support/browser.ts";
import { writeModel } from "../support/cli.ts";
import { installForBrowser, serveInstalled } from "../support/tab.ts";

declare global {
  var valuehead: typeof library;
  var steps: AsyncIterator<library.RunEvent>;
  var counted: { wasm: () => number; buffers: number; bytes: number };
}

/** A worker that loads the library once it counts what is made: WebAssembly's memories, buffers of the GPU. */
const WORKER = `
  const memories = [];
  globalThis.counted = { wasm: () => memories.reduce((n, { buffer }) => n + buffer.byteLength, 0), buffers: 0, bytes: 0 };
  const { Memory } = WebAssembly;
  WebAssembly.Memory = function (size) {
    const made = new Memory(size);
    memories.push(made);
    return made;
  };
  WebAssembly.Memory.prototype = Memory.prototype;
  const { createBuffer } = globalThis.GPUDevice?.prototype ?? {};
  if (createBuffer) GPUDevice.prototype.createBuffer = function (options) {
    const buffer = createBuffer.call(this, options);
    counted.buffers++;
    counted.bytes += options.size;
    const destroy = buffer.destroy.bind(buffer);
    buffer.destroy = () => {
      counted.buffers--;
      counted.bytes -= options.size;
      buffer.destroy = destroy;
      destroy();
    };
    return buffer;
  };
  globalThis.valuehead = await import("SERVER/node_modules/valuehead/dist/browser/index.js");
  valuehead.setBrowserFiles({ models: "SERVER/node_modules/small/" });
  postMessage("ready");`;

/** Bytes and buffers that are held once the garbage is gone. */
interface Held {
  readonly heap: number;
  /** Of arrays of numbers. */
  readonly arrays: number;
  readonly wasm: number;
  readonly buffers: number;
  readonly bytes: number;
}

let installed: Awaited<ReturnType<typeof installForBrowser>>;
const opened: { close(): Promise<void> }[] = [];
beforeAll(async () => {
  if (!chromium) return;
  installed = await installForBrowser();
  await writeModel(join(installed.directory, "node_modules", "small", "tiny"));
  return installed.remove;
});
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
});

/** A worker of a page that has the library. */
async function open(flags: readonly string[]): Promise<{ worker: Worker; ask: Ask }> {
  const server = await serveInstalled(installed.directory, true);
  opened.push(server);
  const browser = await openBrowser(flags);
  opened.push(browser);
  const page = await browser.newPage();
  await page.goto(server.url);
  const asking = asker(await page.context().newCDPSession(page));
  const started = page.waitForEvent("worker");
  await page.evaluate(
    (code) =>
      new Promise((resolve) => {
        const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
        new Worker(address, { type: "module" }).onmessage = resolve;
      }),
    WORKER.replaceAll("SERVER/", server.url),
  );
  return { worker: await started, ask: await asking };
}

type Ask = <T>(method: string) => Promise<T>;

/** Asks the debugger of the first worker that a page starts. */
async function asker(session: CDPSession): Promise<Ask> {
  const attached = new Promise<string>((resolve) =>
    session.once("Target.attachedToTarget", ({ sessionId }) => resolve(sessionId)),
  );
  const answers = new Map<number, (answer: { result: unknown }) => void>();
  session.on("Target.receivedMessageFromTarget", ({ message }) => {
    const answer = JSON.parse(message);
    answers.get(answer.id)?.(answer);
  });
  await session.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  const sessionId = attached;
  return async <T>(method: string) => {
    const id = answers.size + 1;
    const answer = new Promise<{ result: unknown }>((resolve) => answers.set(id, resolve));
    await session.send("Target.sendMessageToTarget", {
      sessionId: await sessionId,
      message: JSON.stringify({ id, method }),
    });
    return (await answer).result as T;
  };
}

/** Steps of a run, up to this one, in the worker; nothing of it goes on afterwards. */
const runTo = (worker: Worker, step: number) =>
  worker.evaluate(async (step) => {
    for (;;) {
      const { value, done } = await steps.next();
      if (done || (value.type === "step" && value.step === step)) return;
    }
  }, step);

async function held(worker: Worker, ask: Ask): Promise<Held> {
  for (let i = 0; i < 2; i++) await ask("HeapProfiler.collectGarbage"); // buffers go with the finalizers of the first
  const { usedSize, backingStorageSize } = await ask<Record<string, number>>("Runtime.getHeapUsage");
  const { wasm, buffers, bytes } = await worker.evaluate(() => ({ ...counted, wasm: counted.wasm() }));
  return { heap: usedSize, arrays: backingStorageSize, wasm, buffers, bytes };
}

const start = (worker: Worker, device: library.Device, steps: number) =>
  worker.evaluate(
    async ([device, steps]) => {
      const config = {
        ...{ steps, batchSize: 2, miniBatchSize: 2, ppoEpochs: 1, maxNewTokens: 3, minNewTokens: 3 },
        ...{ learningRate: 1e-5, saveEvery: 20, seed: 3 },
      };
      const prompts = [{ prompt: "The film" }, { prompt: "The film" }];
      const spec = { model: "tiny", prompts, rewardName: "length", out: "/runs/memory", device, config };
      globalThis.steps = valuehead.run(spec, await valuehead.resolveReward("length"))[Symbol.asyncIterator]();
    },
    [device, steps] as const,
  );

describe.skipIf(!chromium)("a run in a tab", () => {
  test("of 50 steps on WebAssembly holds what it held after 10", async () => {
    const { worker, ask } = await open([]);
    await start(worker, "wasm", 60);
    const at: Record<number, Held> = {};
    for (const step of [10, 30, 50]) {
      await runTo(worker, step);
      at[step] = await held(worker, ask);
    }
    if (process.env.MEASURE) console.log(at);
    expect(at[10].wasm).toBeGreaterThan(1e6);
    expect(at[50].wasm).toBe(at[10].wasm);
    expect(at[10].arrays).toBeGreaterThan(1e6);
    expect(Math.abs(at[50].arrays - at[10].arrays)).toBeLessThan(1e4); // one row of logits is 33 kB
    expect(at[50].heap - at[10].heap).toBeLessThan(0.1 * at[10].heap); // code that is compiled again, less and less of it
  }, 120_000);

  // Fewer steps: here a processor does the GPU's work. docs/browser.md has the numbers of 50.
  test("on WebGPU has as many buffers of the GPU, of as many bytes, as after its second step", async () => {
    const { worker, ask } = await open(SWIFTSHADER);
    await start(worker, "webgpu", 60);
    await runTo(worker, 1);
    console.log(1, await held(worker, ask));
    await runTo(worker, 10);
    const early = await held(worker, ask);
    await runTo(worker, 50);
    const late = await held(worker, ask);
    console.log(early, late);
    expect(early.buffers).toBeGreaterThan(0);
    expect([late.buffers, late.bytes]).toEqual([early.buffers, early.bytes]);
    expect(late.wasm).toBe(early.wasm);
  }, 900_000);
});
