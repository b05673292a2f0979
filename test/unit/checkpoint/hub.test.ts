import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { type DownloadProgress, resolveModel } from "../../../src/checkpoint/hub.ts";

const SHA = "0123456789abcdef0123456789abcdef01234567";

let dir: string;
let server: Server;
let endpoint: string;
let requests: string[];
/** The fake hub: files by name of the one model `owner/model`, and what to break. */
let files: Record<string, string>;
let broken: { status?: number; cutFile?: string; shortFile?: string };

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "valuehead-hub-"));
  for (const name of [
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
  ]) {
    vi.stubEnv(name, "");
  }
  requests = [];
  broken = {};
  files = {
    "config.json": '{"model_type":"gpt2"}',
    "tokenizer.json": "{}",
    "model.safetensors": "W".repeat(300_000),
    "pytorch_model.bin": "never fetched",
    "README.md": "never fetched",
  };
  server = createServer((request, response) => {
    const url = decodeURIComponent((request.url ?? "").split("?")[0]);
    requests.push(
      `${request.method} ${url}${request.headers.authorization ? ` ${request.headers.authorization}` : ""}`,
    );
    const [, revision] = /^\/api\/models\/owner\/model\/revision\/(.+)$/.exec(url) ?? [];
    const [, file] = new RegExp(`^/owner/model/resolve/${SHA}/(.+)$`).exec(url) ?? [];
    if (
      broken.status !== undefined ||
      (revision !== "main" && revision !== "v1" && revision !== SHA && !(file in files))
    ) {
      response.writeHead(broken.status ?? 404, { "content-type": "application/json" });
      response.end('{"error":"Repository not found"}');
    } else if (revision !== undefined) {
      const siblings = Object.keys(files).map((rfilename) => ({ rfilename }));
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ _id: "1", id: "owner/model", sha: SHA, siblings, lastModified: "2024-01-01" }));
    } else {
      const body = files[file];
      response.setHeader("etag", `"${file.replace(/[./]/g, "-")}-${body.length}"`);
      if (request.headers.range === "bytes=0-0") {
        response.writeHead(206, { "content-range": `bytes 0-0/${body.length}`, "content-length": 1 });
        response.end(body[0]);
      } else if (broken.cutFile === file) {
        response.writeHead(200, { "content-length": body.length });
        response.write(body.slice(0, body.length / 2), () => response.destroy());
      } else if (broken.shortFile === file) {
        response.end(body.slice(1));
      } else {
        response.writeHead(200, { "content-length": body.length });
        response.end(body);
      }
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  vi.unstubAllEnvs();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(dir, { recursive: true, force: true });
});

async function errorOf(promise: Promise<unknown>): Promise<ValueheadError> {
  const error = await promise.then(
    () => null,
    (thrown) => thrown,
  );
  expect(error).toBeInstanceOf(ValueheadError);
  return error;
}

const resolve = (id: string, options = {}) => resolveModel(id, { cacheDir: dir, endpoint, ...options });
const folder = () => join(dir, "models--owner--model");

describe("without the hub", () => {
  test("a directory is itself", async () => {
    expect(await resolve(dir)).toBe(dir);
    expect(requests).toEqual([]);
  });

  test("paths and nonsense", async () => {
    for (const id of ["./no", "/no/such", "~/model", "../x", "a/b/c", "gone/", "C:\\models", "model.safetensors", ""]) {
      expect((await errorOf(resolve(id))).problem, id).toMatchObject({ found: "no such directory" });
    }
    for (const id of ["a b", "a--b/c", "owner/model@", "owner/model@a..b", "owner/model@x y", "é"]) {
      expect((await errorOf(resolve(id))).problem, id).toMatchObject({ found: "neither a directory nor a hub id" });
    }
    writeFileSync(join(dir, "w.safetensors"), "");
    const error = await errorOf(resolve(join(dir, "w.safetensors")));
    expect(error.kind).toBe("usage");
    expect(error.problem).toMatchObject({ found: "a file", fix: `give its directory: ${dir}` });
    expect(requests).toEqual([]);
  });
});

