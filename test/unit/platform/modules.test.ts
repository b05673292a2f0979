import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";

// The test runner replaces import() by its own, which loads anything. So this compiles the file and runs it in plain Node.
const root = new URL("../../..", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "valuehead-modules-"));
afterAll(() => rmSync(directory, { recursive: true }));
beforeAll(() => {
  const options =
    "--target es2022 --module nodenext --types node --skipLibCheck --rewriteRelativeImportExtensions".split(" ");
  const out = join(directory, "out");
  const source = join(root, "src/platform/modules.ts");
  const tsc = [join(root, "node_modules/typescript/bin/tsc"), "--ignoreConfig", ...options];
  const args = [...tsc, "--rootDir", join(root, "src"), "--outDir", out, source];
  const { status, stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  expect(status, stdout).toBe(0);
  writeFileSync(join(directory, "package.json"), '{"type":"module"}');
  writeFileSync(
    join(directory, "run.js"),
    `import { importModule } from "./out/platform/modules.js";
     try {
       console.log(JSON.stringify((await importModule(process.argv[2])).default));
     } catch (error) {
       console.log(error.kind ?? "raw", error.message);
     }`,
  );
});

function load(name: string, source: string): string {
  writeFileSync(join(directory, name), source);
  const { stdout, stderr } = spawnSync(process.execPath, ["run.js", name], { cwd: directory, encoding: "utf8" });
  expect(stderr.replace(/.*(ExperimentalWarning|trace-warnings).*\n/g, "")).toBe("");
  return stdout.trim();
}

it("loads JavaScript, relative to the working directory, also from a name that needs escaping in a URL", () => {
  expect(load("a.mjs", "export default 1;")).toBe("1");
  expect(load("b.js", "export default 2;")).toBe("2");
  expect(load("100% c#.mjs", "export default 3;")).toBe("3");
});

it("loads TypeScript where Node does, and says so where it does not", () => {
  const result = load("d.ts", "const x: number = 4;\nexport default x;");
  if ((process.features as { typescript?: unknown }).typescript) expect(result).toBe("4");
  else {
    expect(result).toBe(
      `usage d.ts: found a kind of file that Node ${process.versions.node} cannot load, ` +
        "expected .js or .mjs, or .ts with Node 22.18 or newer. Fix: rename or compile the module, or use a newer Node",
    );
  }
});

it("passes on what the module throws while it loads", () => {
  expect(load("e.mjs", "throw new Error('no lexicon');")).toBe("raw no lexicon");
});
