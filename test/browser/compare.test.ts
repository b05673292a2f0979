/** @file The page of a comparison in a real browser: its numbers are those it was given, and it can be used by anybody. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeComparison } from "../../src/run/page/compare-page.ts";
import type { Comparison } from "../../src/ship/compare.ts";
import { chromium, openBrowser } from "../support/browser.ts";
import { buildPage } from "../support/cli.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-compare-page-"));
const file = join(directory, "compare.html");
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const N = 60;

/** Prompt i is answered with reward i / 128 by A, and i / 128 + (i % 3 - 1) / 4 by B. */
const answer = (who: string, i: number, reward: number) => ({
  text: ` ${who} says ${i}</script>`,
  reward,
  length: 8,
  ended: i % 2 === 0,
});
const same = (mean: number) => ({ mean, standardError: 0.25, low: mean - 0.5, high: mean + 0.5 });
const all = (mean: number) => ({
  reward: same(mean),
  length: same(mean),
  ended: same(mean),
  distinct1: same(mean),
  distinct2: same(mean),
});
const comparison: Comparison = {
  a: all(1.25),
  b: all(2.5),
  difference: {
    ...all(1.25),
    length: { mean: 0.25, standardError: 0.25, low: -0.25, high: 0.75 },
    distinct2: { mean: -0.5, standardError: 0.125, low: -0.75, high: -0.25 },
  },
  kl: { mean: 3.5, standardError: 0.25, low: 3, high: 4 },
  samples: Array.from({ length: N }, (_, i) => ({
    prompt: `Prompt ${i}:`,
    a: [answer("A", i, i / 128)],
    b: [answer("B", i, i / 128 + ((i % 3) - 1) / 4)],
  })),
};
const data = {
  ...{ version: "0", written: "2026-01-02T03:04:05.000Z", models: { a: "tiny", b: "runs/first" } },
  ...{ comparison, asked: { reward: "positive", topK: 0 }, command: "valuehead compare tiny runs/first" },
};

let browser: Browser;
beforeAll(async () => {
  buildPage();
  if (chromium) browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true, force: true });
});

describe.skipIf(!chromium)("the page of a comparison", () => {
  const visit = async (viewport = { width: 1440, height: 900 }, colorScheme: "light" | "dark" = "light") => {
    await writeComparison(file, data);
    const page = await browser.newPage({ viewport, colorScheme });
    const trouble: string[] = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && trouble.push(message.text()));
    page.on("pageerror", (error) => trouble.push(error.message));
    page.on(
      "request",
      (request) =>
        request.url().startsWith("file:") || request.url().startsWith("data:") || trouble.push(request.url()),
    );
    await page.goto(`file://${file}`);
    await page.waitForSelector(".pairs-of-texts li");
    return { page, trouble };
  };

  test("says what differs, with its interval, and shows every measure", async () => {
    const { page, trouble } = await visit();
    expect(await page.locator(".finding h3").allTextContents()).toEqual([
      "B scores higher by 1.25",
      "B is 3.50 nats per response away from A",
      "B is less varied (distinct-2 −0.50)",
    ]);
    expect(await page.locator(".finding").first().textContent()).toContain(
      "[0.75, 1.75], paired by prompt, over 60 prompts",
    );
    const cell = (name: string) => page.locator(`[data-${name}]`).first().textContent();
    expect([
      await cell("a=reward"),
      await cell("b=length"),
      await cell("difference=length"),
      await cell("difference=kl"),
    ]).toEqual(["1.25", "2.50", "+0.25", "3.50"]);
    expect(await page.locator(".chart h3").last().textContent()).toBe("B − A by prompt: better 20, equal 20, worse 20");
    const counted = await page.locator(".bars").first().locator("rect.s0 title").allTextContents();
    expect(counted.reduce((sum, title) => sum + Number(title.split(": ").at(-1)), 0)).toBe(N);
    expect(trouble).toEqual([]);
    await page.close();
  });

  test("texts stand side by side, the largest gains first or last, and are searched", async () => {
    const { page, trouble } = await visit();
    const first = page.locator(".pairs-of-texts li").first();
    expect(await first.locator("h3").textContent()).toBe("Prompt 2: B − A +0.25");
    const [a, b] = [first.locator(".answer").nth(0), first.locator(".answer").nth(1)];
    expect([await a.textContent(), await b.textContent()]).toEqual([
      "0.0156A, 8 tokens A says 2</script>",
      "0.266B, 8 tokens B says 2</script>",
    ]);
    const [left, right] = [await a.boundingBox(), await b.boundingBox()];
    expect(left?.y).toBe(right?.y);
    await page.selectOption(".filters select", "loss");
    expect(await first.locator("h3").textContent()).toBe("Prompt 0: B − A −0.25");
    await page.fill("input[type=search]", "says 17");
    expect(await page.locator(".pairs-of-texts li").count()).toBe(1);
    expect(await first.textContent()).toContain("8 tokens, cut off");
    expect(trouble).toEqual([]);
    await page.close();
  });

  test.each([
    [1440, "light"],
    [1440, "dark"],
    [390, "light"],
    [390, "dark"],
  ] as const)("at %i pixels, %s: nothing is cut off, and axe finds nothing serious", async (width, colours) => {
    const { page, trouble } = await visit({ width, height: 900 }, colours);
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
    expect(await page.locator("[data-difference=reward]").isVisible()).toBe(true);
    await page.evaluate(readFileSync(axe, "utf8"));
    // biome-ignore lint/suspicious/noExplicitAny: axe is in the page
    const { violations } = await page.evaluate(() => (globalThis as any).axe.run());
    const serious = violations.filter(({ impact }: { impact: string }) => /serious|critical/.test(impact));
    expect(serious.map(({ id, nodes }: { id: string; nodes: { html: string }[] }) => [id, nodes[0].html])).toEqual([]);
    expect(trouble).toEqual([]);
    await page.close();
  });
});
