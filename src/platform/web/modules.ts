/** @file Loading a user's own module, in a tab: by its address. */
import { fail, messageOf } from "../../base/errors.ts";

/** The exports of the module at an address, relative to the page. */
export async function importModule(path: string): Promise<Record<string, unknown>> {
  const url = new URL(path, globalThis.location?.href);
  return import(/* @vite-ignore */ /* webpackIgnore: true */ url.href);
}

/**
 * An optional peer dependency: the page says where it is (an import map), or its bundler has it.
 * @param wanted what needs it, for errors
 * @throws engine - it is not there, or does not load
 */
export async function importPackage<Module>(name: string, wanted: string): Promise<Module> {
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as Module;
  } catch (cause) {
    return fail(
      "engine",
      {
        where: wanted,
        found: messageOf(cause).split("\n")[0],
        expected: `the package ${name}, which nothing else needs`,
        fix: `name its address in an import map of the page: {"imports": {"${name}": "https://..."}}`,
      },
      cause,
    );
  }
}
