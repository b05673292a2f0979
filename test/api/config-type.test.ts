/** @file The type PPOConfig, which editors show, says what the table of options says. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ppoOptions } from "../../src/algorithms/options/ppo-options.ts";
import { configType } from "../../tools/config-type.ts";
import { root } from "../support/cli.ts";

test("src/algorithms/options/config-type.ts is what the table of options gives (if not: npm run api)", () => {
  const path = join(root, "src", "algorithms", "options", "config-type.ts");
  const text = configType(ppoOptions);
  if (process.env.UPDATE_API) writeFileSync(path, text);
  expect(readFileSync(path, "utf8")).toBe(text);
});
