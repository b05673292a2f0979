/** @file docs/scale.md has the tables that the simulator prints. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { BYTES, gradientTable, scaleTable } from "../../bench/scale.ts";

const page = readFileSync(new URL("../../docs/scale.md", import.meta.url), "utf8");

test("the page has the simulator's tables", () => {
  expect(page).toContain(scaleTable());
  expect(page).toContain(gradientTable());
});

test("and the bytes that it names", () => {
  const megabytes = Object.values(BYTES).map((bytes) => `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`);
  for (const text of megabytes) expect(page).toContain(text);
});
