/** @file The files of the playground: fetched once, with progress, and kept for visits without a network. */

interface FileList {
  readonly version: string;
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
}

const FIRST = "files.json";

/** Whether a service worker answers for this page. It is waited for, but not for long: without one everything works online. */
export async function takeOffline(): Promise<boolean> {
  const workers = navigator.serviceWorker;
  if (!workers) return false;
  try {
    await workers.register("offline.js");
    if (workers.controller) return true;
    await Promise.race([
      new Promise((resolve) => workers.addEventListener("controllerchange", resolve, { once: true })),
      new Promise((resolve) => setTimeout(resolve, 4000)),
    ]);
    return workers.controller !== null;
  } catch {
    return false; // switched off, or a page whose files lie elsewhere
  }
}

/**
 * Fetch what is not kept yet.
 * @returns whether everything is kept now, for visits without a network
 * @throws a message for people: a file that is missing, no network at the first visit
 */
export async function fetchFiles(progress: (done: number, total: number) => void): Promise<boolean> {
  const { version, files } = (await (await answerOf(FIRST)).json()) as FileList;
  const cache = await globalThis.caches?.open(`valuehead-playground-${version}`).catch(() => undefined);
  const kept = new Set((await cache?.keys())?.map(({ url }) => url));
  const addressOf = (path: string) => new URL(path, document.baseURI).href;
  const missing = files.filter(({ path }) => !kept.has(addressOf(path)));
  const total = missing.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  let full = false;
  for (const { path } of missing) {
    if (!cache && !/^(models|onnxruntime)\//.test(path)) continue; // the page has loaded its code already
    const answer = await answerOf(path);
    const counted = answer.body?.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(piece, controller) {
          done += piece.length;
          progress(Math.min(done, total), total);
          controller.enqueue(piece);
        },
      }),
    );
    const { status, headers } = answer;
    const whole = new Response(counted ?? answer.body, { status, headers });
    if (cache)
      await cache.put(addressOf(path), whole).catch(() => {
        full = true; // no room: the next visit needs the network
      });
    else await whole.arrayBuffer(); // the browser's own cache has it for the worker
  }
  if (cache && !full && !kept.has(addressOf(FIRST))) await cache.add(addressOf(FIRST));
  return cache !== undefined && !full;
}

async function answerOf(path: string): Promise<Response> {
  const answer = await fetch(path).catch((error) => {
    throw new Error(`${path} could not be fetched (${error.message}). The first visit needs a network.`);
  });
  if (!answer.ok)
    throw new Error(`${path} could not be fetched: the server answered ${answer.status}. Open the page anew.`);
  return answer;
}
