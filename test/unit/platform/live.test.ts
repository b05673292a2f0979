/** @file The server of the page: who gets an answer, and files that grow. */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LocalServer, sameToken, serveLocal } from "../../../src/platform/live/server.ts";
import { Tail } from "../../../src/platform/live/tail.ts";

/** A request with any headers, which fetch would not send. */
function ask(port: number, method: string, headers: Record<string, string>, path = "/") {
  return new Promise<{ status: number; body: string; headers: NodeJS.Dict<string | string[]> }>((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, method, path, headers }, (response) => {
      let body = "";
      response.on("data", (piece) => {
        body += piece;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body, headers: response.headers }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

describe("the server", () => {
  let server: LocalServer;
  beforeAll(async () => {
    server = await serveLocal(0, async ({ path }) =>
      path === "/missing" ? undefined : { type: "text/plain", body: "secret" },
    );
  });
  afterAll(() => server.close());
  const own = () => ({ Host: `127.0.0.1:${server.port}` });

  test("answers 127.0.0.1 and localhost, with a policy and no word of other origins", async () => {
    for (const Host of [own().Host, `localhost:${server.port}`]) {
      const { status, body, headers } = await ask(server.port, "GET", { Host });
      expect([status, body]).toEqual([200, "secret"]);
      expect(headers["content-security-policy"]).toContain("default-src 'self'");
      expect(headers["x-content-type-options"]).toBe("nosniff");
      expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
    }
    expect((await ask(server.port, "GET", own(), "/missing")).status).toBe(404);
  });

  test.each<[string, string, Record<string, string>, RegExp]>([
    ["another host", "GET", { Host: "evil.example" }, /another host/],
    ["a host that begins alike", "GET", { Host: "127.0.0.1.evil.example" }, /another host/],
    ["another port", "GET", { Host: "127.0.0.1:1" }, /another host/],
    ["another origin", "GET", { Origin: "https://evil.example" }, /another origin/],
    ["the origin of a file", "GET", { Origin: "null" }, /another origin/],
    ["another port's origin", "GET", { Origin: "http://127.0.0.1:1" }, /another origin/],
    ["a POST without an origin", "POST", {}, /another origin/],
    ["a POST of another origin", "POST", { Origin: "https://evil.example" }, /another origin/],
    [
      "an image or script of another site",
      "GET",
      { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors" },
      /site/,
    ],
    [
      "a frame of another site",
      "GET",
      { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe" },
      /site/,
    ],
    ["a preflight", "OPTIONS", { Origin: "https://evil.example" }, /another origin/],
  ])("refuses %s", async (_, method, headers, why) => {
    const { status, body, headers: answered } = await ask(server.port, method, { ...own(), ...headers });
    expect(status).toBe(403);
    expect(body).toMatch(why);
    expect(body).not.toContain("secret");
    expect(Object.keys(answered).filter((name) => name.startsWith("access-control"))).toEqual([]);
  });

  test("a link from elsewhere opens the page", async () => {
    const followed = { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document" };
    expect((await ask(server.port, "GET", { ...own(), ...followed })).status).toBe(200);
  });

  test("a port that is taken is a usage error with a way out", async () => {
    const second = serveLocal(server.port, async () => undefined);
    await expect(second).rejects.toMatchObject({
      kind: "usage",
      problem: { found: expect.stringMatching("another program") },
    });
  });
});

test("tokens are equal or not, and an empty one is none", () => {
  expect(sameToken("abc", "abc")).toBe(true);
  for (const other of ["abd", "ab", "", "abcd"]) expect(sameToken(other, "abc")).toBe(false);
  expect(sameToken("", "")).toBe(false);
});

describe("a file that grows", () => {
  const directory = mkdtempSync(join(tmpdir(), "valuehead-tail-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  test("gives whole lines once, waits for the rest of one, and begins again when it is another file", async () => {
    const path = join(directory, "lines");
    const tail = new Tail(path);
    const read = async () => {
      const all: (string | true)[] = [];
      for await (const { restarted, lines } of tail.next()) {
        if (restarted) all.push(true);
        all.push(...lines.map(({ text }) => text));
      }
      return all;
    };
    expect(await read()).toEqual([]);
    writeFileSync(path, "one\ntw");
    expect(await read()).toEqual(["one"]);
    appendFileSync(path, "ö\nthree\n");
    expect(await read()).toEqual(["twö", "three"]);
    expect(await read()).toEqual([]);
    expect(await tail.lineAt(4, 4)).toBe("twö");
    expect(await tail.lineAt(400, 4)).toBeUndefined();
    writeFileSync(path, "new\n");
    expect(await read()).toEqual([true, "new"]);
  });
});
