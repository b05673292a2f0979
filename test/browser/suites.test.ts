/**
 * @file Test files that run in Node, run in a tab of a real Chromium too: the same files, bundled with the library as it is built for
 * browsers, in a worker. Golden numbers come from the references; what is compared with the CPU is computed in Node.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Browser, Worker } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel } from "../../src/index.ts";
import { options } from "../../tools/browser-build.mjs";
import { type StaticServer, serveFiles } from "../../tools/static-server.mjs";
import { chromium, openBrowser } from "../support/browser.ts";
import { computations, type Results, sameResults } from "../support/computations.ts";
import { goldenPath, relativeError } from "../support/golden.ts";
import type * as tabVitest from "../support/tab-vitest.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** By file of test/: which of its tests, and how many these are at least. */
const SUITES: Readonly<Record<string, readonly [pattern: string, atLeast: number]>> = {
  "unit/backend/backends": ["^wasm ", 50],
  "parity/forward": ["", 6],
  "parity/gradients": ["", 10],
  // Of the settings, those that ask the most.
  "invariant/ratio": ["^gpt2 also with|it sees|temperature 1.3, top-k 5, top-p 0.9, repetition penalty 1.2", 9],
  "invariant/sampling": [
    "prompts ragged|values of|a row of a batch is|temperature 1.3, top-k 5, top-p 0.9, repetition penalty 1.2|raw",
    21,
  ],
};

const MODELS = ["gpt2-tiny", "llama/llama-tiny", "llama/qwen3-tiny"];

declare global {
  var tests: Readonly<Record<string, () => Promise<unknown>>>;
  var support: typeof tabVitest;
}

const directory = mkdtempSync(join(tmpdir(), "valuehead-suites-"));
let browser: Browser;
let server: StaticServer;
let worker: Worker;
const trouble: string[] = [];
beforeAll(async () => {
  if (!chromium) return;
  const files = Object.keys(SUITES).map((name) => `"${name}": () => import("./test/${name}.test.ts")`);
  await build({
    ...options,
    minify: false,
    stdin: {
      resolveDir: root,
      contents: `import * as support from "vitest";\nObject.assign(globalThis, { support, tests: { ${files} } });\npostMessage("ready");`,
    },
    alias: {
      vitest: "./test/support/tab-vitest.ts",
      "node:fs": "./test/support/tab-node.ts",
      "node:url": "./test/support/tab-node.ts",
    },
    outdir: directory,
    entryNames: "tests",
  });
  server = await serveFiles({
    tests: directory,
    golden: join(root, "test", "golden"),
    models: join(root, "models"),
    onnxruntime: join(root, "node_modules", "onnxruntime-web", "dist"),
    "": '<!doctype html><link rel="icon" href="data:,">',
  });
  browser = await openBrowser();
  const page = await browser.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && trouble.push(message.text()));
  await page.goto(server.url);
  const started = page.waitForEvent("worker");
  await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const worker = new Worker("/tests/tests.js", { type: "module" });
        worker.onmessage = resolve;
        worker.onerror = ({ message }) => reject(new Error(message));
      }),
  );
  worker = await started;
  const kept = MODELS.flatMap((name) =>
    readdirSync(goldenPath(name))
      .filter((file) => !file.startsWith("golden"))
      .map((file) => `/golden/${name}/${file}`),
  );
  await worker.evaluate((paths) => support.keepFiles(paths), kept);
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
});

describe.skipIf(!chromium)("in a tab", () => {
  test.each(Object.entries(SUITES))(
    "%s",
    async (name, [pattern, atLeast]) => {
      const outcome = await worker.evaluate(
        ([name, pattern]) => support.runTests(tests[name], pattern),
        [name, pattern],
      );
      expect(outcome.failed).toEqual([]);
      expect(outcome.passed.length).toBeGreaterThanOrEqual(atLeast);
    },
    240_000,
  );

  const compared = ["log-probs, entropies and values", "gradients", "decoding"];
  test.each(MODELS.flatMap((name) => compared.map((what) => [name, what] as const)))(
    "of %s, %s: as on Node's CPU",
    async (name, what) => {
      const model = await loadModel(goldenPath(name), { threads: 1 });
      const compute = computations.find(([known]) => known === what)?.[1] as (typeof computations)[number][1];
      const want: Results = await compute(model);
      model.dispose();
      const got = await worker.evaluate(([name, what]) => support.compute(`/golden/${name}`, what), [name, what]);
      sameResults(got, want, 1e-4);
      if (want.alone) expect(relativeError(got.alone, want.alone)).toBeLessThan(1e-3);
    },
  );

  test("nothing is said on the console", () => expect(trouble).toEqual([]));
});
