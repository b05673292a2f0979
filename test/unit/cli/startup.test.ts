/** @file What a start waits for: the command and a run's thread load few files, and none that they do not need. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { buildCli, root, temporaryDirectory, writeModel } from "../../support/cli.ts";

const cwd = temporaryDirectory();
beforeAll(async () => {
  buildCli();
  await writeModel(join(cwd, "m"));
  // Before anything else: tells at the end which scripts V8 has seen.
  writeFileSync(
    join(cwd, "seen.mjs"),
    `import { Session } from "node:inspector";
     import { writeFileSync } from "node:fs";
     const urls = [];
     const session = new Session();
     session.connect();
     session.on("Debugger.scriptParsed", ({ params }) => urls.push(params.url));
     session.post("Debugger.enable");
     process.on("exit", () => writeFileSync("seen.json", JSON.stringify(urls)));`,
  );
});

/** Files that a command loads: their paths, the modules of src/ in them, and their packages. */
function loaded(...args: string[]) {
  const command = ["--import", "./seen.mjs", join(root, "bin", "valuehead.js"), ...args];
  const { status, stderr } = spawnSync(process.execPath, command, { cwd, encoding: "utf8" });
  expect(status, stderr).toBe(0);
  const urls: string[] = JSON.parse(readFileSync(join(cwd, "seen.json"), "utf8"));
  const paths = urls.map((url) => (url.startsWith("file:") ? fileURLToPath(url) : url));
  const files = [...new Set(paths)].filter((path) => path.startsWith(root));
  const modules = files.flatMap((file) => {
    if (!existsSync(`${file}.map`)) return [];
    const sources: string[] = JSON.parse(readFileSync(`${file}.map`, "utf8")).sources;
    return sources
      .map((source) => relative(root, resolve(dirname(file), source)))
      .filter((name) => name.startsWith("src"));
  });
  const names = files.map((file) => /[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(file)?.[1]);
  return { files, modules, packages: [...new Set(names)].filter((name) => name !== undefined).sort() };
}

const within = (modules: readonly string[], folders: readonly string[]) =>
  modules.filter((module) => folders.some((folder) => module.startsWith(`src/${folder}/`)));

test("--help loads the command and nothing that computes", () => {
  const { files, modules, packages } = loaded("--help");
  expect(modules).toContain("src/cli/main.ts");
  expect(packages).toEqual([]);
  expect(modules.filter((module) => !/^src\/(base|platform|cli)\//.test(module))).toEqual([
    "src/algorithms/options/trl-names.ts",
  ]);
  expect(files.length).toBeLessThan(10);
  expect(files.reduce((bytes, file) => bytes + statSync(file).size, 0)).toBeLessThan(300_000); // without zod, which has 390,000
});

test("generate loads what samples from a model, and ONNX Runtime alone is not in its files", () => {
  const { files, modules, packages } = loaded("generate", "--model", "m", "--prompt", "x", "--max-new-tokens", "1");
  expect(modules).toContain("src/sample/generate.ts");
  expect(packages).toEqual(["onnxruntime-common", "onnxruntime-node"]);
  const own = files.filter((file) => !/[\\/]node_modules[\\/]/.test(file));
  expect(own.length).toBeLessThan(25);
  // Memory is told with the options of runs; the rest of a run is for those who train.
  const others = within(modules, ["algorithms", "distributed", "experience", "rl", "run", "ship"]);
  expect(others.sort()).toEqual([
    "src/algorithms/options/lora.ts",
    "src/algorithms/options/trl-names.ts",
    "src/run/memory.ts",
  ]);
});
