/**
 * @file The packed package in an empty project: installed as README.md says, imported, required, compiled against, bundled,
 * run in threads, on every Node that is supported. Needs npm's registry and nothing else of the network.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { emptyFolder, install, nodes, pack, root, sh, succeed } from "./install.ts";

let tarball = "";
let project = "";
const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** What install scripts would have downloaded. */
const CUDA = ["node_modules", "onnxruntime-node", "bin", "napi-v6", "linux", "x64", "libonnxruntime_providers_cuda.so"];

beforeAll(() => {
  tarball = pack();
  project = install(tarball, "project");
});

describe("installing", () => {
  test("README's line installs in an empty folder, and no script downloaded anything", () => {
    expect(existsSync(join(project, "node_modules", "valuehead", "dist", "index.js"))).toBe(true);
    expect(existsSync(join(project, ...CUDA))).toBe(false);
  });

  test("README's line for .npmrc does the same for npm install and npm ci", () => {
    const [, line] = /put the line `([^`]+)` into your project's `\.npmrc`/.exec(
      readFileSync(join(root, "README.md"), "utf8"),
    ) as RegExpExecArray;
    const folder = emptyFolder("npmrc");
    copyFileSync(tarball, join(folder, basename(tarball)));
    writeFileSync(join(folder, ".npmrc"), `${line}\n`);
    succeed(folder, `npm install ./${basename(tarball)}`);
    succeed(folder, "npm ci");
    expect(existsSync(join(folder, ...CUDA))).toBe(false);
  });

  test("npx valuehead works", () => {
    expect(succeed(project, "npx valuehead --version")).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(succeed(project, "npx valuehead info --model tiny")).toContain("6,902,017");
  });
});

describe("with tools of the user's", () => {
  const FORMATS = ["esm", "cjs"] as const;
  const bundles = FORMATS.flatMap((format) =>
    ["external", "all"].map((what) => ({ format, what, file: `${what}.${format === "esm" ? "mjs" : "cjs"}` })),
  );

  beforeAll(() => {
    const compilers = `typescript@${devDependencies.typescript} typescript5@npm:typescript@5.9`;
    succeed(project, `npm install --ignore-scripts ${compilers} @types/node@20 esbuild@0.28 webpack@5 webpack-cli`);
    writeFileSync(
      join(project, "reward.mjs"),
      'export default (batch) => batch.map(({ response }) => (response.includes("!") ? 1 : 0));\n',
    );
    for (const type of ["module", "commonjs"]) {
      mkdirSync(join(project, type), { recursive: true });
      writeFileSync(join(project, type, "package.json"), JSON.stringify({ type }));
      copyFileSync(join(root, "test", "pack", "project", "app.ts"), join(project, type, "app.ts"));
    }
    for (const { format, what, file } of bundles) {
      const external = what === "external" ? "--packages=external" : "";
      const to = `--bundle --platform=node --format=${format} ${external} --outfile=bundles/${file} --log-level=error`;
      succeed(project, `npx esbuild module/app.ts ${to}`);
    }
    succeed(project, "npx esbuild module/app.ts --format=esm --outfile=app.mjs --log-level=error");
    succeed(
      project,
      "npx webpack ./app.mjs --mode=production --target=node20 --output-path=bundles --output-filename=webpack.cjs",
    );
  });

  // A CommonJS file may import ES modules under nodenext since TypeScript 5.8.
  const compilations = ["typescript", "typescript5"].flatMap((compiler) =>
    ["nodenext", "bundler"].flatMap((resolution) =>
      ["module", "commonjs"].map((type) => ({ compiler, resolution, type })),
    ),
  );
  const files = [...bundles.map(({ file }) => file), "webpack.cjs"];
  test.each(compilations)("$compiler compiles it: $resolution, strict, $type", ({ compiler, resolution, type }) => {
    const compilerOptions = {
      target: "es2022",
      module: resolution === "nodenext" ? "nodenext" : "esnext",
      moduleResolution: resolution,
      types: ["node"],
      strict: true,
      noUncheckedIndexedAccess: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
    };
    const settings = `${compiler}-${resolution}.json`;
    writeFileSync(join(project, type, settings), JSON.stringify({ compilerOptions, files: ["app.ts"] }));
    succeed(project, `node node_modules/${compiler}/bin/tsc -p ${type}/${settings}`);
  });

  const PROGRAM = /^program starts\n[1-9]\d* weights changed\nloaded step checkpoint done\n1 0\n$/;
  const fresh = () => JSON.stringify(join(emptyFolder("out"), "run"));

  describe.each(nodes())("Node $version", ({ path }) => {
    test("import and require", () => {
      const names = ["import-names.mjs", "require-names.cjs"];
      writeFileSync(
        join(project, names[0]),
        'import * as all from "valuehead"; console.log(Object.keys(all).join("\\n"));',
      );
      writeFileSync(join(project, names[1]), 'console.log(Object.keys(require("valuehead")).sort().join("\\n"));');
      const [imported, required] = names.map((name) => succeed(project, `node ${name}`, path));
      expect(imported).toMatch(/^PPOTrainer$/m);
      // On request Node adds this one for require() alone.
      expect(required.replace("__esModule\n", "")).toBe(imported);
    });

    test.each(files)("a PPO step, a run in a thread, a reward in a process, from a bundle: %s", (file) => {
      expect(succeed(project, `node bundles/${file} ${fresh()}`, path)).toMatch(PROGRAM);
    });

    test("a bundle far from the package says what it lacks, and does not run twice", () => {
      const folder = emptyFolder("far");
      copyFileSync(join(project, "reward.mjs"), join(folder, "reward.mjs"));
      const source = `
        import { rewardProcess, runInWorker } from "valuehead";
        console.log("program starts");
        const spec = { model: "tiny", prompts: ["x"], out: "out", rewardName: "length", config: {} };
        (async () => { for await (const event of runInWorker(spec, (batch) => batch.map(() => 0))) console.log(event.type); })()
          .catch((error) => console.log(error.message))
          .then(() => rewardProcess("reward.mjs"))
          .catch((error) => console.log(error.message));`;
      writeFileSync(join(project, "far.mjs"), source);
      for (const [format, file] of [
        ["esm", "far.mjs"],
        ["cjs", "far.cjs"],
      ]) {
        const to = join(folder, file);
        succeed(
          project,
          `npx esbuild far.mjs --bundle --platform=node --format=${format} --outfile=${to} --log-level=error`,
        );
        const { stdout } = sh(folder, `node ${file}`, path);
        expect(stdout).toMatch(/^program starts\n(the files of the package valuehead: found no such package.*\n){2}$/);
        expect(stdout).toContain("Fix: npm install valuehead@");
      }
    });

    test("inside a thread, with data that looks like a run", () => {
      const out = join(emptyFolder("thread"), "out");
      const spec = { model: "tiny", prompts: ["x"], out, rewardName: "length", config: { steps: 1 } };
      writeFileSync(
        join(project, "thread.mjs"),
        `import { isMainThread, parentPort, Worker } from "node:worker_threads";
         import "valuehead";
         if (isMainThread) {
           const worker = new Worker(new URL(import.meta.url), { workerData: ${JSON.stringify(spec)} });
           worker.on("message", (message) => console.log(message));
           worker.on("exit", (code) => console.log("exit", code));
         } else parentPort.postMessage("only mine");`,
      );
      expect(succeed(project, "node thread.mjs", path)).toBe("only mine\nexit 0\n");
      expect(existsSync(out)).toBe(false);
    });
  });
});
