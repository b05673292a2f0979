/**
 * @file Pages whose code runs, block by block, and prints what the page says; and code that a page quotes is in the file it names.
 * UPDATE_DOCS=1 writes the pages' outputs anew.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { format } from "node:util";
import { expect, test } from "vitest";

const at = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const BLOCK = /```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g;
const QUOTED = /```ts (\S+)\n([\s\S]*?)```/g;

const pages = ["notebook", "families", "shipping", "compare", "algorithms", "from-trl"];

test.each(pages)("every block of docs/%s.md prints what the page shows", async (name) => {
  const page = at(`docs/${name}.md`);
  const markdown = readFileSync(page, "utf8");
  const blocks = [...markdown.matchAll(BLOCK)].map(([, code, output]) => ({ code, output }));
  expect(blocks.length).toBe(markdown.match(/```ts\n/g)?.length);

  // The blocks are one program: later ones use what earlier ones declared.
  const folder = at(".cache/docs/");
  mkdirSync(folder, { recursive: true });
  const program = blocks
    .map(({ code }, i) => `${code}\nawait endOfBlock(${i});\n`)
    .join("")
    .replaceAll('"valuehead"', '"../../src/index.ts"');
  const file = `${folder}${name}.ts`;
  writeFileSync(file, program);

  const printed: string[] = [];
  let lines: string[] = [];
  const log = console.log;
  Object.assign(globalThis, {
    endOfBlock: () => {
      printed.push(lines.map((line) => `${line}\n`).join(""));
      lines = [];
    },
  });
  console.log = (...args) => lines.push(format(...args));
  try {
    await import(/* @vite-ignore */ file);
  } finally {
    console.log = log;
  }
  if (process.env.UPDATE_DOCS) {
    let i = 0;
    writeFileSync(
      page,
      markdown.replace(BLOCK, (_, code) => `\`\`\`ts\n${code}\`\`\`\n\n\`\`\`text\n${printed[i++]}\`\`\``),
    );
  } else expect(printed).toEqual(blocks.map(({ output }) => output));
});

test("code that a page quotes is in the file that it names", () => {
  const quoted = pages.flatMap((name) => [...readFileSync(at(`docs/${name}.md`), "utf8").matchAll(QUOTED)]);
  expect(quoted.length).toBeGreaterThan(1);
  for (const [, file, code] of quoted) expect(readFileSync(at(file), "utf8")).toContain(code);
});
