/**
 * @file What is started as a program of its own, in few files: the command, and what threads and processes of a run start with. Read
 * module by module, with those of the packages, a process would load 300 files before it says anything, which takes longer than all
 * that it does with them. Each entry takes the place of the module that the compiler wrote; what several entries or only some commands
 * use is in dist/programs/. `npm run build` runs this after the compiler.
 */
import { readFileSync, rmSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { inEnglish } from "./browser-build.mjs";

const root = fileURLToPath(new URL("../", import.meta.url));

/** Packages that a start waits for. All others stay packages: few need them, and some look for files beside their own. */
const INSIDE = ["@huggingface/jinja", "@huggingface/tokenizers", "commander", "get-east-asian-width", "zod"];

const packages = {
  name: "packages",
  setup({ onResolve }) {
    onResolve({ filter: /^[^./]/ }, ({ path, kind }) =>
      kind === "entry-point" || INSIDE.some((name) => path === name || path.startsWith(`${name}/`))
        ? undefined
        : { path, external: true },
    );
  },
};

/**
 * Modules that are in one file because whoever loads one of them loads them all. esbuild makes a file for each set of entries, and of
 * what is imported later, that share a module: without this a hundred, most of them of a few lines.
 * @param groups by the name of an import that loads the whole group: its modules, and the entries that are to load it
 */
const together = (groups) => ({
  name: "together",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^together:/ }, ({ path }) => ({ path, namespace: "together" }));
    onLoad({ filter: /.*/, namespace: "together" }, ({ path }) => ({
      contents: groups[path].modules.map((module) => `import ${JSON.stringify(`./${module}`)};`).join("\n"),
      resolveDir: root,
    }));
    onLoad({ filter: /[\\/]src[\\/].*\.ts$/ }, ({ path }) => {
      const entry = relative(root, path).replaceAll("\\", "/");
      const names = Object.keys(groups).filter((name) => groups[name].entries.includes(entry));
      const loads = names.map((name) => `import ${JSON.stringify(name)};`).join(" ");
      return { contents: `${readFileSync(path, "utf8")}\n${loads}`, loader: "ts" };
    });
  },
});

const options = {
  absWorkingDir: root,
  entryPoints: ["cli/main", "run/reward-main", "run/worker-main"].map((name) => `src/${name}.ts`),
  outbase: "src",
  outdir: "dist",
  chunkNames: "programs/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  // commander asks for Node's modules by require, which an ES module does not have.
  banner: {
    js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);',
  },
  sourcemap: true,
  sourcesContent: false, // src/ is in the package
  legalComments: "linked",
  logLevel: "warning",
};

/** The entries, with all that is imported later, and the modules that each loads at once. */
async function loadedAtOnce() {
  const { metafile } = await build({ ...options, plugins: [inEnglish, packages], write: false, metafile: true });
  const { outputs } = metafile;
  const filesOf = (output, seen = new Set()) => {
    if (seen.has(output)) return seen;
    seen.add(output);
    for (const { path, kind } of outputs[output].imports)
      if (kind === "import-statement" && outputs[path]) filesOf(path, seen);
    return seen;
  };
  const entries = Object.entries(outputs).filter(([, { entryPoint }]) => entryPoint?.startsWith("src/"));
  const modulesOf = (output) =>
    [...filesOf(output)].flatMap((file) => Object.keys(outputs[file].inputs)).filter((name) => name.startsWith("src/"));
  return new Map(entries.map(([output, { entryPoint }]) => [entryPoint, modulesOf(output)]));
}

const loads = await loadedAtOnce();

/** Modules that one of some entries loads at once and that no group has yet; whoever loads one of them loads them all. */
const grouped = new Set();
function group(roots, isOfIt = (module) => !module.startsWith("src/cli/")) {
  const modules = new Set(
    roots.flatMap((root) => loads.get(root)).filter((module) => isOfIt(module) && !grouped.has(module)),
  );
  for (const module of modules) grouped.add(module);
  const entries = [...loads.keys()].filter((entry) => loads.get(entry).some((module) => modules.has(module)));
  return { modules: [...modules], entries };
}
const MODEL = ["src/cli/model.ts", "src/data/encode.ts", "src/sample/generate.ts"];
const groups = {
  "together:start": group(["src/cli/main.ts"]),
  "together:options": group(["src/cli/generate.ts"]),
  "together:files": group(MODEL, (module) => /^src\/(base|platform)\//.test(module)),
  "together:model": group(MODEL),
};

rmSync(join(root, "dist", "programs"), { recursive: true, force: true });
await build({ ...options, plugins: [inEnglish, together(groups), packages] });
