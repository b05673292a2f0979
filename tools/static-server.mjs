/** @file A server of static files on this machine, with the headers that give a page threads. */
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".wasm": "application/wasm",
};
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/** The types of static-server.d.mts say what it takes and gives. */
export async function serveFiles(places, { isolated = true, port = 0 } = {}) {
  const asked = [];
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname));
    asked.push(path);
    const [, first, ...rest] = path.split("/");
    const place = places[first] ?? places[""];
    const file = place && !place.startsWith("<") ? join(place, ...(places[first] ? rest : [first, ...rest])) : "";
    const found = file && existsSync(file) && statSync(file).isDirectory() ? join(file, "index.html") : file;
    const headers = { "Cache-Control": "no-store", ...(isolated ? ISOLATION : {}) };
    if (place?.startsWith("<")) response.writeHead(200, { "Content-Type": TYPES[".html"], ...headers }).end(place);
    else if (!found || !existsSync(found)) response.writeHead(404, headers).end();
    else {
      response.writeHead(200, { "Content-Type": TYPES[extname(found)] ?? "application/octet-stream", ...headers });
      createReadStream(found).pipe(response);
    }
  });
  const listen = (wanted) =>
    new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(wanted, "127.0.0.1", () => {
        server.off("error", reject);
        resolve();
      });
    });
  await listen(port).catch(() => listen(0)); // another one where it is taken
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    asked,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
