/**
 * @file fetch for talking to a hub that may be slow, broken or hostile. The access token goes to the hub's own origin and nowhere
 * else, whatever a redirect, a cache header or a link says; every wait has a limit; an answer that should be short is
 * not read without end.
 */

export interface GuardOptions {
  /** Default: the global one. */
  fetch?: typeof fetch;
  /** The hub, such as https://huggingface.co. */
  hubUrl: string;
  token?: string;
  /** Seconds without an answer, or without a byte of one, before a request counts as failed. */
  patience: number;
}

/** The hub did not answer, or not in time, or with nothing. */
export class HubSilence extends Error {}

/** An answer of the hub's API, or the text of an error, is never longer. */
const LONGEST_ANSWER = 64e6;

/** @returns fetch, and what ends every request that is still open */
export function guardedFetch(options: GuardOptions): { fetch: typeof fetch; close(): void } {
  const { fetch: base = fetch, token, patience } = options;
  const hub = new URL(options.hubUrl);
  const open = new Set<AbortController>();

  const guarded: typeof fetch = async (input, init) => {
    const request = new Request(input, init);
    const url = new URL(request.url);
    const headers = new Headers(request.headers);
    // What a xet server gave as its own token may go back to it; ours may not go anywhere else.
    if (token && url.origin !== hub.origin && headers.get("authorization")?.includes(token))
      headers.delete("authorization");
    const controller = new AbortController();
    open.add(controller);
    const silent = () => controller.abort(new HubSilence(`no answer from ${url.host} within ${patience} seconds`));
    let timer = setTimeout(silent, patience * 1000);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(silent, patience * 1000);
    };
    const pause = () => clearTimeout(timer);
    const ended = () => {
      pause();
      open.delete(controller);
    };
    try {
      const response = await base(request.url, { method: request.method, headers, signal: controller.signal });
      if (response.ok && (response.status === 204 || response.status === 205 || response.body === null))
        throw new HubSilence(`status ${response.status} without content from ${url.host}`);
      pause(); // a caller who wants the headers alone leaves the body where it is
      if (response.body === null) return response;
      const isApi = url.origin === hub.origin && url.pathname.startsWith(`${hub.pathname.replace(/\/$/, "")}/api/`);
      const isJson = response.headers.get("content-type")?.includes("json") ?? false;
      const limit = isApi || !response.ok || isJson ? LONGEST_ANSWER : Number.POSITIVE_INFINITY;
      const body = watched(response.body, { alive, pause, ended, limit, host: url.host, signal: controller.signal });
      return new Response(body, {
        status: response.status,
        statusText: response.statusText,
        headers: response.headers,
      });
    } catch (error) {
      ended();
      throw controller.signal.aborted ? controller.signal.reason : error;
    }
  };
  return {
    fetch: guarded,
    close: () => {
      for (const controller of open) controller.abort();
      open.clear();
    },
  };
}

/** The same bytes, each awaited no longer than patience allows, and no more of them than the limit. */
function watched(
  body: ReadableStream<Uint8Array>,
  watch: {
    alive: () => void;
    pause: () => void;
    ended: () => void;
    limit: number;
    host: string;
    signal: AbortSignal;
  },
): ReadableStream<Uint8Array> {
  const { alive, pause, ended, limit, host, signal } = watch;
  const reader = body.getReader();
  let received = 0;
  return new ReadableStream({
    async pull(stream) {
      alive();
      try {
        const { done, value } = await reader.read();
        pause();
        if (done) {
          ended();
          return stream.close();
        }
        received += value.length;
        if (received > limit) throw new HubSilence(`an answer of more than ${limit / 1e6} MB from ${host}`);
        stream.enqueue(value);
      } catch (error) {
        ended();
        await reader.cancel(error).catch(() => {});
        stream.error(signal.aborted ? signal.reason : error);
      }
    },
    cancel: (reason) => {
      ended();
      return reader.cancel(reason);
    },
  });
}
