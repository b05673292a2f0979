/**
 * @file The layer rule: a folder of src/ imports only from folders above it, only platform/ and cli/ know Node,
 * only backend/ knows ONNX Runtime and only distributed/ knows NATS, nothing imports what threads and processes start with, and files do not import each
 * other in circles (but for the operations, whose gradients are operations).
 */

/** Folders of src/ from the foundation up; src/deprecated.ts and src/index.ts are floors of their own. */
export const LAYERS: readonly string[] = [
  "base",
  "platform",
  "graph",
  "backend",
  "nn",
  "tokenizer",
  "checkpoint",
  "model",
  "families",
  "sample",
  "data",
  "rl",
  "experience",
  "algorithms",
  "ship",
  "distributed",
  "run",
  "deprecated",
  "index",
  "cli",
];

/** Who may import what is not the project's own: Node, and ONNX Runtime. */
const NATIVE: readonly { packages: RegExp; rooms: readonly string[] }[] = [
  { packages: /^node:/, rooms: ["platform", "cli"] },
  { packages: /^onnxruntime/, rooms: ["backend"] },
  { packages: /^@nats-io\//, rooms: ["distributed"] },
];
/** What a thread or process starts with: it acts as soon as it is loaded. */
const ENTRY = /-main\.ts$/;
const MAY_BE_CIRCULAR = "src/graph/ops/";

/** import ... from "x", export ... from "x", import "x", import("x"), require("x") */
const IMPORT = /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)(["'`])([^"'`\n]+)\1/g;

/** Comments become blanks of the same length, so that what they mention is no import. Strings with // in them survive. */
function withoutComments(source: string): string {
  return source.replace(/(["'`])(?:\\.|(?!\1)[^\\\n])*\1|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (match) =>
    match.startsWith("/") ? match.replace(/[^\n]/g, " ") : match,
  );
}

function importsOf(source: string): { target: string; line: number }[] {
  const code = withoutComments(source);
  return [...code.matchAll(IMPORT)].map((m) => ({ target: m[2], line: code.slice(0, m.index).split("\n").length }));
}

/** src/graph/ops/linear.ts -> graph, src/index.ts -> index */
function layerOf(path: string): string {
  return path.split("/")[1].replace(/\.ts$/, "");
}

/** "src/a/b.ts" + "../c/d.ts" -> "src/c/d.ts" */
function resolveImport(from: string, target: string): string {
  const parts = from.split("/").slice(0, -1);
  for (const part of target.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/**
 * What breaks the rule, one sentence each.
 * @param files source text by path from the repository root: `src/nn/adamw.ts`
 */
export function layerProblems(files: ReadonlyMap<string, string>): string[] {
  const problems: string[] = [];
  const edges = new Map<string, string[]>();
  for (const [path, source] of files) {
    const layer = layerOf(path);
    const height = LAYERS.indexOf(layer);
    if (height < 0) problems.push(`${path}: ${layer} is not a known folder of src/`);
    const targets: string[] = [];
    edges.set(path, targets);
    for (const { target, line } of importsOf(source)) {
      const where = `${path}:${line}`;
      const native = NATIVE.find(({ packages }) => packages.test(target));
      if (native) {
        if (!native.rooms.includes(layer))
          problems.push(`${where}: imports ${target}, which only ${native.rooms.join(" and ")} may`);
      } else if (target.startsWith(".")) {
        const file = resolveImport(path, target);
        if (!files.has(file)) {
          if (!file.startsWith("src/")) problems.push(`${where}: imports ${target}, which is outside src/`);
          else problems.push(`${where}: imports ${target}, which does not exist`);
          continue;
        }
        targets.push(file);
        if (ENTRY.test(file)) problems.push(`${where}: imports ${file}, which a thread or process starts with`);
        if (height >= 0 && LAYERS.indexOf(layerOf(file)) > height)
          problems.push(`${where}: ${layer} imports ${file}, but ${layerOf(file)} comes after ${layer}`);
      }
    }
  }
  return [...problems, ...circles(edges)];
}

/** The shortest circle of imports through each file, but for circles of operations; a file is named in one circle only. */
function circles(edges: ReadonlyMap<string, readonly string[]>): string[] {
  const problems: string[] = [];
  const told = new Set<string>();
  for (const start of [...edges.keys()].sort()) {
    if (start.startsWith(MAY_BE_CIRCULAR) || told.has(start)) continue;
    const paths = [[start]];
    const seen = new Set<string>();
    for (let path = paths.shift(); path; path = paths.shift()) {
      const next = edges.get(path[path.length - 1]) ?? [];
      if (next.includes(start)) {
        problems.push(`${[...path, start].join(" -> ")}: files import each other in a circle`);
        for (const file of path) told.add(file);
        break;
      }
      for (const file of next) if (!seen.has(file)) paths.push([...path, file]);
      for (const file of next) seen.add(file);
    }
  }
  return problems;
}
