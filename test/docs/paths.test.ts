import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

const documents = [
  "README.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  ...readdirSync("docs")
    .filter((name) => name.endsWith(".md") && !name.endsWith(".api.md"))
    .map((name) => `docs/${name}`),
];

/** `src/algorithms/ppo.ts`, or as ARCHITECTURE.md writes it, `algorithms/ppo.ts`. */
const PATH = /`((?:src|test|tools|docs|bench|models|examples|bin)\/[\w./-]+\.\w+|[a-z0-9]+\/[\w-]+\.ts)`/g;

describe("documents name files that exist", () => {
  test.each(documents)("%s", (document) => {
    const paths = [...readFileSync(document, "utf8").matchAll(PATH)].map((match) => match[1]);
    expect(paths.filter((path) => !existsSync(path) && !existsSync(`src/${path}`))).toEqual([]);
  });
});
