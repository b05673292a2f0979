/** @file The page in a real browser: its numbers are those of the files, it keeps up, and it can be used by anybody. */
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Dashboard } from "../../src/run/page/dashboard.ts";
import { RunReader } from "../../src/run/page/reader.ts";
import { LARGEST_REPORT, reportOf, writeReport } from "../../src/run/page/report.ts";
import { chromium, openBrowser } from "../support/browser.ts";
import { buildPage } from "../support/cli.ts";
import { lossAt, metricsAt, sampleAt, writeOtherRun, writePageRun } from "../support/page-run.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-page-"));
const at = (name: string) => join(directory, name);
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const OPEN = { steps: 60, samplesPerStep: 4, openFrom: 30 };
const LONG = { steps: 5000, samplesPerStep: 4, seed: 3 };

let browser: Browser;
const open: Dashboard[] = [];
beforeAll(async () => {
  buildPage();
  writePageRun(at("open"), OPEN);
  writePageRun(at("honest"), { steps: 60, samplesPerStep: 4, seed: 2 });
  if (chromium) browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
  for (const dashboard of open) await dashboard.close();
  rmSync(directory, { recursive: true, force: true });
});

async function serve(...names: string[]): Promise<Dashboard> {
  const dashboard = await Dashboard.open({ directories: names.map(at), port: 0 });
  open.push(dashboard);
  return dashboard;
}

/** A page that must say nothing on the console and ask nobody but its server. */
async function visit(
  url: string,
  options: Parameters<Browser["newPage"]>[0] = {},
): Promise<Page & { trouble: string[] }> {
  const page = (await browser.newPage({ viewport: { width: 1440, height: 900 }, ...options })) as Page & {
    trouble: string[];
  };
  page.trouble = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.trouble.push(message.text()));
  page.on("pageerror", (error) => page.trouble.push(error.message));
  await page.goto(url);
  await page.waitForSelector("main .card, main .chart");
  return page;
}

/** Charts are drawn when they come into view, and their numbers with them. */
const value = (page: Page, metric: string, run = 0) =>
  page.locator(`b[data-metric="${metric}"][data-run="${run}"]`).filter({ hasText: /\d/ }).first().textContent();
const asNumber = (text: string | null) => Number(text?.replace("−", "-").replace("e−", "e-").replaceAll(",", ""));

