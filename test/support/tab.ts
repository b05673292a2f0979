/** @file The library in a tab of a real Chromium: a server of static files, and pages with an import map. */
import { createReadStream, existsSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

export interface StaticServer {
  readonly url: string;
  /** Paths that were asked for. */
  readonly asked: string[];
  close(): Promise<void>;
}

/**
 * Serve files, as any static server does.
 * @param places   a directory, or a text of HTML, for each first part of a path; "" for the rest
 * @param isolated send the headers that give a page threads
 */
export async function serveFiles(places: Readonly<Record<string, string>>, isolated = true): Promise<StaticServer> {
  const asked: string[] = [];
  const server: Server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname));
    asked.push(path);
    const [, first, ...rest] = path.split("/");
    const place = places[first] ?? places[""];
    const file = place && !place.startsWith("<") ? join(place, ...(places[first] ? rest : [first, ...rest])) : "";
    const found = file && existsSync(file) && statSync(file).isDirectory() ? join(file, "index.html") : file;
    const isolation = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
    const headers = { "Cache-Control": "no-store", ...(isolated ? isolation : {}) };
    if (place?.startsWith("<")) response.writeHead(200, { "Content-Type": TYPES[".html"], ...headers }).end(place);
    else if (!found || !existsSync(found)) response.writeHead(404, headers).end();
    else {
      response.writeHead(200, { "Content-Type": TYPES[extname(found)] ?? "application/octet-stream", ...headers });
      createReadStream(found).pipe(response);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

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
  serveFiles({ "": PAGE, node_modules: join(directory, "node_modules") }, isolated);
