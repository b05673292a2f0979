/**
 * @file Where the files that come with the package are for a tab: fetched from an address when they are first read, and kept in the
 * store, by version. Paths below {@link PACKAGE} mean them.
 */
import { fail, messageOf } from "../../base/errors.ts";
import { VERSION } from "../../base/version.ts";
import type { BrowserFiles } from "../package.ts";
import { parentDirectory } from "./paths.ts";
import { store } from "./store.ts";

/** What there is, by path in the package. */
const FILES: Readonly<Record<string, readonly string[]>> = {
  "models/tiny": [
    "README.md",
    "config.json",
    "demo.json",
    "model.safetensors",
    "prompts-heldout.txt",
    "prompts.txt",
    "tokenizer.json",
    "tokenizer_config.json",
  ],
};

/** The folder that stands for the package in the store. */
export const PACKAGE = `/package/${VERSION}`;

// Not `new URL("...", import.meta.url)`: bundlers would take folders for files of theirs.
const here = import.meta.url;
let places: BrowserFiles = {};

/** Say where the package's files are served from; {@link BrowserFiles} has the defaults. */
export function setBrowserFiles(files: BrowserFiles): void {
  const base = globalThis.location?.href;
  for (const [name, url] of Object.entries(files)) if (url) places = { ...places, [name]: new URL(url, base).href };
}

/** What was said, and what follows from where this module is: for a worker, which lies elsewhere. */
export const browserFiles = (): { models: string; worker: string; runtime: string } => ({
  models: String(places.models ?? new URL("../../models/", here)),
  worker: String(places.worker ?? new URL("./worker.js", here)),
  runtime: String(places.runtime ?? new URL("../../../onnxruntime-web/dist/", here)),
});

export function packagePath(...parts: string[]): string {
  return [PACKAGE, ...parts].join("/");
}

/** The path in the package that a path in the store stands for, if it does. */
const inPackage = (path: string): string | undefined =>
  path.startsWith(`${PACKAGE}/`) ? path.slice(PACKAGE.length + 1) : undefined;

/** Names in a folder of the package; undefined: no folder of it. */
export function listPackaged(path: string): readonly string[] | undefined {
  return FILES[inPackage(path) ?? ""];
}

/** Whether it is a file of the package, be it here or not. */
export const isPackaged = (path: string): boolean =>
  listPackaged(parentDirectory(path))?.includes(path.slice(path.lastIndexOf("/") + 1)) ?? false;

const fetching = new Map<string, Promise<void>>();

/** Have a file of the package in the store. Does nothing for any other path. */
export async function fetchPackaged(path: string): Promise<void> {
  if (!isPackaged(path)) return;
  const files = await store();
  if (await files.stat(path)) return;
  const before = fetching.get(path);
  const work = before ?? download(path, inPackage(path) as string);
  fetching.set(path, work);
  await work.finally(() => fetching.delete(path));
}

async function download(path: string, name: string): Promise<void> {
  const url = new URL(name.replace(/^models\//, ""), browserFiles().models);
  const place = { where: url.href, expected: `the package's file ${name}` };
  const fix = "serve the package's folder models/, and say where: setBrowserFiles({ models })";
  let answer: Response;
  try {
    answer = await fetch(url);
  } catch (cause) {
    return fail("checkpoint", { ...place, found: `no answer (${messageOf(cause)})`, fix }, cause);
  }
  if (!answer.ok || !answer.body) return fail("checkpoint", { ...place, found: `status ${answer.status}`, fix });
  const files = await store();
  await files.makeDirectory(parentDirectory(path));
  const writer = await files.create(path);
  try {
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      await writer.write(value);
    }
    await writer.close();
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

/** The address of the module that runs in a worker. */
export const packageModule = (_module: string): URL => new URL(browserFiles().worker);

/** @throws engine - Node's packages are not for a browser */
export function packageRequire(): (name: string) => never {
  return (name) =>
    fail("engine", {
      where: `the package ${name}`,
      found: "a browser",
      expected: "Node",
      fix: 'use the device "wasm" or "webgpu" here',
    });
}
