/** @file The playground in a real Chromium, used as a person would: small runs, every refusal, the exploits, closed tabs, no network. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { buildPlayground } from "../../apps/playground/build.mjs";
import * as library from "../../src/index.ts";
import { type StaticServer, serveFiles } from "../../tools/static-server.mjs";
import { chromium, openBrowser } from "../support/browser.ts";
import { writeModel } from "../support/cli.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const directory = mkdtempSync(join(tmpdir(), "valuehead-playground-"));
/** The playground, and the same with a model of one layer, for all but the exploits: runs and checkpoints are as they are, and quick. */
const [site, small] = ["site", "small"].map((name) => join(directory, name));
/** What a step may take where others are busy on the machine. */
const PATIENCE = { timeout: 120_000 };

let browser: Browser;
let server: StaticServer;
let whole: StaticServer;
beforeAll(async () => {
  if (!chromium) return;
  await buildPlayground(site);
  const heldOut = join(site, "models", "tiny", "prompts-heldout.txt");
  writeFileSync(heldOut, readFileSync(heldOut, "utf8").split("\n").slice(0, 4).join("\n"));
  cpSync(site, small, { recursive: true });
  await writeModel(join(small, "models", "tiny"));
  server = await serveFiles({ "": small });
  whole = await serveFiles({ "": site });
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
  for (const one of [server, whole]) await one?.close();
  rmSync(directory, { recursive: true, force: true });
});

/** Closed when the test is over, however it ends: a tab that goes on training takes the processor from the next. */
async function newContext(options?: BrowserContextOptions): Promise<BrowserContext> {
  const context = await browser.newContext(options);
  onTestFinished(() => context.close());
  return context;
}

type Visit = Page & { trouble: string[] };

/** A tab that is ready to train. What goes wrong in it is in `trouble`. */
async function visit(context: BrowserContext, url = server.url): Promise<Visit> {
  const page = (await context.newPage()) as Visit;
  page.trouble = [];
  page.on("console", (message) => {
    // What Chromium says by itself where a page asks for a GPU and there is none.
    const expected = message.text() === "No available adapters.";
    if (!expected && ["error", "warning"].includes(message.type())) page.trouble.push(message.text());
  });
  page.on("pageerror", (error) => page.trouble.push(error.message));
  await page.goto(url);
  await page.waitForSelector("button.primary:enabled", PATIENCE);
  return page;
}

const PROMPTS = ["The film", "I thought it was", "My wife and I", "All in all,"];

/** A run that takes seconds. */
async function choose(page: Page, numbers: Readonly<Record<string, number>> = {}): Promise<void> {
  await page.evaluate(() => document.querySelector(".settings")?.setAttribute("open", ""));
  const all = { steps: 2, batchSize: 4, learningRate: 1e-5, ...numbers };
  for (const [name, value] of Object.entries(all)) {
    await page.fill(`#${name}`, String(value));
    await page.locator(`#${name}`).blur();
  }
  await page.fill("#prompts", PROMPTS.join("\n"));
}

const press = (page: Page, name: string) => page.getByRole("button", { name, exact: true }).click();
const state = (page: Page, name: string) => page.waitForSelector(`.pill.${name}`, PATIENCE);

/** A file that the page wrote, from the browser's own file system. */
const fileOf = (page: Page, ...path: string[]): Promise<string> =>
  page.evaluate(async (path) => {
    let at = await navigator.storage.getDirectory();
    const name = path.pop() as string;
    for (const part of ["valuehead", ...path]) at = await at.getDirectoryHandle(part);
    return (await (await at.getFileHandle(name)).getFile()).text();
  }, path);
const linesOf = (text: string): Record<string, number>[] =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

