/** @file Loading a user's own module, in a tab: by its address. */

/** The exports of the module at an address, relative to the page. */
export async function importModule(path: string): Promise<Record<string, unknown>> {
  const url = new URL(path, globalThis.location?.href);
  return import(/* @vite-ignore */ /* webpackIgnore: true */ url.href);
}
