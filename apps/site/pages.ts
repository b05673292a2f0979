/**
 * @file The pages of the site: README.md, docs/ and their neighbours, copied to one folder with what they link to. Titles are their first
 * headings. A program that is linked to becomes text, which any browser shows.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

/** The groups of the navigation, in their order, and the pages that they begin with; any other page of a folder comes after those. */
const GROUPS: Readonly<Record<string, readonly string[]>> = {
  "Start here": ["docs/first-reward.md", "docs/healthy.md", "docs/from-trl.md", "docs/faq.md", "docs/options.md"],
  Training: [
    ...["docs/prompts-and-rewards.md", "docs/chat.md", "docs/algorithms.md", "docs/lora.md", "docs/dashboard.md"],
    ...["docs/resuming.md", "docs/sinks.md", "docs/int8-rollouts.md"],
  ],
  "How it works": [
    "docs/ppo.md",
    "docs/honest-sampling.md",
    "docs/sampling.md",
    "docs/notebook.md",
    "docs/families.md",
  ],
  "Using a model": ["docs/shipping.md", "docs/compare.md"],
  "More pages": ["docs/lookalikes.md", "docs/memory.md", "docs/speed.md"],
  Examples: [],
  "The project": ["CHANGELOG.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "bench/README.md", "models/tiny/README.md"],
  Decisions: [],
};
export const REFERENCE = "API reference";
export const GROUP_ORDER = Object.keys(GROUPS).flatMap((group) =>
  group === "More pages" ? [group, REFERENCE] : [group],
);
/** Where the rest of a folder goes. */
const FOLDERS: readonly (readonly [folder: string, group: string])[] = [
  ["docs", "More pages"],
  ["docs/decisions", "Decisions"],
  ["examples", "Examples"],
];
/** The API reference of the site stands in for this page; what links to it is led there. */
const API_PAGE = "docs/valuehead.api.md";
export const API_LINK = "https://valuehead.invalid/api";

export interface Page {
  /** In the repository, and in the folder of pages. */
  readonly path: string;
  readonly title: string;
  readonly group: string;
}

const titleOf = (markdown: string) => (/^# (.*)$/m.exec(markdown)?.[1] ?? "").replace(/[`*]/g, "");

/** Every page, in the order of the navigation. */
function pagesOf(root: string): Page[] {
  const listed = Object.entries(GROUPS).flatMap(([group, paths]) => paths.map((path) => ({ path, group })));
  const others = FOLDERS.flatMap(([folder, group]) =>
    readdirSync(join(root, folder))
      .sort()
      .map((name) => join(folder, name))
      .map((path) => (statSync(join(root, path)).isDirectory() ? join(path, "README.md") : path))
      .filter((path) => path.endsWith(".md") && path !== API_PAGE && existsSync(join(root, path)))
      .map((path) => ({ path, group })),
  ).filter(({ path }) => !path.startsWith("docs/decisions/README") && !listed.some((page) => page.path === path));
  const all = [...listed, ...others].filter(({ path }) => existsSync(join(root, path)));
  return all
    .map((page) => ({ ...page, title: titleOf(readFileSync(join(root, page.path), "utf8")) || page.path }))
    .sort((a, b) => GROUP_ORDER.indexOf(a.group) - GROUP_ORDER.indexOf(b.group));
}

/** Write the pages into a folder; README.md with them, as the site's first page. */
export function writePages(root: string, folder: string): Page[] {
  const pages = pagesOf(root);
  const known = new Set(["README.md", ...pages.map(({ path }) => path)]);
  const copy = (path: string, to = path) => {
    mkdirSync(dirname(join(folder, to)), { recursive: true });
    copyFileSync(join(root, path), join(folder, to));
  };
  /** A link of a page as the site has it; what is linked to is taken along. */
  const follow = (page: string, target: string): string | undefined => {
    if (/^(https?:|mailto:|#)/.test(target)) return target;
    const [relative, anchor] = target.split("#");
    const path = normalize(join(dirname(page), relative)).replace(/\/$/, "");
    if (path === API_PAGE) return API_LINK;
    if (known.has(path)) return target;
    if (!existsSync(join(root, path)) || statSync(join(root, path)).isDirectory()) return undefined;
    if (!/\.(ts|tsx|mjs|sh|py)$/.test(path)) {
      copy(path);
      return target;
    }
    copy(path, `${path}.txt`);
    return anchor === undefined ? `${relative}.txt` : `${relative}.txt#${anchor}`;
  };
  for (const { path, title, group } of [{ path: "README.md", title: "valuehead", group: "" }, ...pages]) {
    const text = readFileSync(join(root, path), "utf8");
    // The site writes the title above a page of its own accord, but for the title of a document.
    const shown = path === "README.md" ? text.replace(/^# .*\n/, "") : text;
    const body = linked(shown, (target) => follow(path, target));
    const head = group ? `---\ntitle: ${JSON.stringify(title)}\ngroup: ${JSON.stringify(group)}\n---\n\n` : "";
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), head + body);
  }
  return pages;
}

/** Markdown with its links changed; a link that leads nowhere is its text. Code is left alone. */
function linked(markdown: string, follow: (target: string) => string | undefined): string {
  const outside = (text: string) =>
    text
      .replace(/(!?)\[([^\]]*)\]\(([^)\s]+)\)/g, (all, picture, label, target) => {
        const to = follow(target);
        if (to === undefined) return label;
        return to === target ? all : `${picture}[${label}](${to})`;
      })
      .replace(/(src|srcset|href)="([^"]+)"/g, (_, name, target) => `${name}="${follow(target) ?? target}"`);
  return markdown
    .split(/(^```[\s\S]*?^```)/m)
    .map((part, i) => (i % 2 === 0 ? outside(part) : part))
    .join("");
}
