/** @file The playground in a real Chromium, used as a person would: small runs, every refusal, the exploits, closed tabs, no network. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildPlayground } from "../../apps/playground/build.mjs";
import * as library from "../../src/index.ts";
import { type StaticServer, serveFiles } from "../../tools/static-server.mjs";
import { chromium, openBrowser } from "../support/browser.ts";

const models = fileURLToPath(new URL("../../models/tiny/", import.meta.url));
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const directory = mkdtempSync(join(tmpdir(), "valuehead-playground-"));
const site = join(directory, "site");
/** What a step may take where others are busy on the machine. */
const PATIENCE = { timeout: 120_000 };

let browser: Browser;
let server: StaticServer;
beforeAll(async () => {
  if (!chromium) return;
  await buildPlayground(site);
  server = await serveFiles({ "": site });
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
});

type Visit = Page & { trouble: string[] };

/** A tab that is ready to train. What goes wrong in it is in `trouble`. */
async function visit(context: BrowserContext, url = server.url): Promise<Visit> {
  const page = (await context.newPage()) as Visit;
  page.trouble = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.trouble.push(message.text()));
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
    const context = await browser.newContext();
    const page = await visit(context);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await choose(page);
    await press(page, "Start");
    await state(page, "finished");
    expect(await page.locator(".answers thead th").allTextContents()).toEqual(["Prompt", "Before", "After"]);
    expect(await page.locator(".live .token").count()).toBe(24);
    const [before, after] = (await page.locator(".lead b").allTextContents()).map(Number.parseFloat);
    const evaluation = JSON.parse(await fileOf(page, "runs", "playground", "evaluation.json"));
    expect(before).toBeCloseTo(evaluation.before.mean, 2);
    expect(after).toBeCloseTo(evaluation.after.mean, 2);

    const saved = page.waitForEvent("download");
    await press(page, "Download the checkpoint");
    const run = join(directory, "run");
    mkdirSync(run);
    await (await saved).saveAs(join(run, "checkpoint.tar"));
    expect((await saved).suggestedFilename()).toBe("checkpoint-2.tar");
    expect(spawnSync("tar", ["-xf", "checkpoint.tar"], { cwd: run }).status).toBe(0);

    await choose(page, { steps: 3 });
    await press(page, "Go on");
    await page.waitForSelector(".status:has-text('step 3 of 3') .pill.finished", PATIENCE);
    const there = linesOf(await fileOf(page, "runs", "playground", "metrics.jsonl"))[2];
    expect(page.trouble).toEqual([]);
    await context.close();

    const prompts = PROMPTS.map((prompt) => ({ prompt }));
    const spec = { model: models, prompts, rewardName: "positive", out: run, resume: true, device: "cpu" } as const;
    const here: library.Metrics[] = [];
    const allowChange = ["evaluation"] as const;
    for await (const event of library.run(
      { ...spec, allowChange, config: { steps: 3 } },
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
});
void axe;
void readFileSync;
