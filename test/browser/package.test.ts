/** @file The package for browsers: what reaches it, how large it is, and that bundlers take it. Needs no browser. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Metafile } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildBrowser, ownBytes } from "../../tools/browser-build.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const directory = mkdtempSync(join(tmpdir(), "valuehead-bundle-"));
const installed = join(directory, "node_modules", "valuehead");

let metafile: Metafile;
beforeAll(async () => {
  metafile = await buildBrowser(join(installed, "dist", "browser"));
  symlinkSync(join(root, "package.json"), join(installed, "package.json"));
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  mkdirSync(join(directory, "src"));
  writeFileSync(
    join(directory, "src", "app.js"),
    'import { loadModel, setBrowserFiles } from "valuehead";\nsetBrowserFiles({ models: "/models/" });\nglobalThis.loadModel = loadModel;\n',
  );
  writeFileSync(
    join(directory, "index.html"),
    '<!doctype html><title>app</title><script type="module" src="/src/app.js"></script>',
  );
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const isNodes = (path: string) => path.startsWith("node:") || builtinModules.includes(path.split("/")[0]);
const importsOf = ({ outputs }: Metafile) => Object.values(outputs).flatMap(({ imports }) => imports);

test("nothing of Node reaches it, nor anything that is not in it", () => {
  expect(importsOf(metafile).filter(({ external }) => external)).toEqual([]);
  const inputs = Object.keys(metafile.inputs);
  expect(inputs).toContain("src/platform/web/files.ts");
  expect(inputs.filter((path) => /^src\/platform\/(?!web\/|archive|run-directory)/.test(path))).toEqual([]);
  expect(inputs.filter((path) => /onnxruntime-node|src\/cli\//.test(path))).toEqual([]);
});

/** As docs/browser.md says. */
const LARGEST = 150_000;

test("a page loads less than 150 kB of it, gzipped, packages aside", async () => {
  const bytes = await ownBytes();
  expect(bytes).toBeLessThan(LARGEST);
  expect(bytes).toBeGreaterThan(LARGEST / 2); // the whole library is in it
});

test("esbuild takes it by its name, for browsers", async () => {
  const { metafile } = await build({
    absWorkingDir: directory,
    entryPoints: ["src/app.js"],
    bundle: true,
    format: "esm",
    platform: "browser",
    splitting: true,
    outdir: "out",
    metafile: true,
    logLevel: "silent",
  });
  expect(Object.keys(metafile.inputs)).toContain("node_modules/valuehead/dist/browser/index.js");
  expect(importsOf(metafile).filter(({ path }) => isNodes(path))).toEqual([]);
});

test("vite takes it by its name", async () => {
  const { build: viteBuild } = await import("vite");
  await viteBuild({ root: directory, logLevel: "error", build: { target: "es2022", outDir: "vite", minify: false } });
  const assets = join(directory, "vite", "assets");
  const code = readdirSync(assets).map((name) => readFileSync(join(assets, name), "utf8"));
  expect(code.length).toBeGreaterThan(1);
  expect(code.join("\n")).toContain("setBrowserFiles({ models })"); // the advice of an error, from the library
  expect(code.join("\n")).not.toMatch(/(from|import\()\s*["']node:/);
});