describe.skipIf(!chromium)("the page", () => {
  test("says since when an exploit is open, and why, in words", async () => {
    const page = await visit((await serve("open")).url);
    const first = page.locator(".finding").first();
    expect(await first.locator("h3").textContent()).toBe("From step 30 on, text is not scored as it was sampled");
    expect(await first.textContent()).toMatch(/reached its bound at step 37.*padding after the end of text/s);
    expect(await page.locator(".finding h3").allTextContents()).toContain("The KL is below zero from step 30 on");
    await page.click('nav a[href="#audit"]');
    expect(await page.locator("#verdict").textContent()).toContain("step 37");
    expect(page.trouble).toEqual([]);
    await page.close();
  });

  test("its numbers are those of metrics.jsonl, at the last step and at any that is pointed at", async () => {
    const page = await visit(`${(await serve("open")).url}#charts`);
    await page.waitForSelector(".uplot");
    const lines = readFileSync(at("open/metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const slider = page.locator('.tools input[type="range"]').first();
    for (const step of [60, 17, 33]) {
      if (step !== 60) {
        await slider.focus();
        await slider.fill(String(step));
      }
      const names = await page
        .locator("b[data-metric]")
        .evaluateAll((all) => [...new Set(all.map((b) => (b as HTMLElement).dataset.metric as string))]);
      expect(names.length).toBeGreaterThan(15);
      for (const name of names) {
        if (/^(time|memory)/.test(name)) continue; // in other units
        const expected = lines[step - 1][name];
        expect(Math.abs(asNumber(await value(page, name)) - expected), `${name} at step ${step}`).toBeLessThanOrEqual(
          6e-4 * Math.abs(expected) + 1e-9,
        );
      }
    }
    expect(page.trouble).toEqual([]);
    await page.close();
  });

  test("of a run with workers it says what each did, how fast, and what went wrong", async () => {
    writePageRun(at("workers"), { steps: 30, samplesPerStep: 1, workers: true });
    const page = await visit((await serve("workers")).url);
    const card = page.locator("section", { has: page.locator("#workers") });
    expect(await card.locator(".lead").textContent()).toBe(
      "1 worker at work at step 30; 16.0 responses a second over the last steps; 3 parts of steps done by the trainer itself, for nobody else did them in time.",
    );
    const rows = await card.locator("tbody tr").allTextContents();
    expect(rows).toEqual(["a-1at work604801.5s0.50s10", "b-2refused: log-probs 3 nats away604801.5s0.50s10"]);
    await page.goto(`${page.url().split("#")[0]}#run`);
    expect(await page.locator(".log li.workers").count()).toBe(0);
    expect(page.trouble).toEqual([]);
    await page.close();
  });

  test("several runs lie on top of each other, each with its own numbers", async () => {
    const page = await visit(`${(await serve("open", "honest")).url}#charts`);
    await page.waitForSelector(".uplot");
    for (const [run, name] of ["open", "honest"].entries()) {
      const last = JSON.parse(
        readFileSync(at(`${name}/metrics.jsonl`), "utf8")
          .trim()
          .split("\n")
          .at(-1) as string,
      );
      expect(asNumber(await value(page, "objective/kl", run))).toBeCloseTo(last["objective/kl"], 2);
    }
    await page.click(".run-chip:nth-of-type(2) button");
    await page.click('nav a[href="#overview"]');
    await page.waitForSelector(".finding.good");
    expect(await page.locator(".finding.good h3").allTextContents()).toContain("The audit found nothing");
    await page.close();
  });

  test("a response under the lens has the numbers of samples.jsonl; the keyboard is enough", async () => {
    const page = await visit(`${(await serve("open")).url}#samples`);
    await page.locator("tbody button.open").first().focus();
    await page.keyboard.press("Enter");
    await page.waitForSelector(".token");
    const sample = sampleAt(60, 3, OPEN) as Record<string, number[]>;
    expect(await page.locator(".token").allTextContents()).toEqual(sample.pieces);
    await page.locator(".token").first().focus();
    for (const token of [0, 1, 2]) {
      if (token > 0) await page.keyboard.press("ArrowRight");
      const shown = async (name: string) => asNumber(await page.locator(`[data-measure="${name}"]`).textContent());
      const { logprobs, refLogprobs, values, rewards, advantages, ratios } = sample;
      for (const [name, list] of Object.entries({
        logprob: logprobs,
        value: values,
        reward: rewards,
        advantage: advantages,
        ratio: ratios,
      }))
        expect(Math.abs((await shown(name)) - list[token])).toBeLessThanOrEqual(6e-4 * Math.abs(list[token]));
      expect(await shown("kl")).toBeCloseTo(logprobs[token] - refLogprobs[token], 2);
    }
    expect(page.trouble).toEqual([]);
    await page.close();
  });

  test("of GRPO the answers to a prompt are side by side, best first, and the lens says which compete", async () => {
    writeOtherRun(at("grpo"), "grpo");
    const page = await visit(`${(await serve("grpo")).url}#samples`);
    const first = page.locator(".groups li").first();
    expect(await first.locator("h3").textContent()).toMatch(/step 16\s*Opening 16:\s*3 answers, mean score 0\.50/);
    expect(await first.locator(".group-answers b").allTextContents()).toEqual(["0.90", "0.40", "0.20"]);
    await first.locator("button").nth(1).click();
    await page.waitForSelector(".lens .others .score");
    expect(await page.locator(".lens h3").allTextContents()).toContain("Other answers of its group");
    expect(await page.locator(".lens .others .score").allTextContents()).toEqual(["0.20", "0.90"]);
    await page.click('nav a[href="#overview"]');
    await page.waitForSelector(".finding h3");
    const said = await page.locator(".finding h3").allTextContents();
    expect(said).toContain("75 % of the groups have equal scores");
    expect(said).toContain("50 % of tokens are clipped");
    await page.click('nav a[href="#charts"]');
    expect(asNumber(await value(page, "group/std_scores"))).toBe(4);
    expect(page.trouble).toEqual([]);
    await page.close();
  });

  test.each(["sft", "dpo"] as const)(
    "of %s there is what it learns, and neither samples nor an audit",
    async (algorithm) => {
      writeOtherRun(at(algorithm), algorithm);
      const page = await visit(`${(await serve(algorithm)).url}#audit`);
      await Promise.all([".finding h3", ".chart h3"].map((shown) => page.waitForSelector(shown)));
      expect(await page.locator("nav a").allTextContents()).toEqual(["Overview", "Charts", "Run"]);
      const said = await page.locator(".finding h3").allTextContents();
      expect(said).toContain("The held-out loss rose from step 8 on, from 1.20 to 1.60");
      expect(said.some((title) => title.startsWith("Chosen responses became less likely"))).toBe(algorithm === "dpo");
      const last = lossAt(algorithm, 16);
      const titles = await page.locator(".chart h3").allTextContents();
      expect(titles[0]).toBe(algorithm === "sft" ? "Lossnats per token" : "Loss");
      await page.click('nav a[href="#charts"]');
      for (const [name, x] of Object.entries(last))
        if (!/^(time|step)/.test(name)) expect(asNumber(await value(page, name)), name).toBeCloseTo(x, 3);
      expect(await page.locator(".more").count()).toBe(0); // nothing is left over for a list without names
      expect(page.trouble).toEqual([]);
      await page.close();
    },
  );

  test("colours are those of the system, unless others are chosen", async () => {
    const { url } = await serve("honest");
    for (const system of ["light", "dark"] as const) {
      const page = await visit(url, { colorScheme: system });
      const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const colours = { light: "rgb(247, 247, 245)", dark: "rgb(19, 20, 23)" };
      expect(await background()).toBe(colours[system]);
      const other = system === "light" ? "dark" : "light";
      await page.selectOption(".theme select", other);
      expect(await background()).toBe(colours[other]);
      expect(page.trouble).toEqual([]);
      await page.close();
    }
  });

  test("samples are sorted and searched", async () => {
    const page = await visit(`${(await serve("open")).url}#samples`);
    await page.click('th button:has-text("Score")');
    const scores = (await page.locator("tbody tr td:nth-child(2)").allTextContents()).map(asNumber);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    const { response, prompt } = sampleAt(12, 2, OPEN) as { response: string; prompt: string };
    await page.fill('input[type="search"]', response.slice(0, 30));
    expect(await page.locator("tbody tr").count()).toBe(1);
    expect(await page.locator("tbody tr").textContent()).toContain(prompt);
    await page.close();
  });

  test.each([["open", "honest"], ["grpo"]])(
    "axe finds nothing serious, light and dark, wide and narrow: %s",
    async (...names) => {
      writeOtherRun(at("grpo"), "grpo");
      const page = await visit((await serve(...names)).url);
      await page.addScriptTag({ path: axe }).catch(() => page.evaluate(readFileSync(axe, "utf8")));
      for (const tab of ["overview", "charts", "samples", "audit", "run"]) {
        await page.evaluate((name) => {
          location.hash = name;
        }, tab);
        await page.waitForTimeout(150);
        if (tab === "samples") {
          await page.locator(".group-answers button, tbody button.open").first().click();
          await page.waitForSelector(".token");
        }
        for (const colorScheme of ["light", "dark"] as const)
          for (const width of [1440, 390]) {
            await page.emulateMedia({ colorScheme });
            await page.setViewportSize({ width, height: 900 });
            await page.waitForTimeout(50);
            // biome-ignore lint/suspicious/noExplicitAny: axe is loaded in the page
            const { violations } = await page.evaluate(() => (window as any).axe.run({ resultTypes: ["violations"] }));
            const bad = violations.filter(
              ({ impact }: { impact: string }) => impact === "serious" || impact === "critical",
            );
            const told = bad.map(
              (v: { id: string; nodes: { html: string; failureSummary: string }[] }) =>
                `${v.id}: ${v.nodes[0].html} ${v.nodes[0].failureSummary}`,
            );
            expect(told, `${tab}, ${colorScheme}, ${width}`).toEqual([]);
            expect(
              await page.evaluate(() => document.documentElement.scrollWidth),
              `${tab} at ${width}`,
            ).toBeLessThanOrEqual(width);
          }
      }
      await page.close();
    },
  );

  test("stop and save are asked with the token alone", async () => {
    const asked: string[] = [];
    mkdirSync(at("live"), { recursive: true });
    writePageRun(at("live"), OPEN);
    const dashboard = await Dashboard.open({
      directories: [at("live")],
      port: 0,
      controls: { stop: () => asked.push("stop"), save: () => asked.push("save") },
    });
    open.push(dashboard);
    const { origin, hash } = new URL(dashboard.url);
    const post = (path: string, headers: Record<string, string>) =>
      fetch(`${origin}${path}`, { method: "POST", headers: { Origin: origin, ...headers } });
    for (const headers of [{}, { "X-Valuehead-Token": "wrong" }] as Record<string, string>[])
      for (const path of ["/stop", "/save"]) expect((await post(path, headers)).status).toBe(403);
    const token = { "X-Valuehead-Token": hash.replace("#token=", "") };
    expect((await post("/stop", { ...token, Origin: "https://evil.example" })).status).toBe(403);
    expect(asked).toEqual([]);
    expect((await post("/save", token)).status).toBe(200);
    expect((await post("/stop", token)).status).toBe(200);
    expect(asked).toEqual(["save", "stop"]);
    expect((await fetch(`${origin}/data`).then((answer) => answer.text())).includes(token["X-Valuehead-Token"])).toBe(
      false,
    );
    const page = await visit(dashboard.url);
    expect(new URL(page.url()).hash).toBe(""); // not in the address, nor in the history
    await page.close();
  });

  test("the report opens from disk, asks nobody for anything and carries everything", async () => {
    const path = (await writeReport(at("open"))) as string;
    expect(statSync(path).size).toBeLessThan(LARGEST_REPORT);
    const page = (await browser.newPage({ viewport: { width: 1440, height: 900 } })) as Page;
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    const trouble: string[] = [];
    page.on("console", (message) => message.type() === "error" && trouble.push(message.text()));
    await page.goto(`file://${path}`);
    await page.waitForSelector(".finding");
    expect(await page.locator(".finding h3").first().textContent()).toContain("From step 30 on");
    // 0.2 + 0.01 i for i = 0..3: mean 0.215, s = 0.01291, s / 2 = 0.0065
    expect(await page.locator('[data-evaluation="difference"]').textContent()).toBe("+0.215 ± 0.0065");
    await page.goto(`file://${path}#samples`);
    await page.locator("tbody button.open").first().click();
    await page.waitForSelector(".token");
    expect(
      asked.filter((url) => !url.startsWith("file:") && !url.startsWith("data:") && !url.startsWith("blob:")),
    ).toEqual([]);
    expect(trouble).toEqual([]);
    await page.close();
  });
});

describe.skipIf(!chromium)("a run of 5,000 steps and 20,000 samples", () => {
  beforeAll(() => writePageRun(at("long"), LONG), 60_000);

  test("is seen within a second, answers within 100 ms, and follows ten steps a second", async () => {
    const dashboard = await serve("long");
    const page = await visit(`${dashboard.url}#charts`);
    const painted = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
    await page.waitForSelector(".uplot");
    const drawn = await page.evaluate(() => performance.now());
    /** Milliseconds from an input to the frame after it, the median of three. */
    const react = async (act: string) => {
      const once = () =>
        page.evaluate(async (source) => {
          const start = performance.now();
          new Function(source)();
          await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
          return performance.now() - start;
        }, act);
      return [await once(), await once(), await once()].sort((a, b) => a - b)[1]; // others may be busy on the machine
    };
    const input = (selector: string, to: string) =>
      `const e = document.querySelector(${JSON.stringify(selector)}); e.value = ${JSON.stringify(to)}; e.dispatchEvent(new Event("input", { bubbles: true }));`;
    const times: Record<string, number> = {};
    times.cursor = await react(input('.tools input[type="range"]', "2500"));
    times.smoothing = await react(input(".tools label:nth-of-type(2) input", "0.9"));
    await page.evaluate(() => {
      location.hash = "samples";
    });
    await page.waitForSelector("tbody tr");
    times.search = await react(input('input[type="search"]', "word12"));
    times.sort = await react(`document.querySelectorAll("th button")[1].click()`);
    const memory = await page.evaluate(
      () => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize,
    );
    // Ten steps a second, for three seconds: the page has each of them soon after.
    await page.evaluate(() => {
      location.hash = "overview";
    });
    for (let step = 5001; step <= 5030; step++) {
      appendFileSync(at("long/metrics.jsonl"), `${JSON.stringify(metricsAt(step, LONG))}\n`);
      appendFileSync(at("long/samples.jsonl"), `${JSON.stringify(sampleAt(step, 0, LONG))}\n`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await page.waitForFunction(() => document.querySelector(".status")?.textContent?.includes("5,030"), null, {
      timeout: 5000,
    });
    times.afterwards = await react(input('.tools input[type="range"]', "5000"));
    console.log("page of 5,000 steps:", { painted, drawn, ...times, heapMB: memory / 1e6 });
    expect(painted).toBeLessThan(1000);
    for (const [name, time] of Object.entries(times)) expect(time, name).toBeLessThan(100);
    expect(page.trouble).toEqual([]);
    await page.close();
  }, 120_000);

  test("its report stays below 2 MB, and says that it is thinned out", async () => {
    const reader = new RunReader(at("long"));
    await reader.read();
    const html = await reportOf([reader]);
    expect(Buffer.byteLength(html)).toBeLessThan(LARGEST_REPORT);
    expect(reader.data.steps.length).toBeGreaterThan(4999);
  }, 120_000);
});
