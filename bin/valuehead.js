#!/usr/bin/env node
// Starts the compiled command line; in a source checkout without dist/ it compiles first.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const main = join(root, "dist", "cli", "main.js");

/** Compile src/ to dist/, or say why that cannot be. */
async function build() {
  const { spawnSync } = await import("node:child_process");
  const { createRequire } = await import("node:module");
  const project = join(root, "tsconfig.build.json");
  let compiler;
  try {
    compiler = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");
  } catch {
    // not installed
  }
  if (!compiler || !existsSync(project))
    return `found no ${main}, expected the compiled program\n  fix: ${existsSync(project) ? "npm install" : "install the package again"}`;
  process.stderr.write("valuehead: first start in a source checkout, compiling src/ to dist/ ...\n");
  // The compiler's output must not reach stdout: --json promises nothing else there.
  const { stdout } = spawnSync(process.execPath, [compiler, "-p", project], { encoding: "utf8", cwd: root });
  // The page of runs, and the programs in few files. Without them everything else works.
  for (const script of ["build:page", "build:programs"])
    spawnSync("npm", ["run", "-s", script], { cwd: root, shell: process.platform === "win32" });
  return existsSync(main) ? undefined : `the compiler failed\n${stdout}`;
}

const [major] = process.versions.node.split(".");
const problem =
  Number(major) < 20
    ? `found Node ${process.versions.node}, expected Node 20 or newer\n  fix: install a newer Node (https://nodejs.org)`
    : existsSync(main)
      ? undefined
      : await build();
if (problem) {
  process.stderr.write(`error: valuehead: ${problem}\n`);
  process.exitCode = 1;
} else {
  const argv = process.argv.slice(2);
  if (argv.includes("--debug")) process.setSourceMapsEnabled(true); // stacks name the lines of src/
  await (await import(new URL("../dist/cli/main.js", import.meta.url).href)).main(argv);
}
