/** @file A hub that takes uploads, as much of it as @huggingface/hub needs: repositories, preupload, git-lfs batches, commits. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll } from "vitest";

export interface FakeHub {
  url: string;
  /** Repositories by name: files by path, and how they were made. */
  repositories: Map<string, { visibility?: string; files: Map<string, Buffer>; commits: string[] }>;
  /** Every request: method and path, and whether it had the token. */
  requests: { line: string; authorized: boolean }[];
  /** What to answer instead, by the beginning of `METHOD /path`. */
  answers: Map<string, { status: number; error?: string } | "hang">;
}

export const TOKEN = "hf_for_this_test_only";

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** It lives as long as the test file. */
export async function fakeHub(): Promise<FakeHub> {
  const hub: FakeHub = { url: "", repositories: new Map(), requests: [], answers: new Map() };
  const objects = new Map<string, Buffer>();
  const send = (response: ServerResponse, value: unknown, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(request.url ?? "");
    const line = `${request.method} ${path}`;
    const authorized = request.headers.authorization === `Bearer ${TOKEN}`;
    hub.requests.push({ line, authorized });
    const body = await bodyOf(request);
    const forced = [...hub.answers].find(([start]) => line.startsWith(start))?.[1];
    if (forced === "hang") return;
    if (forced) return send(response, { error: forced.error ?? "no" }, forced.status);
    const upload = /^PUT \/lfs\/(\w+)$/.exec(line);
    if (upload) {
      objects.set(upload[1], body);
      return response.writeHead(200).end();
    }
    if (!authorized) return send(response, { error: "Invalid credentials" }, 401);
    if (line === "POST /api/repos/create") {
      const { name, organization, visibility } = JSON.parse(body.toString());
      const id = `${organization}/${name}`;
      if (hub.repositories.has(id)) return send(response, { error: "You already created this model repo" }, 409);
      hub.repositories.set(id, { visibility, files: new Map(), commits: [] });
      return send(response, { url: `${hub.url}/${id}`, id });
    }
    const [, name = ""] = /^POST \/(?:api\/models\/)?([\w.-]+\/[\w.-]+?)(?:\.git)?\//.exec(line) ?? [];
    const repository = hub.repositories.get(name);
    if (!repository) return send(response, { error: "Repository not found" }, 404);
    if (line.endsWith("/preupload/main")) {
      const { files } = JSON.parse(body.toString());
      const mode = (file: string) => (/\.(safetensors|onnx)$/.test(file) ? "lfs" : "regular");
      return send(response, {
        files: files.map((file: { path: string }) => ({
          path: file.path,
          uploadMode: mode(file.path),
          shouldIgnore: false,
        })),
      });
    }
    if (line.endsWith("/info/lfs/objects/batch")) {
      const wanted = JSON.parse(body.toString()).objects as { oid: string; size: number }[];
      const place = (oid: string) => ({ upload: { href: `${hub.url}/lfs/${oid}` } });
      const list = wanted.map(({ oid, size }) => ({ oid, size, ...(objects.has(oid) ? {} : { actions: place(oid) }) }));
      return send(response, { transfer: "basic", objects: list });
    }
    if (line.endsWith("/commit/main")) {
      for (const row of body.toString().trim().split("\n")) {
        const { key, value } = JSON.parse(row);
        if (key === "header") repository.commits.push(value.summary);
        else if (key === "file") repository.files.set(value.path, Buffer.from(value.content, "base64"));
        else if (key === "lfsFile") {
          const object = objects.get(value.oid);
          const sum = object && createHash("sha256").update(object).digest("hex");
          if (!object || sum !== value.oid) return send(response, { error: `no object ${value.oid}` }, 400);
          repository.files.set(value.path, object);
        }
      }
      return send(response, {
        success: true,
        commitOid: "0".repeat(40),
        commitUrl: `${hub.url}/${name}/commit/0`,
        hookOutput: "",
      });
    }
    return send(response, { error: `nothing at ${line}` }, 404);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  afterAll(() => new Promise((resolve) => server.closeAllConnections() ?? server.close(resolve)));
  hub.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return hub;
}
