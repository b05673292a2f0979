/** @file The program in README.md runs as it stands. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

test("the program in README.md trains, reports ten steps and saves a model", async () => {
  const readme = readFileSync(fileURLToPath(new URL("../../README.md", import.meta.url)), "utf8");
  const [program, ...others] = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  expect(others).toEqual([]);
  const folder = fileURLToPath(new URL("../../.cache/docs/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}readme.ts`, program.replace('"valuehead"', '"../../src/index.ts"'));

  const printed: unknown[][] = [];
  const { log } = console;
  const before = process.cwd();
  const scratch = mkdtempSync(join(tmpdir(), "valuehead-readme-"));
  console.log = (...args) => printed.push(args);
  process.chdir(scratch);
  try {
    await import(/* @vite-ignore */ `${folder}readme.ts`);
    expect(existsSync(join(scratch, "better", "model.safetensors"))).toBe(true);
  } finally {
    console.log = log;
    process.chdir(before);
    rmSync(scratch, { recursive: true });
  }
  expect(printed.map(([step]) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  for (const [, mean] of printed) expect(mean).toBeTypeOf("number");
});
