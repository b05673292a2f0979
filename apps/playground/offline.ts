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
  skipWaiting(): Promise<void>;
  readonly clients: Clients;
  readonly registration: { readonly scope: string };
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

/** The page itself comes from the network where there is one, so that a new version is seen; everything else from the cache. */
async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHES + VERSION);
  const known = () => cache.match(request, { ignoreSearch: true });
  if (request.mode !== "navigate" && !request.url.endsWith("/files.json"))
    return isolated((await known()) ?? (await fetch(request)));
  try {
    return isolated(await fetch(request));
  } catch (error) {
    const kept = (await known()) ?? (request.mode === "navigate" ? await cache.match("./index.html") : undefined);
    if (kept) return isolated(kept);
    throw error;
  }
}

scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
scope.addEventListener("activate", (event) => event.waitUntil(dropOthers().then(() => scope.clients.claim())));
scope.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(scope.registration.scope)) event.respondWith(answer(request));
});
