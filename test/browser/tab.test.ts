/** @file The library in tabs of a real Chromium, on WebAssembly: what it computes there is what Node's CPU computes. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as library from "../../src/index.ts";
import { chromium, openBrowser } from "../support/browser.ts";
import { writeModel } from "../support/cli.ts";
import { type Steps, sameSteps, smallRuns } from "../support/same-steps.ts";
import { installForBrowser, type StaticServer, serveInstalled } from "../support/tab.ts";

declare global {
  var valuehead: typeof library;
}

const models = new URL("../../models/tiny/", import.meta.url);
const DEMO = JSON.parse(readFileSync(new URL("demo.json", models), "utf8")).options as Partial<library.PPOConfig>;
const directory = mkdtempSync(join(tmpdir(), "valuehead-tab-"));

let installed: Awaited<ReturnType<typeof installForBrowser>>;
let browser: Browser;
const servers: StaticServer[] = [];
beforeAll(async () => {
  if (!chromium) return;
  installed = await installForBrowser();
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
  for (const server of servers) await server.close();
  installed?.remove();
  rmSync(directory, { recursive: true, force: true });
});

/** A new profile's tab that has loaded the library. What goes wrong in it is in `trouble`. */
async function tab(isolated = true): Promise<{ page: Page; server: StaticServer; trouble: string[] }> {
  const server = await serveInstalled(installed.directory, isolated);
  servers.push(server);
  const page = await (await browser.newContext()).newPage();
  const trouble: string[] = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && trouble.push(message.text()));
  page.on("pageerror", (error) => trouble.push(error.message));
  await page.goto(server.url);
  await page.waitForFunction(() => globalThis.valuehead !== undefined);
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(isolated);
  return { page, server, trouble };
}

/** Log-probs of a text under the last model of a run. */
async function lastModelOf(run: string): Promise<number[]> {
  const at = join(directory, run);
  const model = await library.loadModel(at, { threads: 1 });
  const ids = (await library.loadTokenizer(await library.resolveModel(at))).encode(
    "The film was a pleasant surprise, and I would see it again with my wife and children.",
  );
  return [...(await library.scoreTokens(model, ids)).logprobs.slice(1)]; // the first has nothing before it
}

/** Numbers of one model, wherever it is. Sent to the page as text. */
async function answers(vh: typeof library, threads: number) {
  const model = await vh.loadModel("tiny", { threads });
  const tokenizer = await vh.loadTokenizer(await vh.resolveModel("tiny"));
  const ids = tokenizer.encode("The movie was");
  const { responses } = await vh.generate(model, [ids], { maxNewTokens: 16, seed: 5, temperature: 0.7 });
  const tokens = [...ids, ...responses[0].tokens];
  const { logprobs, values } = await vh.scoreTokens(model, tokens);
  const { device, threads: used } = model.engine;
  const text = tokenizer.decode(tokens);
  model.dispose();
  return { device, used, text, sampled: [...responses[0].logprobs], logprobs: [...logprobs], values: [...values] };
}

function close(found: readonly number[], expected: readonly number[], tolerance: number): void {
  expect(found).toHaveLength(expected.length);
  for (const [i, want] of expected.entries())
    if (!(Number.isNaN(want) && Number.isNaN(found[i])) && !(Math.abs(found[i] - want) <= tolerance))
      expect.fail(`number ${i}: found ${found[i]}, expected ${want}`);
}

