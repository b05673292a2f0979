/** @file The library in a tab of a real Chromium: a server of static files, and pages with an import map. */
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type StaticServer, serveFiles } from "../../tools/static-server.mjs";

export type { StaticServer };

const root = fileURLToPath(new URL("../../", import.meta.url));

/** A page that imports the library by its name, as docs/browser.md says, and nothing else. */
export const PAGE = `<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<script type="importmap">
  { "imports": { "valuehead": "/node_modules/valuehead/dist/browser/index.js" } }
</script>
<script type="module">
  import * as valuehead from "valuehead";
  globalThis.valuehead = valuehead;
</script>`;

/** A folder as npm would make it: node_modules with the package, built for browsers from src/ as it is, and the runtime. */
export async function installForBrowser(): Promise<{ directory: string; remove(): void }> {
  const directory = mkdtempSync(join(tmpdir(), "valuehead-browser-"));
  const packages = join(directory, "node_modules");
  const { buildBrowser } = await import("../../tools/browser-build.mjs");
  await buildBrowser(join(packages, "valuehead", "dist", "browser"));
  symlinkSync(join(root, "models"), join(packages, "valuehead", "models"));
  symlinkSync(join(root, "node_modules", "onnxruntime-web"), join(packages, "onnxruntime-web"));
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}

/** Serve {@link PAGE} and what is installed. */
export const serveInstalled = (directory: string, isolated: boolean): Promise<StaticServer> =>
  serveFiles({ "": PAGE, node_modules: join(directory, "node_modules") }, { isolated });
