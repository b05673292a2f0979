/** @file A real Chromium, where there is one: Debian's, Chrome's, or what VALUEHEAD_CHROMIUM names. */
import { existsSync } from "node:fs";
import type { Browser } from "playwright-core";

const PLACES = [
  process.env.VALUEHEAD_CHROMIUM ?? "",
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

/** Its program; undefined: there is none, and tests that need it say so. */
export const chromium: string | undefined = PLACES.find((path) => path !== "" && existsSync(path));

if (chromium === undefined)
  console.log("Left out: tests of the page in a browser, for no Chromium was found (VALUEHEAD_CHROMIUM names one)");

/** Started without a window. */
export async function openBrowser(more: readonly string[] = []): Promise<Browser> {
  const { chromium: driver } = await import("playwright-core");
  return driver.launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-dev-shm-usage", ...more] });
}

/** Flags that give it WebGPU in software, wherever it runs. */
export const SWIFTSHADER = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
] as const;
