/**
 * @file The playground as static files. `npm run playground` builds it into .cache/playground and serves it on this machine; any server
 * of static files will do.
 */
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { options } from "../../tools/browser-build.mjs";
import { serveFiles } from "../../tools/static-server.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const here = (name) => join(root, "apps", "playground", name);

/** What ONNX Runtime loads while it runs, from its package's dist; for GPUs another build, which is only fetched when it is asked for. */
const RUNTIME = ["mjs", "wasm"].map((end) => `ort-wasm-simd-threaded.${end}`);
const gpus = readFileSync(join(root, "src", "backend", "devices.ts"), "utf8").includes('"webgpu"');
const RUNTIME_OF_GPUS = gpus ? ["mjs", "wasm"].map((end) => `ort-wasm-simd-threaded.asyncify.${end}`) : [];

const bundle = { ...options, jsx: "automatic", jsxImportSource: "preact", alias: { valuehead: "./src/index.ts" } };

/** The text of a script that loads nothing else. */
async function scriptText(entry, define = {}) {
  const { outputFiles } = await build({
    ...{ absWorkingDir: root, bundle: true, minify: true, write: false, format: "iife", target: "es2022" },
    entryPoints: [here(entry)],
    define,
    legalComments: "none",
    logLevel: "warning",
  });
  return outputFiles[0].text.trim();
}

const hashOf = (text) => createHash("sha256").update(text).digest("base64");

/** The frame that typed rewards run in, and the sum of its script, which the page's policy has to name. */
async function sandbox() {
  const worker = await scriptText("reward-worker.ts");
  const script = await scriptText("sandbox.ts", { WORKER: JSON.stringify(worker) });
  const policy = `default-src 'none'; script-src 'sha256-${hashOf(script)}' blob:; worker-src blob:`;
  const html = `<!doctype html><meta http-equiv="Content-Security-Policy" content="${policy}"><script>${script}</script>`;
  if (script.includes("</script")) throw new Error("the sandbox's script cannot stand in a document");
  return { html, hash: hashOf(script) };
}

function filesBelow(directory) {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** @param {string} outdir is emptied first */
export async function buildPlayground(outdir) {
  rmSync(outdir, { recursive: true, force: true });
  const { html, hash } = await sandbox();
  await build({
    ...bundle,
    entryPoints: { page: here("page-main.tsx"), engine: here("engine-main.ts") },
    define: { SANDBOX: JSON.stringify(html) },
    outdir: join(outdir, "code"),
  });
  const copy = (from, to) => {
    mkdirSync(dirname(join(outdir, to)), { recursive: true });
    cpSync(from, join(outdir, to), { recursive: true });
  };
  copy(join(root, "models", "tiny"), "models/tiny");
  for (const name of [...RUNTIME, ...RUNTIME_OF_GPUS])
    copy(join(root, "node_modules", "onnxruntime-web", "dist", name), `onnxruntime/${name}`);
  const document = readFileSync(here("index.html"), "utf8").replace("SANDBOX_HASH", hash);
  writeFileSync(join(outdir, "index.html"), document);

  // Everything with its size, for progress, and a name for all of it together, for the browser's cache.
  const files = filesBelow(outdir)
    .filter((path) => !RUNTIME_OF_GPUS.some((name) => path.endsWith(name)))
    .map((path) => ({ path: relative(outdir, path).replaceAll(sep, "/"), bytes: statSync(path).size }));
  const version = createHash("sha256");
  for (const { path } of files) version.update(path).update(readFileSync(join(outdir, path)));
  const list = { version: version.digest("hex").slice(0, 16), files };
  writeFileSync(join(outdir, "files.json"), JSON.stringify(list));
  writeFileSync(join(outdir, "offline.js"), await scriptText("offline.ts", { VERSION: JSON.stringify(list.version) }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const outdir = join(root, ".cache", "playground");
  await buildPlayground(outdir);
  if (process.argv.includes("--serve")) {
    const { url } = await serveFiles({ "": outdir }, { port: 8268 });
    console.log(
      `The playground is at ${url} (Ctrl-C ends it). Its files are in .cache/playground; any static server will do.`,
    );
  } else console.log("The playground is in .cache/playground: static files, for any server.");
}
