/** @file Pictures of the dashboard in a real browser, by day and by night, as WebP. */
import { writeFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { Dashboard } from "../../src/run/page/dashboard.ts";
import { openBrowser } from "../../test/support/browser.ts";

export interface Shot {
  /** A tab of the page. */
  readonly tab: string;
  /** The file, without `-light.webp` or `-dark.webp`. */
  readonly path: string;
  readonly width: number;
  readonly height: number;
  /** What is done before the picture is taken. */
  prepare?(page: Page): Promise<void>;
}

/** Pictures of the page of a run. */
export async function photograph(run: string, shots: readonly Shot[]): Promise<void> {
  const dashboard = await Dashboard.open({ directories: [run], port: 0 });
  const browser = await openBrowser();
  try {
    for (const colorScheme of ["light", "dark"] as const) {
      for (const { tab, path, width, height, prepare } of shots) {
        const page = await browser.newPage({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
        await page.goto(`${dashboard.url}#${tab}`);
        await page.waitForSelector("main .card, main .chart, main table");
        await prepare?.(page);
        await page.waitForTimeout(400); // charts are drawn
        const png = await page.screenshot();
        writeFileSync(`${path}-${colorScheme}.webp`, await asWebP(page, png));
        await page.close();
      }
    }
  } finally {
    await browser.close();
    await dashboard.close();
  }
}

/** The browser's own encoder: a picture of a page is a third of the PNG. */
async function asWebP(page: Page, png: Buffer): Promise<Buffer> {
  await page.goto("about:blank");
  const url = await page.evaluate(
    async (source) => {
      const image = new Image();
      image.src = source;
      await image.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
      canvas.getContext("2d")?.drawImage(image, 0, 0);
      return canvas.toDataURL("image/webp", 0.9);
    },
    `data:image/png;base64,${png.toString("base64")}`,
  );
  return Buffer.from(url.split(",")[1], "base64");
}
