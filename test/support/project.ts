import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { root } from "./cli.ts";

/** An empty folder that has the package, as it is here; gone after the tests of the file. */
export function emptyProject(): string {
  const project = mkdtempSync(join(tmpdir(), "valuehead-project-"));
  afterAll(() => rmSync(project, { recursive: true }));
  mkdirSync(join(project, "node_modules", ".bin"), { recursive: true });
  symlinkSync(root, join(project, "node_modules", "valuehead"));
  symlinkSync(join("..", "valuehead", "bin", "valuehead.js"), join(project, "node_modules", ".bin", "valuehead"));
  return project;
}
