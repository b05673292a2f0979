/** @file An adapter on a hub, whose base is on it too: against a server of this test. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { loadModel } from "../../../src/families/index.ts";
import { goldenPath } from "../../support/golden.ts";

const SHA = "0123456789abcdef0123456789abcdef01234567";
const dir = mkdtempSync(join(tmpdir(), "valuehead-peft-hub-"));
const adapterFiles = goldenPath("lora/gpt2-all-linear");
const named = (base: string) => {
  const json = JSON.parse(readFileSync(join(adapterFiles, "adapter_config.json"), "utf8"));
  return Buffer.from(JSON.stringify({ ...json, base_model_name_or_path: base }));
};
const filesOf = (path: string) => new Map(readdirSync(path).map((file) => [file, readFileSync(join(path, file))]));
const repositories = new Map([
  ["owner/base", filesOf(goldenPath("gpt2-tiny"))],
  ["owner/adapter", filesOf(adapterFiles).set("adapter_config.json", named("owner/base"))],
  ["owner/lost", filesOf(adapterFiles).set("adapter_config.json", named("owner/nothing"))],
]);
const asked: string[] = [];

const server = createServer((request, response) => {
  const url = decodeURIComponent((request.url ?? "").split("?")[0]);
  const [, id, file] = /^\/(?:api\/models\/)?(\w+\/\w+)\/(?:revision\/\w+|resolve\/\w+\/(.+))$/.exec(url) ?? [];
  const files = repositories.get(id);
  const body = file === undefined ? undefined : files?.get(file);
  if (!files || (file !== undefined && !body)) {
    response.writeHead(404, { "content-type": "application/json" });
    response.end('{"error":"Repository not found"}');
  } else if (!body) {
    const siblings = [...files.keys()].map((rfilename) => ({ rfilename }));
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ _id: "1", id, sha: SHA, siblings, lastModified: "2026-01-01" }));
  } else {
    if (request.headers.range === undefined && request.method === "GET") asked.push(`${id}/${file}`);
    response.setHeader("etag", `"${file.replace(/\W/g, "-")}-${body.length}"`);
    if (request.headers.range === "bytes=0-0") {
      response.writeHead(206, { "content-range": `bytes 0-0/${body.length}`, "content-length": 1 });
      response.end(body.subarray(0, 1));
    } else {
      response.writeHead(200, { "content-length": body.length });
      response.end(request.method === "HEAD" ? undefined : body);
    }
  }
});

beforeAll(async () => {
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  for (const name of ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"]) vi.stubEnv(name, "");
  vi.stubEnv("HF_HOME", dir);
  vi.stubEnv("HF_ENDPOINT", `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
afterAll(() => {
  vi.unstubAllEnvs();
  server.close();
  rmSync(dir, { recursive: true, force: true });
});

test("its id brings the adapter and its base, once, and what is saved names the base by its id", async () => {
  const model = await loadModel("owner/adapter", { threads: 1 });
  const local = await loadModel(goldenPath("gpt2-tiny"), { adapter: adapterFiles, engine: model.engine });
  expect(model.adapter?.rank).toBe(4);
  expect(model.baseName).toBe("owner/base");
  for (const { name } of local.parameters.table)
    if (!name.startsWith("v_head.")) expect(model.parameters.view(name), name).toEqual(local.parameters.view(name));
  expect(asked).toEqual(
    expect.arrayContaining(["owner/adapter/adapter_config.json", "owner/adapter/adapter_model.safetensors"]),
  );
  expect(asked).toEqual(expect.arrayContaining(["owner/base/config.json", "owner/base/model.safetensors"]));
  const before = asked.length;
  await loadModel("owner/adapter", { engine: model.engine });
  expect(asked).toHaveLength(before);
  await model.savePretrained(join(dir, "saved"));
  const written = JSON.parse(readFileSync(join(dir, "saved", "adapter_config.json"), "utf8"));
  expect(written.base_model_name_or_path).toBe("owner/base");
  expect((await loadModel(join(dir, "saved"), { engine: model.engine })).baseName).toBe("owner/base");
  model.dispose();
});

test("a base that the hub has not: which adapter names it, and how to give another", async () => {
  const error = await loadModel("owner/lost").catch(({ message }) => message);
  expect(error).toMatch(/adapter_config\.json, base_model_name_or_path: .*owner\/nothing/);
  expect(error).toMatch(/or give it: --model BASE --adapter /);
});
