/** @file Packages of the peers' own directory: the benchmark does not depend on them, so there are no types of them. */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

/**
 * A package of bench/peers/js and its version.
 * @param entry what of it is imported
 * @throws if it is not there, with the command that installs it
 */
// biome-ignore lint/suspicious/noExplicitAny: no types of it here
export async function installed(name: string, entry: string): Promise<{ library: any; version: string }> {
  const root = resolve("bench/peers/js/node_modules", name);
  if (!existsSync(root)) throw new Error(`${name} is not installed: npm install --prefix bench/peers/js`);
  const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));
  return { library: await import(pathToFileURL(`${root}/${entry}`).href), version };
}

/** Of one token, under logits of the whole vocabulary. */
export function logProbability(logits: Float32Array, id: number): number {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  return logits[id] - largest - Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0));
}
