/**
 * @file The package for browsers: dist/browser/index.js and worker.js with their chunks, and everything in them but ONNX Runtime's
 * WebAssembly. A module that has a counterpart in its folder's web/ is replaced by it: src/platform/files.ts by
 * src/platform/web/files.ts. `npm run build` runs this.
 */
import { existsSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const root = fileURLToPath(new URL("../", import.meta.url));
const hub = createRequire(import.meta.url).resolve("@huggingface/hub");

/** The counterpart of a module for browsers, if it has one. */
function counterpart(path) {
  const [folder, ...rest] = relative(join(root, "src"), path).split(sep);
  const other = join(root, "src", folder, "web", ...rest);
  return existsSync(other) ? other : undefined;
}

/** Counterparts import what they mean. */
const isCounterpart = (path) => /^src\/\w+\/web\//.test(relative(root, path).replaceAll(sep, "/"));

/** For every bundle that takes the library into a browser. */
export const forBrowsers = {
  name: "valuehead-in-a-browser",
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.?\/.*\.ts$/ }, ({ path, importer, resolveDir }) => {
      const file = join(resolveDir, path);
      const other = isCounterpart(importer) ? undefined : counterpart(file);
      return other && { path: other };
    });
    // Its package.json says so in a way that esbuild does not read.
    onResolve({ filter: /^@huggingface\/hub$/ }, () => ({ path: join(dirname(hub), "browser", "index.mjs") }));
  },
};

/**
 * What is only loaded when it is asked for, in one chunk: esbuild makes a chunk for each set of entries that share a module, and
 * many small ones compress worse.
 */
const LATER = [
  "backend/web/browser-gpu",
  "checkpoint/adapter-weights",
  "checkpoint/hub",
  "checkpoint/no-weights",
  "checkpoint/peft",
  "data/table-readers",
  "distributed/coordinator",
  "experience/given",
  "families/classifier",
  "nn/on-device",
  "run/page/report",
  "run/run",
  "ship/archive",
  "ship/compare",
  "ship/export",
  "ship/push",
].map((name) => join(root, "src", `${name}.ts`));
const later = {
  name: "later",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\.?\/.*\.ts$/ }, ({ path, kind, resolveDir }) =>
      kind === "dynamic-import" && LATER.includes(join(resolveDir, path))
        ? { path: "later", namespace: "later" }
        : undefined,
    );
    onLoad({ filter: /.*/, namespace: "later" }, () => ({
      contents: LATER.map((path) => `export * from ${JSON.stringify(path)};`).join("\n"),
      resolveDir: root,
    }));
  },
};

/** Of zod's messages in forty languages, English; ours are the library's own. */
export const inEnglish = {
  name: "zod-in-english",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /locales\/index\.js$/ }, ({ importer, resolveDir }) =>
      /[\\/]zod[\\/]/.test(importer) ? { path: "locales", namespace: "zod", pluginData: { resolveDir } } : undefined,
    );
    onLoad({ filter: /.*/, namespace: "zod" }, ({ pluginData: { resolveDir } }) => ({
      contents: 'export { default as en } from "../locales/en.js";',
      resolveDir,
    }));
  },
};

/** What both entries, and the playground, are built with. */
export const options = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  splitting: true,
  legalComments: "linked",
  logLevel: "warning",
  conditions: ["onnxruntime-web-use-extern-wasm"],
  plugins: [inEnglish, later, forBrowsers],
};

const worker = `
  import { receiveInput } from "./src/platform/web/worker.ts";
  await receiveInput();
  await import("./src/run/worker-main.ts");
`;

/** The entry of the thread that runInWorker starts. */
export const workerEntry = {
  name: "worker-entry",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^worker-entry$/ }, () => ({ path: "worker-entry", namespace: "entry" }));
    onLoad({ filter: /.*/, namespace: "entry" }, () => ({ contents: worker, resolveDir: root }));
  },
};

/** @param {string} outdir @returns esbuild's metafile */
export async function buildBrowser(outdir) {
  rmSync(outdir, { recursive: true, force: true });
  const { metafile } = await build({
    ...options,
    entryPoints: { index: "src/index.ts", worker: "worker-entry" },
    plugins: [workerEntry, ...options.plugins],
    outdir,
    metafile: true,
  });
  return metafile;
}

/**
 * Bytes of the project's own code that a page loads with `import "valuehead"`, minified and gzipped: without packages, and without
 * what is only loaded when it is asked for.
 */
export async function ownBytes() {
  const others = {
    name: "others",
    setup({ onResolve }) {
      onResolve({ filter: /^[^./]/ }, ({ path, kind }) =>
        kind === "entry-point" ? undefined : { path, external: true },
      );
    },
  };
  const { outputFiles, metafile } = await build({
    ...options,
    entryPoints: { index: "src/index.ts" },
    plugins: [others, later, forBrowsers],
    outdir: "own",
    write: false,
    metafile: true,
  });
  const loaded = new Set();
  const load = (path) => {
    if (loaded.has(path)) return;
    loaded.add(path);
    for (const { path: other, kind, external } of metafile.outputs[path].imports)
      if (!external && kind === "import-statement") load(other);
  };
  load("own/index.js");
  const files = outputFiles.filter(({ path }) => loaded.has(relative(root, path).replaceAll(sep, "/")));
  return files.reduce((bytes, { contents }) => bytes + gzipSync(contents).length, 0);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildBrowser(join(root, "dist", "browser"));
