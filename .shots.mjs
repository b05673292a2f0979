import { chromium } from "playwright-core";

const [url, ...names] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
for (const spec of names) {
  const [tab, width, theme] = spec.split(":");
  const page = await browser.newPage({
    viewport: { width: Number(width), height: width === "390" ? 844 : 1000 },
    colorScheme: theme,
  });
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && console.log(spec, m.text()));
  page.on("pageerror", (e) => console.log(spec, "ERR", e.message));
  await page.goto(`${url}#${tab}`);
  await page.waitForSelector("main > *:not(.lead)", { timeout: 8000 }).catch((e) => console.log(e.message));
  await page.waitForTimeout(400);
  if (tab === "samples") {
    await page.click("tbody tr:nth-child(3)");
    await page.waitForTimeout(500);
  }
  await page.screenshot({ path: `/tmp/dash/shots/${tab}-${width}-${theme}.png`, fullPage: true });
  console.log(
    spec,
    await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]),
  );
  await page.close();
}
await browser.close();
