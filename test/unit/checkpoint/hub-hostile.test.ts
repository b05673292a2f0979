/** @file A hub that is broken or hostile: the token stays home, content is what its etag says, nothing is waited for without end. */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { resolveModel } from "../../../src/checkpoint/hub.ts";

const SHA = "0123456789abcdef0123456789abcdef01234567";
const TOKEN = "hf_secret";
const CONFIG = '{"model_type":"gpt2"}';
const WEIGHTS = "W".repeat(200_000);
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

type Handler = (request: IncomingMessage, response: ServerResponse, path: string) => boolean;

let dir: string;
let servers: Server[];
/** The hub, and a host that is not the hub. */
let hub: string;
let other: string;
/** `authorization` of every request the other host got, "" without one. */
let seenElsewhere: string[];
/** Answers in place of the well-behaved hub, where it returns true. */
let hostile: Handler;
let elsewhere: Handler;

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(handler);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A file as the hub gives it: the first byte with the size and the hash, or the whole. */
function giveFile(request: IncomingMessage, response: ServerResponse, body: string, etag = sha256(body)): true {
  response.setHeader("etag", `"${etag}"`);
  if (request.headers.range === "bytes=0-0") {
    response.writeHead(206, { "content-range": `bytes 0-0/${body.length}`, "content-length": 1 });
    response.end(body[0]);
  } else response.writeHead(200, { "content-length": body.length }).end(body);
  return true;
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "valuehead-hostile-hub-"));
  for (const name of ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"])
    vi.stubEnv(name, "");
  servers = [];
  seenElsewhere = [];
  hostile = elsewhere = () => false;
  hub = await listen((request, response) => {
    const path = decodeURIComponent((request.url ?? "").split("?")[0]);
    if (hostile(request, response, path)) return;
    if (path.startsWith("/api/")) {
      const siblings = ["config.json", "model.safetensors"].map((rfilename) => ({ rfilename }));
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ _id: "1", id: "owner/model", sha: SHA, siblings, lastModified: "2024-01-01" }));
    } else giveFile(request, response, path.endsWith("config.json") ? CONFIG : WEIGHTS);
  });
  other = await listen((request, response) => {
    seenElsewhere.push(request.headers.authorization ?? "");
    if (!elsewhere(request, response, request.url ?? "")) giveFile(request, response, WEIGHTS);
  });
});

afterEach(async () => {
  vi.unstubAllEnvs();
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  rmSync(dir, { recursive: true, force: true });
});

const resolve = (options = {}) =>
  resolveModel("owner/model", { cacheDir: dir, endpoint: hub, token: TOKEN, patience: 0.5, ...options });

