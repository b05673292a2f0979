/** @file What stands for Node in a tab, on the store in memory: Node has no other. In a browser test/browser runs it on OPFS. */
import { expect, test } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import * as checksums from "../../../src/platform/file-checksums.ts";
import { sha256Of } from "../../../src/platform/hash.ts";
import * as webChecksums from "../../../src/platform/web/file-checksums.ts";
import * as web from "../../../src/platform/web/files.ts";
import { randomId, sha256Of as webSha256Of } from "../../../src/platform/web/hash.ts";
import { Tail } from "../../../src/platform/web/live/tail.ts";
import { RunLock, refuseWhereLocked } from "../../../src/platform/web/lock.ts";
import { MemoryStore, store } from "../../../src/platform/web/store.ts";

const files = async () => (await store()) as MemoryStore;
const text = (path: string) => web.readText(path);

test("Node's store is memory", async () => expect(await files()).toBeInstanceOf(MemoryStore));

test.each([
  ["/a/b/../c", "/a/c"],
  ["a//b/.", "/a/b"],
  ["/../x", "/x"],
  [".", "/"],
])("absolutePath(%s) is %s", (path, whole) => expect(web.absolutePath(path)).toBe(whole));

test("parts of paths are Node's", async () => {
  const { posix } = await import("node:path");
  for (const path of ["/a/b.txt", "a/b/", "/a", "a", "../a/b", "/a/../b"]) {
    expect([path, web.baseName(path)]).toEqual([path, posix.basename(path)]);
    expect([path, web.parentDirectory(path)]).toEqual([path, posix.dirname(path)]);
    expect([path, web.joinPath(path, "../x", "y")]).toEqual([path, posix.join(path, "../x", "y")]);
  }
});

test("SHA-256 is Node's, of texts and of bytes", () => {
  const parts = ["Grüße", new Uint8Array([0, 255, 7]), ""];
  expect(webSha256Of(parts)).toBe(sha256Of(parts));
  expect(webChecksums.sha256().update(new Uint8Array(200)).digest("hex")).toBe(
    checksums.sha256().update(new Uint8Array(200)).digest("hex"),
  );
  expect(randomId()).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
});

test("a file appears whole, and one that fails changes nothing", async () => {
  await web.makeDirectory("/w");
  await web.writeTextAtomic("/w/a", "one");
  await expect(
    web.writeAtomic("/w/a", async (sink) => {
      await sink.write(new Uint8Array(3));
      throw new Error("no more");
    }),
  ).rejects.toThrow("no more");
  expect(await text("/w/a")).toBe("one");
  await expect(web.writeTextAtomic("/nowhere/a", "x")).rejects.toThrow(/no such folder/);
});

const fill = (content: string) => async (place: string) => {
  await web.makeDirectory(`${place}/inner`);
  await web.writeTextAtomic(`${place}/inner/a`, content);
  await web.writeTextAtomic(`${place}/b`, content);
};

test("a directory appears, replaces another, and one that fails leaves the old one", async () => {
  await web.makeDirectory("/d");
  await web.writeDirectoryAtomic("/d/x", fill("old"));
  await expect(web.writeDirectoryAtomic("/d/x", fill("new"))).rejects.toThrow(ValueheadError);
  const broken = async (place: string) => {
    await fill("broken")(place);
    throw new Error("tab");
  };
  await expect(web.writeDirectoryAtomic("/d/x", broken, { replace: true })).rejects.toThrow("tab");
  expect([await text("/d/x/b"), await web.listDirectory("/d")]).toEqual(["old", ["x"]]);
  await web.writeDirectoryAtomic("/d/x", fill("new"), { replace: true });
  expect([await text("/d/x/inner/a"), await web.listDirectory("/d/x")]).toEqual(["new", ["b", "inner"]]);
  expect(await web.listDirectory("/d")).toEqual(["x"]);
});

test("a move that a closed tab cut off anywhere is ended later, or the old directory is whole", async () => {
  const real = await files();
  const changes = ["moveFile", "remove", "append", "create", "makeDirectory"] as const;
  const original = Object.fromEntries(changes.map((name) => [name, real[name].bind(real)]));
  let outcomes = "";
  for (let limit = 0; limit < 40; limit++) {
    await web.remove("/m");
    await web.makeDirectory("/m");
    await web.writeDirectoryAtomic("/m/x", fill("old"));
    let done = 0;
    for (const name of changes)
      Object.assign(real, {
        [name]: (...given: unknown[]) => {
          if (done++ >= limit) throw new Error("the tab is closed");
          return (original[name] as (...given: unknown[]) => unknown)(...given);
        },
      });
    const whole = await web.writeDirectoryAtomic("/m/x", fill("new"), { replace: true }).then(
      () => true,
      () => false,
    );
    for (const name of changes) Object.assign(real, { [name]: original[name] });
    await web.removeLeftovers("/m");
    const [a, b] = [await text("/m/x/inner/a"), await text("/m/x/b")];
    expect([limit, a, await web.listDirectory("/m"), await web.listDirectory("/m/x")]).toEqual([
      limit,
      b,
      ["x"],
      ["b", "inner"],
    ]);
    outcomes += whole ? "w" : a[0];
  }
  expect(outcomes).toMatch(/^o+n+w+$/);
});

test("lines are appended in order, and followed as they come", async () => {
  await web.makeDirectory("/l");
  const file = await web.AppendFile.open("/l/lines");
  const tail = new Tail("/l/lines");
  await Promise.all(Array.from({ length: 50 }, (_, i) => file.appendLine(`line ${i}, ä`)));
  const seen: string[] = [];
  for await (const { lines } of tail.next()) seen.push(...lines.map((line) => line.text));
  await file.append(new TextEncoder().encode("half"));
  for await (const { lines } of tail.next()) seen.push(...lines.map((line) => line.text));
  await file.appendLine(" a line");
  for await (const { lines } of tail.next()) {
    seen.push(...lines.map((line) => line.text));
    expect(await tail.lineAt(lines[0].at, lines[0].bytes)).toBe("half a line");
  }
  expect(seen).toEqual([...Array.from({ length: 50 }, (_, i) => `line ${i}, ä`), "half a line"]);
});

test("a directory whose files changed is damaged", async () => {
  await web.makeDirectory("/c");
  await fill("good")("/c");
  await webChecksums.writeChecksums("/c");
  expect(await webChecksums.findDamage("/c")).toBeUndefined();
  await web.writeTextAtomic("/c/inner/a", "bad!");
  expect(await webChecksums.findDamage("/c")).toMatch(/^inner\/a is not what was written/);
  await web.remove("/c/inner/a");
  expect(await webChecksums.findDamage("/c")).toBe("inner/a is missing");
});

test("one run at a time in a directory", async () => {
  const lock = await RunLock.take("/r/run", { create: true });
  await expect(RunLock.take("/r/run")).rejects.toThrow(/a run that is going on there/);
  await expect(refuseWhereLocked("/r/run")).rejects.toThrow(/in this tab or another/);
  await lock.release();
  expect(await web.exists("/r")).toBe(false); // nothing was written there
  await (await RunLock.take("/r/run", { create: true })).release();
});

test.each([
  ["readText", web.readText],
  ["openFile", web.openFile],
  ["listDirectory", web.listDirectory],
])("%s says what it found in place of a file", async (_, read) => {
  await expect(read("/not/there")).rejects.toThrow(/nothing at this path/);
});
