/** @file The sink that docs/sinks.md shows for a tracker sends what its server takes, and says when it does not. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Sink } from "../../src/index.ts";
import { root } from "../support/cli.ts";

test("TrackioSink posts the numbers of each step", async () => {
  const page = readFileSync(join(root, "docs", "sinks.md"), "utf8");
  const [, code] = /```ts\n([^`]*class TrackioSink[\s\S]*?)```/.exec(page) as RegExpExecArray;
  const folder = join(root, ".cache", "docs");
  mkdirSync(folder, { recursive: true });
  const source = code
    .replace('"valuehead"', '"../../src/index.ts"')
    .replace("class TrackioSink", "export class TrackioSink");
  writeFileSync(join(folder, "trackio-sink.ts"), source);
  const { TrackioSink } = await import(/* @vite-ignore */ join(folder, "trackio-sink.ts"));

  const asked: { url?: string; body: unknown }[] = [];
  let status = 200;
  const server = createServer((request, answer) => {
    let text = "";
    request.on("data", (piece) => {
      text += piece;
    });
    request.on("end", () => {
      asked.push({ url: request.url, body: JSON.parse(text) });
      answer.writeHead(status).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const { port } = server.address() as AddressInfo;
    const sink: Sink = new TrackioSink(`http://127.0.0.1:${port}`, "kind", "first");
    await sink.event({ type: "note", message: "not a step" } as never);
    await sink.event({ type: "step", step: 3, steps: 5, metrics: { "env/reward_mean": 0.5 } } as never);
    await sink.close();
    // The fields of trackio's own clients: contrib/README.md there.
    const body = { project: "kind", run: "first", metrics_list: [{ "env/reward_mean": 0.5 }], steps: [3] };
    expect(asked).toEqual([{ url: "/api/bulk_log", body }]);
    status = 503;
    await expect(sink.event({ type: "step", step: 4, steps: 5, metrics: {} } as never)).rejects.toThrow("503");
  } finally {
    server.close();
  }
});