async function problemOf(promise: Promise<unknown>) {
  const error = await promise.then(
    () => null,
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(ValueheadError);
  return (error as ValueheadError).problem;
}

function expectNothingHalf(): void {
  const names = readdirSync(dir, { recursive: true, encoding: "utf8" });
  expect(names.filter((name) => name.includes(".tmp"))).toEqual([]);
  expect(names.filter((name) => name.endsWith("model.safetensors"))).toEqual([]);
}

const isWeights = (path: string) => path.endsWith("model.safetensors");

describe("the token reaches the hub alone", () => {
  test("not a host that the hub redirects to, whatever its cache header says", async () => {
    hostile = (_, response, path) => {
      if (!isWeights(path)) return false;
      response.writeHead(302, { location: `${other}/elsewhere` }).end();
      return true;
    };
    elsewhere = (request, response) => {
      response.setHeader("x-cache", "Hit from cloudfront");
      return giveFile(request, response, WEIGHTS);
    };
    const found = await resolve();
    expect(readFileSync(join(found, "model.safetensors"), "utf8")).toBe(WEIGHTS);
    expect(seenElsewhere.length).toBeGreaterThan(0);
    expect(seenElsewhere.join()).not.toContain(TOKEN);
  });

  test("not a host that xet links name", async () => {
    hostile = (_, response, path) => {
      if (!isWeights(path)) return false;
      response.writeHead(200, {
        "content-type": "application/vnd.xet-fileinfo+json",
        "x-linked-size": WEIGHTS.length,
        "x-linked-etag": `"${sha256(WEIGHTS)}"`,
        "x-xet-hash": "a".repeat(64),
        link: `<${other}/auth>; rel="xet-auth", <${other}/reconstruction>; rel="xet-reconstruction-info"`,
      });
      response.end("{}");
      return true;
    };
    elsewhere = (_, response) => {
      response.writeHead(401, { "content-type": "application/json" }).end('{"error":"who are you?"}');
      return true;
    };
    await problemOf(resolve());
    expect(seenElsewhere.length).toBeGreaterThan(0);
    expect(seenElsewhere.join()).not.toContain(TOKEN);
    expectNothingHalf();
  });
});

describe("content", () => {
  test("that is not what the SHA-256 in its etag says is refused, and not kept", async () => {
    const tampered = WEIGHTS.replace("W", "V");
    hostile = (request, response, path) => isWeights(path) && giveFile(request, response, tampered, sha256(WEIGHTS));
    expect(await problemOf(resolve())).toEqual({
      where: "download of model.safetensors",
      found: `content with the SHA-256 ${sha256(tampered)}`,
      expected: `${sha256(WEIGHTS)}, as its etag says`,
      fix: "try again",
    });
    expectNothingHalf();
    hostile = () => false;
    expect(readFileSync(join(await resolve(), "model.safetensors"), "utf8")).toBe(WEIGHTS);
  });

  test("longer than declared is not read to its end", async () => {
    let written = 0;
    hostile = (request, response, path) => {
      if (!isWeights(path) || request.headers.range === "bytes=0-0") return false;
      response.writeHead(200);
      const more = () => {
        if (response.destroyed) return;
        written += WEIGHTS.length;
        response.write(WEIGHTS, () => setImmediate(more)); // for ever
      };
      more();
      return true;
    };
    expect((await problemOf(resolve())).found).toBe(`more than ${WEIGHTS.length} bytes`);
    expect(written).toBeLessThan(100 * WEIGHTS.length);
    expectNothingHalf();
  });

  test.each(["the listing", "a file"])("no content at all, status 204, for %s", async (which) => {
    hostile = (request, response, path) => {
      const hit = which === "the listing" ? path.startsWith("/api/") : isWeights(path);
      if (!hit || request.headers.range === "bytes=0-0") return false;
      response.writeHead(204).end();
      return true;
    };
    expect((await problemOf(resolve())).found).toMatch(/\(status 204 without content from 127\.0\.0\.1:\d+\)$/);
    expectNothingHalf();
  });
});

describe("silence", () => {
  test("of the listing: an error soon, and the complete copy in the cache where there is one", async () => {
    const found = await resolve();
    hostile = (_, __, path) => path.startsWith("/api/"); // and never answers
    expect(await resolve()).toBe(found);
    const { found: said } = await problemOf(resolve({ cacheDir: join(dir, "empty") }));
    expect(said).toMatch(/^no connection to .* \(no answer from 127\.0\.0\.1:\d+ within 0\.5 seconds\)$/);
  });

  test("in the middle of a file", async () => {
    hostile = (request, response, path) => {
      if (!isWeights(path) || request.headers.range === "bytes=0-0") return false;
      response.writeHead(200, { "content-length": WEIGHTS.length });
      response.write(WEIGHTS.slice(0, 1000)); // and no more
      return true;
    };
    expect((await problemOf(resolve())).found).toMatch(/no answer from .* within 0\.5 seconds/);
    expectNothingHalf();
  });

  test("a server in trouble beside a complete copy: the copy is used", async () => {
    const found = await resolve();
    hostile = (_, response) => {
      response.writeHead(503).end("busy");
      return true;
    };
    expect(await resolve()).toBe(found);
  });

  test("a listing without end", async () => {
    const piece = `"${"x".repeat(1 << 20)}",`;
    hostile = (_, response, path) => {
      if (!path.startsWith("/api/")) return false;
      response.writeHead(200, { "content-type": "application/json" });
      response.write("[");
      const more = () => response.destroyed || response.write(piece, () => setImmediate(more));
      more();
      return true;
    };
    expect((await problemOf(resolve({ patience: 20 }))).found).toMatch(/an answer of more than 64 MB/);
  });
});
