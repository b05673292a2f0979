/** @file The package as its users get it: packed, and installed in an empty folder by the line that README.md gives. */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect } from "vitest";

export const root = fileURLToPath(new URL("../../", import.meta.url));

/** Majors that are tested: this Node where it is one of them, the others from npm. */
const MAJORS = [20, 22, 24];

/** The environment of a user's shell: what `npm run` adds, our own `ignore-scripts` among it, would hide what they meet. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(npm_|node_(options|env)$|test$|vitest|init_cwd$)/i.test(name)),
);

export function sh(cwd: string, command: string, node = process.execPath): SpawnSyncReturns<string> {
  const PATH = `${dirname(node)}${delimiter}${process.env.PATH}`;
  const env = { ...environment, PATH, HF_HUB_OFFLINE: "1", NO_COLOR: "1" };
  return spawnSync(command, { cwd, env, shell: true, encoding: "utf8", timeout: 600_000 });
}

/** Run to the end, which must be a good one. @returns what it printed */
export function succeed(cwd: string, command: string, node?: string): string {
  const { status, stdout, stderr } = sh(cwd, command, node);
  expect(status, `${command}\n${stdout}${stderr}`).toBe(0);
  return stdout;
}

/** An empty folder outside the repository, gone after the tests. */
export function emptyFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `valuehead-${name}-`));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Compile and pack. @returns the path of the tarball */
export function pack(): string {
  const folder = emptyFolder("pack");
  succeed(root, "npm run -s build");
  succeed(root, `npm pack --silent --pack-destination ${JSON.stringify(folder)}`);
  const { name, version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return join(folder, `${name}-${version}.tgz`);
}

/** What README.md says to type first, without its comment; it names the tarball as if it lay in the folder. */
export function installLine(): string {
  const [, line] = /^ {4}(npm install \S+\.tgz[^#\n]*?)\s*#/m.exec(readFileSync(join(root, "README.md"), "utf8")) ?? [];
  expect(line).toBeDefined();
  return line as string;
}

/** An empty folder in which that was typed. */
export function install(tarball: string, name: string): string {
  const folder = emptyFolder(name);
  copyFileSync(tarball, join(folder, basename(tarball)));
  succeed(folder, installLine());
  return folder;
}

/** The Nodes to test with, by version; those that cannot be had are named on stderr. */
export function nodes(): { version: string; path: string }[] {
  const found: { version: string; path: string }[] = [];
  for (const major of MAJORS) {
    const path = Number(process.versions.node.split(".")[0]) === major ? process.execPath : fromNpm(major);
    const { stdout } = path ? spawnSync(path, ["--version"], { encoding: "utf8" }) : { stdout: "" };
    if (path && stdout?.startsWith(`v${major}.`)) found.push({ version: stdout.trim(), path });
    else console.warn(`LEFT OUT: Node ${major}, which npm has no package of for this platform, or none that starts`);
  }
  return found;
}

/** What the npm package `node` installs is a package for each platform, with the program in it. */
function fromNpm(major: number): string | undefined {
  const platform = process.platform === "win32" ? "win" : process.platform;
  const name = `node-${platform}-${process.arch}`;
  const folder = join(root, ".cache", `node-${major}`);
  const path = join(folder, "node_modules", name, "bin", process.platform === "win32" ? "node.exe" : "node");
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "package.json"), "{}\n");
    sh(folder, `npm install --no-audit --no-fund --ignore-scripts ${name}@${major}`);
  }
  return existsSync(path) ? path : undefined;
}
