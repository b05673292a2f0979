/** @file Links and pictures of the documents lead to files that are there, and to headings that are in them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";

const inFolder = (folder: string) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".md") && !name.endsWith(".api.md"))
    .map((name) => join(folder, name));
const documents = [
  ...["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "models/tiny/README.md"],
  ...["docs", "docs/decisions", "examples/control", "examples/exploits"].flatMap(inFolder),
];

const withoutCode = (markdown: string) => markdown.replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "");
const targets = (markdown: string) => [
  ...[...withoutCode(markdown).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target),
  ...[...withoutCode(markdown).matchAll(/(?:src|srcset|href)="([^"]+)"/g)].map(([, target]) => target),
];

/** The anchors of a document, as GitHub makes them of headings. */
function anchors(path: string): string[] {
  const headings = [
    ...readFileSync(path, "utf8")
      .replace(/^```[\s\S]*?^```/gm, "")
      .matchAll(/^#+ (.*)$/gm),
  ];
  const seen = new Map<string, number>();
  return headings.map(([, heading]) => {
    const text = heading.replace(/`/g, "").replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
    const slug = text
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "")
      .trim()
      .replace(/ /g, "-");
    const count = seen.get(slug) ?? 0;
    seen.set(slug, count + 1);
    return count === 0 ? slug : `${slug}-${count}`;
  });
}

describe("links lead somewhere", () => {
  test.each(documents)("%s", (document) => {
    const broken = targets(readFileSync(document, "utf8"))
      .filter((target) => !/^(https?|mailto):/.test(target))
      .filter((target) => {
        const [path, anchor] = target.split("#");
        const file = path === "" ? document : join(dirname(document), decodeURIComponent(path));
        if (!existsSync(file)) return true;
        return anchor !== undefined && file.endsWith(".md") && !anchors(file).includes(anchor);
      });
    expect(broken).toEqual([]);
  });
});

test("every page of docs/ is in the table of README.md", () => {
  const readme = readFileSync("README.md", "utf8");
  const pages = inFolder("docs").filter((path) => !path.endsWith("mutants.md")); // CONTRIBUTING.md has that one
  expect(pages.filter((path) => !readme.includes(`(${path})`))).toEqual([]);
});
