/** @file The site: the pages of docs/ and the API reference, in .cache/site. `npm run docs`, in the root of a checkout; no network. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import {
  Application,
  Comment,
  CommentTag,
  type Context,
  Converter,
  type DeclarationReflection,
  KindRouter,
  LogLevel,
  OptionDefaults,
  type Reflection,
  TSConfigReader,
} from "typedoc";
import { API_LINK, GROUP_ORDER, REFERENCE, writePages } from "./pages.ts";

const root = process.cwd();
const out = join(root, ".cache", "site");
const source = join(root, ".cache", "site-pages");

/** The parts of the API reference, by the folder of src/ that a symbol is in. */
const PARTS: Readonly<Record<string, string>> = {
  algorithms: "Training",
  run: "Runs",
  experience: "Rewards and experience",
  data: "Prompts and data",
  sample: "Sampling",
  model: "Models",
  families: "Models",
  nn: "Models",
  checkpoint: "Models",
  backend: "Models",
  tokenizer: "Tokenizers",
  ship: "Using and shipping models",
  rl: "The mathematics",
  base: "Errors and randomness",
  platform: "Runs",
  deprecated: "Old names",
};
const PART_ORDER = [...new Set(Object.values(PARTS))];

rmSync(source, { recursive: true, force: true });
rmSync(out, { recursive: true, force: true });
const pages = writePages(root, source);

/** Pages have the names of their files: pages/ppo.html. */
class SiteRouter extends KindRouter {
  override getIdealBaseName(reflection: Reflection): string {
    if (reflection.isDocument()) {
      const path = pages.find(({ title }) => title === reflection.name)?.path ?? reflection.name;
      const name = path.replace(/^docs\//, "").replace(/(\/README)?\.md$/, "");
      return `pages/${name.toLowerCase().replaceAll("/", "-")}`;
    }
    if (reflection.name === REFERENCE) return "api";
    return super.getIdealBaseName(reflection).replace(`${REFERENCE.replace(" ", "_")}.`, "");
  }
}

const app = await Application.bootstrap(
  {
    name: "valuehead",
    entryPoints: [join(root, "src", "index.ts")],
    tsconfig: join(root, "apps", "site", "api.tsconfig.json"),
    readme: join(source, "README.md"),
    projectDocuments: pages.map(({ path }) => join(source, path)),
    customCss: join(root, "apps", "site", "site.css"),
    // A type that extends an alias has a link into that page and no place on it.
    includeHierarchySummary: false,
    excludeInternal: true,
    excludePrivate: true,
    excludeExternals: true,
    disableSources: true,
    categorizeByGroup: false,
    defaultCategory: "Old names",
    categoryOrder: PART_ORDER,
    groupOrder: [...GROUP_ORDER, "Constructors", "Properties", "Accessors", "Methods", "*"],
    sort: ["documents-first", "kind"],
    router: "site",
    sortEntryPoints: false,
    navigation: { includeCategories: true, includeGroups: true, includeFolders: false },
    highlightLanguages: [...OptionDefaults.highlightLanguages, "python", "sh", "text"],
    blockTags: [...OptionDefaults.blockTags, "@file"],
    excludeTags: ["@file"],
    // What a docstring links to and is not exported is named there, and no link.
    externalSymbolLinkMappings: { valuehead: { "*": "#" } },
    githubPages: false,
    hideGenerator: true,
    logLevel: LogLevel.Warn,
  },
  [new TSConfigReader()],
);

app.renderer.defineRouter("site", SiteRouter);

app.converter.on(Converter.EVENT_RESOLVE_BEGIN, (context: Context) => {
  const [reference] = context.project.children ?? [];
  reference.name = REFERENCE;
  reference.comment = new Comment([], [new CommentTag("@group", [{ kind: "text", text: REFERENCE }])]);
  for (const symbol of reference.children ?? []) inPart(context, symbol);
});

/** Says which part of the reference a symbol belongs to. */
function inPart(context: Context, symbol: DeclarationReflection): void {
  const file = context.getSymbolFromReflection(symbol)?.declarations?.[0]?.getSourceFile().fileName;
  const [folder] = file ? relative(join(root, "src"), file).split(/[/\\.]/) : [];
  const tag = new CommentTag("@category", [{ kind: "text", text: PARTS[folder ?? ""] ?? "Old names" }]);
  for (const { comment } of symbol.signatures ?? []) comment?.removeTags("@category");
  symbol.comment ??= new Comment();
  symbol.comment.blockTags.push(tag);
}

const project = await app.convert();
if (!project) throw new Error("the sources could not be read");
// Classes, then interfaces, types and functions, as they are grouped already; by name among themselves.
for (const { children } of project.children?.[0].categories ?? []) {
  const kinds = [...new Set(children.map(({ kind }) => kind))];
  children.sort((a, b) => kinds.indexOf(a.kind) - kinds.indexOf(b.kind) || a.name.localeCompare(b.name));
}
await app.generateDocs(project, out);

for (const name of readdirSync(out, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".html"))) {
  const html = readFileSync(join(out, name), "utf8");
  const up = "../".repeat(name.split(/[/\\]/).length - 1);
  if (html.includes(API_LINK)) writeFileSync(join(out, name), html.replaceAll(API_LINK, `${up}api.html`));
}
console.log(`${join(".cache", "site", "index.html")}: ${pages.length} pages and the API reference`);
if (app.logger.hasErrors() || app.logger.warningCount > 0) process.exitCode = 1;