describe.skipIf(!chromium)("the playground", () => {
  test("from start to finish; its checkpoint goes on in Node as it does in the page", async () => {
    const context = await newContext();
    const page = await visit(context);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await choose(page, { steps: 1 });
    await press(page, "Start");
    await state(page, "finished");
    expect(await page.locator(".answers thead th").allTextContents()).toEqual(["Prompt", "Before", "After"]);
    expect(await page.locator(".live .token").count()).toBe(24);
    const means = await page.locator(".lead b").allTextContents();
    const [before, after] = means.map((text) => Number.parseFloat(text.replace("−", "-")));
    const evaluation = JSON.parse(await fileOf(page, "runs", "playground", "evaluation.json"));
    expect(before).toBeCloseTo(evaluation.before.mean, 2);
    expect(after).toBeCloseTo(evaluation.after.mean, 2);

    const saved = page.waitForEvent("download");
    await press(page, "Download the checkpoint");
    const run = join(directory, "run");
    mkdirSync(run);
    await (await saved).saveAs(join(run, "checkpoint.tar"));
    expect((await saved).suggestedFilename()).toBe("checkpoint-1.tar");
    expect(spawnSync("tar", ["-xf", "checkpoint.tar"], { cwd: run }).status).toBe(0);

    await choose(page, { steps: 2 });
    await press(page, "Go on");
    await page.waitForSelector(".status:has-text('step 2 of 2') .pill.finished", PATIENCE);
    const there = linesOf(await fileOf(page, "runs", "playground", "metrics.jsonl"))[1];
    expect(page.trouble).toEqual([]);
    await context.close();

    const prompts = PROMPTS.map((prompt) => ({ prompt }));
    const spec = {
      model: join(small, "models", "tiny"),
      prompts,
      rewardName: "positive",
      out: run,
      resume: true,
      device: "cpu",
    } as const;
    const here: library.Metrics[] = [];
    const allowChange = ["evaluation"] as const;
    for await (const event of library.run(
      { ...spec, allowChange, config: { steps: 2 } },
      library.builtInRewards.positive,
    ))
      if (event.type === "step") here.push(event.metrics);
    expect(here).toHaveLength(1);
    const wrong = Object.entries(there).filter(([name, x]) => {
      if (/^(step|time|memory|system)\b|\/time|rss/.test(name)) return false;
      const floor = /kl|ratio|gap|^audit/i.test(name) ? 2e-3 : 2e-5; // of rounding, summed over tokens
      return !(Math.abs((here[0] as Record<string, number>)[name] - x) <= 1e-3 * Math.abs(x) + floor);
    });
    expect(wrong).toEqual([]);
  }, 300_000);

  describe("refuses, and says so, a reward with", () => {
    let page: Visit;
    beforeAll(async () => {
      page = await visit(await browser.newContext());
      await page.check('input[value="code"]');
    }, 120_000);
    afterAll(() => page?.context().close());

    test.each([
      [
        "a syntax error, with its line",
        "export default (batch) =>\n  batch.map(() => {\n    return 1 +* 2;\n  });",
        /^Your reward threw an error\. Line 3: SyntaxError: .*'\*'/,
      ],
      [
        "an endless loop",
        "export default () => {\n  for (;;);\n};",
        / Found no answer within 5 seconds.*loop that never ends/,
      ],
      [
        "an exception, with its line",
        "export default (batch) =>\n  batch[9].response;",
        /Line 2: TypeError: .*'response'/,
      ],
      ["fetch", "export default async () => {\n  await fetch('SERVER');\n};", /Line 2: fetch is refused.*no network/],
      [
        "XMLHttpRequest",
        "export default () => {\n  new XMLHttpRequest().open('GET', 'SERVER');\n};",
        /Line 2: XMLHttpRequest is refused/,
      ],
      ["importScripts", "importScripts('SERVER');", /Line 1: importScripts is refused/],
      ["indexedDB", "export default () => [indexedDB.open('x')];", /Line 1: indexedDB is refused/],
      // What gets around the refusals: the sandbox's policy, then.
      [
        "a module from elsewhere",
        "export default async () => [(await import('SERVER')).x];",
        /TypeError: .*import.*SERVER|Your reward threw an error/,
      ],
      [
        "NaN",
        "export default (batch) => batch.map(({ response }) => response.length / 0 - Infinity);",
        /score 0 of 3.*found NaN, expected a finite number/,
      ],
      ["a string", 'export default () => "good";', /found the string "good", expected an array of 3 numbers/],
      [
        "a string for each",
        'export default (batch) => batch.map(() => "5");',
        /found the string "5".*Convert it: Number\(score\)/,
      ],
      ["no function", "const reward = 5;", /no default function: write .export default/],
    ])("%s", async (_, code, message) => {
      const asked = server.asked.length;
      await page.fill("#code", code.replace("SERVER", `${server.url}secret`));
      await press(page, "Start");
      await page.waitForSelector("button:has-text('Start'):enabled", PATIENCE);
      expect(await page.locator(".rewards .problem").textContent()).toMatch(message);
      expect(server.asked.slice(asked).filter((path) => path.includes("secret"))).toEqual([]);
    });

    // The last refusal is on the page.
    test("and nothing serious is wrong with that page for axe, light and dark, wide and narrow", async () => {
      expect(await page.locator(".rewards .problem").count()).toBe(1);
      await page.evaluate(() => document.querySelector(".settings")?.setAttribute("open", ""));
      await page.evaluate(axe);
      for (const view of ["exploits", "train"]) {
        await page.click(`nav a[href="#${view}"]`);
        for (const colorScheme of ["light", "dark"] as const)
          for (const width of [1280, 390]) {
            await page.emulateMedia({ colorScheme });
            await page.setViewportSize({ width, height: 900 });
            // biome-ignore lint/suspicious/noExplicitAny: axe is loaded in the page
            const { violations } = await page.evaluate(() => (window as any).axe.run({ resultTypes: ["violations"] }));
            const bad = violations.filter(({ impact }: { impact: string }) => /serious|critical/.test(impact));
            const told = bad.map((v: { id: string; nodes: { html: string }[] }) => `${v.id}: ${v.nodes[0].html}`);
            expect(told, `${view}, ${colorScheme}, ${width}`).toEqual([]);
            expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
          }
      }
    });
  });

  test("a reward that hangs in the middle ends the run, nothing is lost, and mended it goes on", async () => {
    const context = await newContext();
    const page = await visit(context);
    await choose(page);
    await page.check('input[value="code"]');
    const good = "export default (batch) => batch.map(({ response }) => response.length / 100);";
    // Each step asks about each of the four prompts once; so does the evaluation before them, where it is held out.
    await page.fill(
      "#code",
      `let asked = 0;
${good.replace("batch.map(", "batch.map(({ prompt, ...sample }) => { if (prompt === 'All in all,' && ++asked > 2) for (;;); return sample; }).map(")}`,
    );
    await press(page, "Start");
    await state(page, "failed");
    const said = await page.locator(".rewards .problem").textContent();
    expect(said).toMatch(
      /no answer within 5 seconds.*The run stopped\. Everything up to step 1 is saved: mend the reward, and press Go on/,
    );
    await page.fill("#code", good);
    await press(page, "Go on");
    await page.waitForSelector(".status:has-text('step 2 of 2') .pill.finished", PATIENCE);
    expect(await page.locator(".problem").count()).toBe(0);
    const steps = linesOf(await fileOf(page, "runs", "playground", "metrics.jsonl")).map(({ step }) => step);
    expect(steps).toEqual([1, 2]);
    expect(page.trouble).toEqual([]);
  }, 200_000);

  test("a tab closed in the middle goes on at the next visit, with what was chosen", async () => {
    const context = await newContext();
    const first = await visit(context);
    await choose(first, { steps: 3, seed: 3 });
    await first.check('input[value="regex"]');
    await first.fill("#pattern", "\\bgood\\b");
    await press(first, "Start");
    await first.waitForSelector(".status:has-text('step 1 of 3')", PATIENCE);
    await first.close();
    const second = await visit(context);
    expect(await second.locator(".notice").textContent()).toMatch(
      /A run of an earlier visit was cut off after step [12]/,
    );
    expect(await second.inputValue("#pattern")).toBe("\\bgood\\b");
    await press(second, "Go on");
    await second.waitForSelector(".status:has-text('step 3 of 3') .pill.finished", PATIENCE);
    const steps = linesOf(await fileOf(second, "runs", "playground", "metrics.jsonl")).map(({ step }) => step);
    expect(steps).toEqual([1, 2, 3]);
    const config = JSON.parse(await fileOf(second, "runs", "playground", "config.json"));
    expect([config.options.seed, config.playground.reward]).toEqual([3, "regex"]);
    expect(second.trouble).toEqual([]);
  }, 200_000);

  test("exploits: the audit notices each in its first step, and says why; Stop ends it after its step", async () => {
    const page = await visit(await newContext(), `${whole.url}#exploits`);
    for (const [place, title] of ["Case 1", "Case 2", "Top-p"].entries()) {
      await page.locator(".gaps button").nth(place).click();
      // Of the first, a second step is waited for: in the first the KL is 0.
      if (place === 0) await page.waitForSelector("[role=status]:has-text('open: step 1 of')", PATIENCE);
      await press(page, "Stop");
      await page.waitForSelector(".gaps button:enabled", PATIENCE);
      await page.waitForSelector("#verdict:has-text('Breach')", PATIENCE);
      expect(await page.locator(".said dd").nth(2).textContent()).toMatch(/padding|end of text|sampl|record/i);
      expect(await page.getByRole("heading", { name: title }).count()).toBe(2);
      expect(await page.locator(".live .token").count()).toBeGreaterThan(0);
      if (place > 0) continue; // test/examples/exploits.test.ts has the others
      const [last] = await page.locator('b[data-metric="objective/kl"][data-run="0"]').allTextContents();
      expect(Number(last.replace("−", "-"))).toBeLessThan(0);
    }
    expect(page.trouble).toEqual([]);
  }, 300_000);

  test("after the first visit it needs no network", async () => {
    const own = await serveFiles({ "": small });
    const context = await newContext();
    const page = await visit(context, own.url);
    expect(await page.locator(".notices").textContent()).toContain("also opens without a network");
    await own.close();
    await page.reload();
    await page.waitForSelector("button.primary:enabled", PATIENCE);
    await choose(page, { steps: 1 });
    await press(page, "Start");
    await state(page, "finished");
  }, 200_000);

  test("a host without the headers gives threads through the service worker; without one there is one thread, and it is said", async () => {
    const plain = await serveFiles({ "": small }, { isolated: false });
    const context = await newContext();
    const page = await visit(context, plain.url);
    await page.waitForFunction(() => crossOriginIsolated);
    await context.close();

    const bare = await newContext({ serviceWorkers: "block" });
    const single = await visit(bare, plain.url);
    expect(await single.evaluate(() => crossOriginIsolated)).toBe(false);
    expect(await single.locator(".notices").textContent()).toMatch(/one thread: the server does not send the headers/);
    expect(await single.locator(".notices").textContent()).toMatch(/no training on the graphics card \(WebGPU\): /);
    await choose(single, { steps: 1 });
    await press(single, "Start");
    await state(single, "finished");
    await bare.close();
    await plain.close();
  }, 200_000);

  test("plain http of another host has neither files nor locks nor threads: it is said, and training works", async () => {
    const elsewhere = await openBrowser(["--host-resolver-rules=MAP playground.example 127.0.0.1"]);
    const page = await visit(await elsewhere.newContext(), server.url.replace("127.0.0.1", "playground.example"));
    expect(await page.evaluate(() => isSecureContext)).toBe(false);
    expect(await page.locator(".notices").textContent()).toMatch(/keeps no files for this page.*Download/);
    await choose(page, { steps: 1 });
    await press(page, "Start");
    await state(page, "finished");
    const saved = page.waitForEvent("download");
    await press(page, "Download the checkpoint");
    expect((await saved).suggestedFilename()).toBe("checkpoint-1.tar");
    await elsewhere.close();
  }, 200_000);
});
