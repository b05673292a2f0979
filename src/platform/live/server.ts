/**
 * @file A server for pages on this machine alone. It listens on 127.0.0.1, and answers only what a page of its own, or a program
 * without a page, asks: a page of another origin gets nothing, whatever name it reached the address by.
 */
import { timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzip } from "node:zlib";
import { fail } from "../../base/errors.ts";
import { codeOf } from "../file-errors.ts";

/** What is asked. */
export interface LocalRequest {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly query: URLSearchParams;
  /** What the header X-Valuehead-Token says. */
  readonly token: string;
}

/** What is answered: a document, or events for as long as somebody listens. */
export type LocalReply =
  | { readonly status?: number; readonly type: string; readonly body: string | Uint8Array }
  | { readonly listen: (send: (event: unknown) => void) => () => void };

/** A server that runs. */
export interface LocalServer {
  readonly port: number;
  /** Everything that is under way ends. */
  close(): Promise<void>;
}

const HOST = "127.0.0.1";

/** Nothing but what this server serves is loaded, run or told where the user came from. */
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cache-Control": "no-store",
};

/** Milliseconds between signs of life to those who listen. */
const ALIVE = 15_000;

export const sameToken = (a: string, b: string): boolean =>
  a.length === b.length && b.length > 0 && timingSafeEqual(Buffer.from(a.padEnd(64)), Buffer.from(b.padEnd(64)));

/**
 * Start to listen.
 * @param port   0: any that is free
 * @param handle undefined: there is no such thing
 * @throws usage - a port that is taken or not allowed
 */
export async function serveLocal(
  port: number,
  handle: (request: LocalRequest) => Promise<LocalReply | undefined>,
): Promise<LocalServer> {
  const listeners = new Set<() => void>();
  const server = createServer((request, response) => {
    const { port: own } = server.address() as AddressInfo;
    answer(request, response, own, handle, listeners).catch(() => {
      if (!response.headersSent) refuse(response, 500, "an error");
      else response.destroy();
    });
  });
  server.keepAliveTimeout = 5000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(taken(port, error)));
    server.listen(port, HOST, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const end of [...listeners]) end();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

function taken(port: number, error: Error): unknown {
  const code = codeOf(error);
  if (code !== "EADDRINUSE" && code !== "EACCES") return error;
  try {
    return fail(
      "usage",
      {
        where: `port ${port}`,
        found: code === "EACCES" ? "a port that this user may not open" : "another program that listens there",
        expected: "a free port",
        fix: "name another one, or none: then any that is free is taken",
      },
      error,
    );
  } catch (thrown) {
    return thrown;
  }
}

/** Why a request is refused, in words; undefined: it is not. Exported for the tests. */
export function refusal(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  method: string,
  port: number,
): string | undefined {
  const hosts = [`${HOST}:${port}`, `localhost:${port}`];
  const { host, origin } = headers;
  // A name of somebody else's that leads to this address: its page would be of one origin with the answer.
  if (typeof host !== "string" || !hosts.includes(host)) return "another host";
  if (origin !== undefined ? origin !== `http://${host}` : method !== "GET") return "another origin";
  const site = headers["sec-fetch-site"];
  const followed = headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document";
  if (site !== undefined && site !== "same-origin" && site !== "none" && !(method === "GET" && followed))
    return "another site";
  return undefined;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  port: number,
  handle: (request: LocalRequest) => Promise<LocalReply | undefined>,
  listeners: Set<() => void>,
): Promise<void> {
  request.resume(); // bodies are of no use
  const { method = "GET", headers } = request;
  const refused = refusal(headers, method, port);
  if (refused !== undefined) return refuse(response, 403, refused);
  if (method !== "GET" && method !== "POST") return refuse(response, 405, "another method");
  const url = new URL(request.url ?? "/", `http://${HOST}`);
  const token = headers["x-valuehead-token"];
  const asked = { method, path: url.pathname, query: url.searchParams, token: typeof token === "string" ? token : "" };
  const reply = await handle(asked as LocalRequest);
  if (!reply) return refuse(response, 404, "nothing there");
  if ("listen" in reply) return listen(request, response, reply.listen, listeners);
  const body = typeof reply.body === "string" ? Buffer.from(reply.body) : reply.body;
  response.writeHead(reply.status ?? 200, { ...HEADERS, "Content-Type": reply.type, "Content-Length": body.length });
  response.end(body);
}

function refuse(response: ServerResponse, status: number, why: string): void {
  response.writeHead(status, { ...HEADERS, "Content-Type": "text/plain; charset=utf-8" });
  response.end(`refused: ${why}\n`);
}

/** Server-sent events: html.spec.whatwg.org/multipage/server-sent-events.html */
function listen(
  request: IncomingMessage,
  response: ServerResponse,
  begin: (send: (event: unknown) => void) => () => void,
  listeners: Set<() => void>,
): void {
  response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream" });
  response.write(":\n\n");
  const stop = begin((event) => response.write(`data: ${JSON.stringify(event)}\n\n`));
  const alive = setInterval(() => response.write(":\n\n"), ALIVE);
  const end = () => {
    if (!listeners.delete(end)) return;
    clearInterval(alive);
    stop();
    response.end();
  };
  listeners.add(end);
  request.once("close", end);
}

/** Compressed, in base64, for a page that carries its data. */
export const gzipped = (text: string): Promise<string> =>
  new Promise((resolve, reject) =>
    gzip(text, { level: 9 }, (error, bytes) => (error ? reject(error) : resolve(bytes.toString("base64")))),
  );
