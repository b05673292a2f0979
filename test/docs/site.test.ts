/** @file The site that `npm run docs` builds: every page and every public symbol is there, links lead somewhere, nothing comes from elsewhere. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { root } from "../support/cli.ts";

const installed = existsSync(join(root, "apps", "site", "node_modules", "typedoc"));
if (!installed) console.log("Left out: the site, for its workspace is not installed (npm install)");
const site = join(root, ".cache", "site");
const html = (path: string) => readFileSync(join(site, path), "utf8");
const decoded = (text: string) =>
  text
    .replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(code))
    .replace(/&(amp|quot|lt|gt);/g, (_, name) => ({ amp: "&", quot: '"', lt: "<", gt: ">" })[name as "amp"]);

describe.skipIf(!installed)("the site", () => {
  let pages: string[] = [];
  beforeAll(() => {
    const { status, stdout, stderr } = spawnSync("npm", ["run", "-s", "docs"], { cwd: root, encoding: "utf8" });
    expect(status, stdout + stderr).toBe(0); // warnings fail it as well
    pages = readdirSync(site, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".html"));
  }, 600_000);

  test("has every page of docs/ and every decision", () => {
    const named = (folder: string, prefix: string) =>
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith(".md") && name !== "valuehead.api.md")
        .map((name) => `pages/${prefix}${name.replace(/\.md$/, ".html")}`);
    expect(pages).toEqual(expect.arrayContaining([...named("docs", ""), ...named("docs/decisions", "decisions-")]));
    expect(html("index.html")).toContain("pages/first-reward.html");
  });

  test("has every public symbol", () => {
    const report = readFileSync(join(root, "docs", "valuehead.api.md"), "utf8");
    const names = [
      ...report.matchAll(/^export (?:abstract |declare )*(?:class|interface|type|function|const|enum) (\w+)/gm),
    ];
    expect(names.length).toBeGreaterThan(150);
    const reference = html("api.html");
    expect(
      names
        .map(([, name]) => name)
        .filter((name) => !reference.includes(`>${name}<`) && !reference.includes(`/${name}.html`)),
    ).toEqual([]);
  });

  test("has links that lead to files and to places in them", () => {
    const ids = new Map<string, Set<string>>();
    const idsOf = (path: string) => {
      let known = ids.get(path);
      if (!known) {
        known = new Set([...html(path).matchAll(/ (?:id|name)="([^"]+)"/g)].map(([, id]) => decoded(id)));
        ids.set(path, known);
      }
      return known;
    };
    const broken = new Set<string>();
    for (const page of pages) {
      for (const [, target] of html(page).matchAll(/(?:href|src|srcset)="([^"]*)"/g)) {
        if (/^(https?:|mailto:|data:|javascript:)/.test(target) || target === "#") continue;
        const [path, anchor] = decoded(target).split("#");
        const file = path === "" ? page : normalize(join(dirname(page), decodeURIComponent(path)));
        if (!existsSync(join(site, file))) broken.add(`${page}: ${target}`);
        else if (anchor && file.endsWith(".html") && !idsOf(file).has(decodeURIComponent(anchor)))
          broken.add(`${page}: ${target}`);
      }
    }
    expect([...broken]).toEqual([]);
  });

  test("loads nothing from elsewhere, and is below 30 MB", () => {
    const loads = /<(?:script|link|img|source)\b[^>]*?(?:src|href|srcset)="https?:/;
    expect(pages.filter((page) => loads.test(html(page)))).toEqual([]);
    const bytes = readdirSync(site, { recursive: true, encoding: "utf8" }).reduce(
      (sum, name) => sum + statSync(join(site, name)).size,
      0,
    );
    expect(bytes).toBeLessThan(30e6);
  });
});
