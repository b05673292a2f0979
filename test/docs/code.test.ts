/** @file Code in the documents that no other test runs is at least right in form: it parses, what it imports is exported, commands have the flags they are shown with. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { transformSync } from "esbuild";
import { describe, expect, test } from "vitest";
import * as library from "../../src/index.ts";
import { root } from "../support/cli.ts";

const documents = ["README.md", "CONTRIBUTING.md", "examples/control/README.md", "examples/exploits/README.md"].concat(
  readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md") && name !== "valuehead.api.md")
    .map((name) => `docs/${name}`),
);
const text = (path: string) => readFileSync(join(root, path), "utf8");
const types = [...text("docs/valuehead.api.md").matchAll(/^export (?:abstract |declare )*\w+ (\w+)/gm)].map(
  ([, name]) => name,
);

const programs = documents.flatMap((document) =>
  [...text(document).matchAll(/```(ts|js|tsx)\n([\s\S]*?)```/g)].map(([, language, code], i) => ({
    ...{ name: `${document}, ${i + 1}`, language, code },
  })),
);

test.each(programs)("the program of $name parses, and imports what there is", ({ language, code }) => {
  expect(() => transformSync(code, { loader: language === "js" ? "js" : "ts", format: "esm" })).not.toThrow();
  for (const [, names] of code.matchAll(/import (?:type )?\{([^}]*)\} from "valuehead"/g)) {
    const imported = names
      .split(",")
      .map((name) =>
        name
          .trim()
          .replace(/^type /, "")
          .replace(/ as .*/, ""),
      )
      .filter(Boolean);
    expect(imported.filter((name) => !(name in library) && !types.includes(name))).toEqual([]);
  }
});

const MODULES: Readonly<Record<string, () => Promise<unknown>>> = {
  demo: () => import("../../src/cli/demo.ts"),
  train: () => import("../../src/cli/train.ts"),
  generate: () => import("../../src/cli/generate.ts"),
  score: () => import("../../src/cli/score.ts"),
  pretrain: () => import("../../src/cli/sft.ts"),
  compare: () => import("../../src/cli/compare.ts"),
  export: () => import("../../src/cli/export.ts"),
  push: () => import("../../src/cli/push.ts"),
  view: () => import("../../src/cli/view.ts"),
  merge: () => import("../../src/cli/merge.ts"),
  info: () => import("../../src/cli/info.ts"),
};

describe("commands have flags that exist", () => {
  /** Lines to be typed, in blocks and between backticks, with what a backslash at the end joins to them. */
  const commands = documents.flatMap((document) => {
    const whole = text(document).replace(/\\\n\s*/g, "");
    const lines = [
      ...whole.matchAll(/^(?: {4}|\$ |)(?:npx )?valuehead (\w+)(.*)$/gm),
      ...whole.matchAll(/`(?:npx )?valuehead (\w+)([^`\n]*)`/g),
    ];
    return lines
      .filter(([, command]) => command in MODULES)
      .map(([, command, rest]) => ({ document, command, rest: rest.replace(/\s#.*/, "") }));
  });

  test("there are such commands", () => expect(commands.length).toBeGreaterThan(40));

  test.each(commands)("$document: valuehead $command$rest", async ({ command, rest }) => {
    const program = new Command(command);
    const { define } = (await MODULES[command]()) as { define(command: Command, argv: string[]): void | Promise<void> };
    await define(program, [command, ...rest.split(/\s+/)]);
    const known = program.options.flatMap(({ long, short }) => [long, short]);
    const flags = [...rest.matchAll(/(?:^|\s)(--[a-z][\w-]*)/g)].map(([, name]) => name);
    expect(flags.filter((name) => !known.includes(name) && name !== "--help")).toEqual([]);
  });
});