describe("downloads", () => {
  test("fetches what is needed into the cache's layout, once, and then works offline", async () => {
    const log = vi.spyOn(console, "debug");
    const progress: DownloadProgress[] = [];
    const found = await resolve("owner/model", {
      onProgress: (p: DownloadProgress) => progress.push(p),
      token: "hf_x",
    });
    expect(found).toBe(join(folder(), "snapshots", SHA));
    expect(readdirSync(found).sort()).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    expect(readFileSync(join(found, "model.safetensors"), "utf8")).toBe(files["model.safetensors"]);
    expect(lstatSync(join(found, "config.json")).isSymbolicLink()).toBe(true);
    expect(readdirSync(join(folder(), "blobs")).length).toBe(3);
    expect(readFileSync(join(folder(), "refs/main"), "utf8")).toBe(SHA);
    expect(progress.at(-1)).toEqual({ file: "model.safetensors", received: 300_000, total: 300_000 });
    expect(requests.every((line) => line.endsWith("Bearer hf_x"))).toBe(true);
    expect(log).not.toHaveBeenCalled();

    requests = [];
    expect(await resolve("owner/model")).toBe(found);
    expect(requests).toEqual(["GET /api/models/owner/model/revision/main"]);
    requests = [];
    expect(await resolve("owner/model", { offline: true })).toBe(found);
    expect(await resolve(`owner/model@${SHA}`)).toBe(found);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect(await resolve("owner/model")).toBe(found);
    expect(requests).toEqual([]);
    vi.stubEnv("HF_HUB_OFFLINE", "");
    expect(await resolve("owner/model@v1")).toBe(found);
    expect(readFileSync(join(folder(), "refs/v1"), "utf8")).toBe(SHA);

    // No network: what is there is used, and what is not is an error.
    await new Promise((done) => {
      server.closeAllConnections();
      server.close(done);
    });
    expect(await resolve("owner/model")).toBe(found);
    const error = await errorOf(resolve("owner/other"));
    expect(error.problem.found).toBe(`no connection to ${endpoint} (ECONNREFUSED)`);
    server.listen(0);
  });

  test("what belongs to a tokenizer: templates, licence, older files, and no other file", async () => {
    const wanted = [
      "LICENSE",
      "additional_chat_templates/tools.jinja",
      "chat_template.jinja",
      "spiece.model",
      "vocab.txt",
    ];
    for (const name of wanted) files[name] = `contents of ${name}`;
    files["additional_chat_templates/notes.md"] = files["onnx/model.onnx"] = "never fetched";
    const found = await resolve("owner/model");
    const names = readdirSync(found, { recursive: true, encoding: "utf8" }).filter((name) => name.includes("."));
    for (const name of wanted) expect(readFileSync(join(found, name), "utf8")).toBe(files[name]);
    expect(names).not.toContain("README.md");
    expect(names).not.toContain("additional_chat_templates/notes.md");
    expect(names).not.toContain("onnx/model.onnx");
  });

  test("shards", async () => {
    delete files["model.safetensors"];
    files["model.safetensors.index.json"] = '{"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}}';
    files["x-1.safetensors"] = "1";
    files["x-2.safetensors"] = "22";
    const found = await resolve("owner/model");
    expect(readFileSync(join(found, "x-2.safetensors"), "utf8")).toBe("22");
    rmSync(join(found, "x-1.safetensors"));
    expect((await errorOf(resolve("owner/model", { offline: true }))).problem.found).toMatch(/no complete copy in/);
    expect(await resolve("owner/model")).toBe(found);
    expect(readFileSync(join(found, "x-1.safetensors"), "utf8")).toBe("1");
  });

  test("the environment: HF_ENDPOINT, HF_HOME, HF_TOKEN", async () => {
    vi.stubEnv("HF_ENDPOINT", `${endpoint}/`);
    vi.stubEnv("HF_HOME", join(dir, "home"));
    vi.stubEnv("HF_TOKEN", "hf_env");
    expect(await resolveModel("owner/model")).toBe(join(dir, "home/hub/models--owner--model/snapshots", SHA));
    expect(requests[0]).toBe("GET /api/models/owner/model/revision/main Bearer hf_env");
    vi.stubEnv("HF_HUB_CACHE", join(dir, "other"));
    expect(await resolveModel("owner/model")).toBe(join(dir, "other/models--owner--model/snapshots", SHA));
  });

  test("a connection lost in the middle leaves nothing half, and the next try is whole", async () => {
    broken.cutFile = "model.safetensors";
    const error = await errorOf(resolve("owner/model"));
    expect(error.problem.where).toBe('model "owner/model"');
    expect(readdirSync(join(folder(), "blobs")).filter((name) => /^model|tmp/.test(name))).toEqual([]);
    expect((await errorOf(resolve("owner/model", { offline: true }))).message).toBe(
      `model "owner/model": found offline mode, and no complete copy in ${folder()}, ` +
        "expected a model directory or a model that was downloaded before. " +
        "Fix: run once with network (and without HF_HUB_OFFLINE), or copy the model here and give its path",
    );
    broken = {};
    const found = await resolve("owner/model");
    expect(readFileSync(join(found, "model.safetensors"), "utf8")).toBe(files["model.safetensors"]);
  });

  test("a file of another size than announced", async () => {
    broken.shortFile = "model.safetensors";
    expect((await errorOf(resolve("owner/model"))).message).toBe(
      "download of model.safetensors: found 299999 bytes, then the end, expected 300000 bytes. Fix: try again",
    );
  });

  test("what is in the cache under another revision is not fetched again", async () => {
    const found = await resolve("owner/model");
    rmSync(found, { recursive: true });
    const fetched: string[] = [];
    expect(await resolve("owner/model", { onProgress: ({ file }: DownloadProgress) => fetched.push(file) })).toBe(
      found,
    );
    expect(readFileSync(join(found, "model.safetensors"), "utf8")).toBe(files["model.safetensors"]);
    expect(fetched).toEqual([]);
  });

  test("unknown, private, gated, out of order", async () => {
    expect((await errorOf(resolve("no/model"))).message).toBe(
      `model "no/model": found no such directory here, and status 404 from ${endpoint} for no/model at revision main, ` +
        "expected a model directory, or the id of a public model. " +
        "Fix: check the spelling of id and revision; for a private or gated model set HF_TOKEN",
    );
    expect((await errorOf(resolve("owner/model@v9"))).message).toContain("for owner/model at revision v9");
    broken.status = 401;
    expect((await errorOf(resolve("owner/model"))).message).toContain("status 401");
    broken.status = 403;
    expect((await errorOf(resolve("owner/model"))).problem.fix).toMatch(/accept the model's terms/);
    broken.status = 503;
    expect((await errorOf(resolve("owner/model"))).problem.found).toMatch(/^a failed download from/);
    expect((await errorOf(resolve("owner/model", { token: "wrong" }))).message).toContain("must start with 'hf_'");
  });

  test("repositories without safetensors or without config", async () => {
    delete files["model.safetensors"];
    const error = await errorOf(resolve("owner/model"));
    expect(error.problem.found).toBe("no safetensors weights");
    expect(error.problem.fix).toMatch(/convert it once: python -c/);
    delete files["config.json"];
    expect((await errorOf(resolve("owner/model"))).problem.found).toBe("no config.json");
  });

  test("a cache that was touched: a ref to nowhere is not trusted", async () => {
    mkdirSync(join(folder(), "refs"), { recursive: true });
    writeFileSync(join(folder(), "refs/main"), "../..");
    mkdirSync(join(folder(), "snapshots"));
    for (const name of ["config.json", "model.safetensors"]) writeFileSync(join(dir, name), "");
    expect((await errorOf(resolve("owner/model", { offline: true }))).problem.found).toMatch(/no complete copy/);
  });
});