describe.skipIf(!chromium)("a tab", () => {
  test.each([true, false])("samples and scores as Node's CPU does (isolated: %s)", async (isolated) => {
    const threads = isolated ? 2 : 1;
    const expected = await answers(library, threads);
    const { page, server, trouble } = await tab(isolated);
    const found = await page.evaluate(
      ([code, threads]) => new Function("vh", "threads", `return (${code})(vh, threads)`)(valuehead, threads),
      [answers.toString(), threads] as const,
    );
    expect([found.device, found.used]).toEqual(["wasm", threads]);
    expect(found.text).toBe(expected.text);
    close(found.sampled, expected.sampled, 1e-4);
    close(found.logprobs, expected.logprobs, 1e-4);
    close(found.values, expected.values, 1e-4);
    // Recorded and replayed, over there.
    close(found.sampled.length ? found.logprobs.slice(1) : [], expected.logprobs.slice(1), 1e-4);
    // The model is kept: the next visit fetches none of it.
    const before = server.asked.length;
    await page.reload();
    await page.waitForFunction(() => globalThis.valuehead !== undefined);
    await page.evaluate(() => valuehead.loadModel("tiny"));
    expect(server.asked.slice(before).filter((path) => path.includes("/models/"))).toEqual([]);
    expect(trouble).toEqual([]);
    await page.context().close();
  });

  test.each([
    ["models", /checkpoint: .*\/nowhere\/tiny\/config\.json: found status 404.*setBrowserFiles\(\{ models \}\)/],
    [
      "runtime",
      /engine: .*\/nowhere\/: found .*ort-wasm-simd-threaded\.wasm\. Fix: .*setBrowserFiles\(\{ runtime \}\)/,
    ],
  ])("says what to serve where %s are missing", async (what, message) => {
    const { page } = await tab();
    await page.route("**/nowhere/**", (route) => route.fulfill({ status: 404 }));
    const said = await page.evaluate(async (what) => {
      valuehead.setBrowserFiles({ [what]: "/nowhere/" });
      const model = valuehead.loadModel("tiny", { threads: 1 });
      const ids = [1, 2, 3];
      return model
        .then((it) => valuehead.scoreTokens(it, ids))
        .then(String, (error) => `${error.kind}: ${error.message}`);
    }, what);
    expect(said).toMatch(message);
    await page.context().close();
  });

  // Of a model of one layer: what the embedded one computes here, the demo's steps show.
  test("a small step of every algorithm is Node's CPU's", async () => {
    const reward = await library.resolveReward("positive");
    const model = await writeModel(join(installed.directory, "node_modules", "small", "tiny"));
    const { page, trouble } = await tab();
    await page.evaluate(() => valuehead.setBrowserFiles({ models: "/node_modules/small/" }));
    for (const [name, spec] of Object.entries(smallRuns)) {
      const expected: Steps = [];
      const there = { ...spec, out: join(directory, name) } as library.RewardedSpec;
      for await (const event of library.run({ ...there, model }, reward))
        if (event.type === "step") expected.push(event.metrics);
      const found = await page.evaluate(async (spec) => {
        const reward = await valuehead.resolveReward("positive");
        const steps: library.Metrics[] = [];
        for await (const event of valuehead.run(spec, reward))
          if (event.type === "step") steps.push({ ...event.metrics });
        return steps;
      }, there);
      sameSteps(found, expected);
    }
    expect(trouble).toEqual([]);
    await page.context().close();
  }, 900_000);

  // In small, and with a smaller learning rate: at the demo's own, a ratio that lies on the border of the clip falls to one side in Node
  // and to the other here before the first step has ended (docs/decisions/0028-rounding-and-the-clip.md).
  test("three small steps of the demo, in a worker, are those of Node's CPU; its checkpoint goes on in Node", async () => {
    const prompts = await library.readPrompts(fileURLToPath(new URL("prompts.txt", models)));
    const config = { ...DEMO, steps: 3, seed: 0, batchSize: 16, miniBatchSize: 16, learningRate: 1e-5 };
    const spec = { model: "tiny", prompts, rewardName: "positive", config };
    const reward = await library.resolveReward("positive");
    const expected: Steps = [];
    for await (const event of library.run({ ...spec, out: join(directory, "node") }, reward))
      if (event.type === "step") expected.push(event.metrics);

    const { page, trouble } = await tab();
    const saved = page.waitForEvent("download", { timeout: 1_200_000 });
    saved.catch(() => {}); // where the run itself fails
    const found = await page.evaluate(async (spec) => {
      const reward = await valuehead.resolveReward("positive");
      const steps: library.Metrics[] = [];
      for await (const event of valuehead.runInWorker({ ...spec, out: "/runs/demo" }, reward)) {
        if (event.type === "step") steps.push({ ...event.metrics });
        if (event.type !== "done") continue;
        const link = document.createElement("a");
        link.href = URL.createObjectURL(await valuehead.packDirectory("/runs/demo"));
        link.download = "demo.tar";
        link.click();
      }
      return steps;
    }, spec);
    sameSteps(found, expected);
    expect(trouble).toEqual([]);

    await (await saved).saveAs(join(directory, "demo.tar"));
    await page.context().close();
    expect(spawnSync("tar", ["-xf", "demo.tar"], { cwd: directory }).status).toBe(0);
    // The two models after three steps: in a fourth a draw may be a near thing, and which processor rounds how would decide it.
    const [theirs, ours] = await Promise.all(["demo", "node"].map(lastModelOf));
    expect(theirs).toHaveLength(ours.length);
    for (const [i, logprob] of theirs.entries()) expect(Math.abs(logprob - ours[i])).toBeLessThan(1e-4);
    const more: Steps = [];
    const goesOn = {
      ...spec,
      out: join(directory, "demo"),
      resume: true,
      config: { steps: 4 },
      device: "cpu",
    } as const;
    for await (const event of library.run(goesOn, reward)) if (event.type === "step") more.push(event.metrics);
    expect(more).toHaveLength(1);
    expect(more[0]["ppo/policy/first_ratio_deviation"]).toBeLessThan(1e-4);
  }, 1_200_000);
});
