/** @file What `npm pack` packs is whole: documents, maps and programs lead to files that are packed too. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { buildBrowser } from "../../tools/browser-build.mjs";
import { buildCli, root } from "../support/cli.ts";

let packed: string[] = [];
let bytes = 0;
beforeAll(async () => {
  buildCli();
  if (!existsSync(join(root, "dist", "browser", "index.js"))) await buildBrowser(join(root, "dist", "browser"));
  const { stdout, stderr } = spawnSync("npm", ["pack", "--dry-run", "--json"], {
    cwd: root,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  expect(stdout, stderr).not.toBe("");
  const [{ files, size }] = Object.values(JSON.parse(stdout)) as [{ files: { path: string }[]; size: number }];
  packed = files.map(({ path }) => path);
  bytes = size;
});

const isPacked = (path: string) => packed.includes(path) || packed.some((name) => name.startsWith(`${path}/`));
const text = (path: string) => readFileSync(join(root, path), "utf8");

test("a link in a packed document leads to a packed file or to another site", () => {
  const documents = packed.filter((path) => path.endsWith(".md"));
  expect(documents).toEqual(expect.arrayContaining(["README.md", "docs/ppo.md", "CONTRIBUTING.md"]));
  const broken = documents.flatMap((document) =>
    [...text(document).matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)]
      .map(([, link, picture]) => (link ?? picture).replace(/#.*$/, ""))
      .filter((target) => target !== "" && !/^https?:/.test(target))
      .filter((target) => !isPacked(join(dirname(document), target).replace(/\/$/, "")))
      .map((target) => `${document}: ${target}`),
  );
  expect(broken).toEqual([]);
});

test("a map leads to a packed source", () => {
  const maps = packed.filter((path) => path.endsWith(".map"));
  expect(maps.length).toBeGreaterThan(100);
  const astray = maps.flatMap(
    (map) =>
      (JSON.parse(text(map)).sources as string[])
        .map((source) => join(dirname(map), source))
        .filter((source) => !packed.includes(source) && !/^node_modules\/|:/.test(source)), // of the packages that are inside of dist/programs/
  );
  expect(astray).toEqual([]);
});

test("what is compiled has its source, every source is compiled, and what package.json names is there", () => {
  // A file that an earlier compilation left in dist/ is a matter of the folder, not of the package: `npm run build` clears it.
  // What stands in for a module in a tab, src/*/web/, is compiled into the bundle in dist/browser/ and nowhere else.
  const sources = packed.filter((path) => /^src\/.*\.ts$/.test(path) && !/^src\/[^/]+\/web\//.test(path));
  const compiled = sources.map((path) => path.slice(4, -3));
  for (const name of compiled) {
    expect(packed).toContain(`dist/${name}.js`);
    expect(packed).toContain(`dist/${name}.d.ts`);
  }
  const { bin, exports } = JSON.parse(text("package.json"));
  for (const path of [bin.valuehead, ...Object.values(exports["."]), "LICENSE", "models/tiny/model.safetensors"])
    expect(packed).toContain(String(path).replace(/^\.\//, ""));
  for (const path of packed) expect(existsSync(join(root, path)), path).toBe(true);
});

test("it is smaller than 25 MB, and has no tests, no caches and no lock file", () => {
  expect(bytes).toBeLessThan(25e6);
  expect(
    packed.filter((path) => /(^|\/)(test|node_modules|\.cache|\.ci|runs)\/|package-lock|\.npmrc/.test(path)),
  ).toEqual([]);
});
