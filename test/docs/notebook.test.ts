/** @file docs/notebook.md runs, block by block, and prints what the page says. UPDATE_DOCS=1 writes the page's outputs anew. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { format } from "node:util";
import { expect, test } from "vitest";

const page = fileURLToPath(new URL("../../docs/notebook.md", import.meta.url));
const BLOCK = /```ts\n([\s\S]*?)```\n\n```text\n([\s\S]*?)```/g;

test("every block of docs/notebook.md prints what the page shows", async () => {
  const markdown = readFileSync(page, "utf8");
  const blocks = [...markdown.matchAll(BLOCK)].map(([, code, output]) => ({ code, output }));
  expect(blocks.length).toBe(markdown.match(/```ts\n/g)?.length);

  // The blocks are one program: later ones use what earlier ones declared.
  const folder = fileURLToPath(new URL("../../.cache/docs/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  const program = blocks
    .map(({ code }, i) => `${code}\nawait endOfBlock(${i});\n`)
    .join("")
    .replaceAll('"valuehead"', '"../../src/index.ts"');
  const file = `${folder}notebook.ts`;
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
