/**
 * @file The service worker: answers from the cache that the page filled, so that the playground opens without a network, and adds the
 * two headers that WebAssembly's threads need, which many hosts of static files cannot send.
 */

/** The name of all files together, which the build puts here. */
declare const VERSION: string;

interface Clients {
  claim(): Promise<void>;
}
type Lasting = Event & { waitUntil(work: Promise<unknown>): void };
type Asked = Event & { readonly request: Request; respondWith(answer: Promise<Response>): void };

const scope = self as unknown as {
  readonly clients: Clients;
  readonly registration: { readonly scope: string; readonly active: unknown };
  addEventListener(type: "install" | "activate", listener: (event: Lasting) => void): void;
  addEventListener(type: "fetch", listener: (event: Asked) => void): void;
};
const CACHES = "valuehead-playground-";

async function dropOthers(): Promise<void> {
  for (const name of await caches.keys())
    if (name.startsWith(CACHES) && name !== CACHES + VERSION) await caches.delete(name);
}

function isolated(answer: Response): Response {
  if (answer.status === 0) return answer;
  const headers = new Headers(answer.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const { status, statusText, body } = answer;
  return new Response(body, { status, statusText, headers });
}

/** Everything comes from the cache, so that all of it is of one version. What is not there (the files for GPUs) is kept once asked for. */
async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHES + VERSION);
  const wanted = request.mode === "navigate" ? "./index.html" : request;
  const kept = await cache.match(wanted, { ignoreSearch: true });
  if (kept) return isolated(kept);
  const fetched = await fetch(request);
  if (fetched.ok && request.url.includes("/onnxruntime/")) await cache.put(request, fetched.clone()).catch(() => {});
  return isolated(fetched);
}

/** At the first visit the page fetches everything, and shows how far it is. A new version is fetched here, and used once the old is closed. */
async function fetchNewVersion(): Promise<void> {
  if (!scope.registration.active) return;
  const request = (path: string) => new Request(path, { cache: "reload" });
  const { files } = (await (await fetch(request("./files.json"))).json()) as { files: { path: string }[] };
  const cache = await caches.open(CACHES + VERSION);
  await cache.addAll([...files.map(({ path }) => path), "files.json"].map(request));
}

scope.addEventListener("install", (event) => event.waitUntil(fetchNewVersion()));
scope.addEventListener("activate", (event) => event.waitUntil(dropOthers().then(() => scope.clients.claim())));
scope.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(scope.registration.scope)) event.respondWith(answer(request));
});
