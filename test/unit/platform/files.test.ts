import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { fail, ValueheadError } from "../../../src/base/errors.ts";
import {
  AppendFile,
  env,
  exists,
  isDirectory,
  isLeftover,
  linkFile,
  listDirectory,
  makeDirectory,
  openFile,
  readJson,
  readLines,
  readText,
  refuseFilledDirectory,
  remove,
  removeLeftovers,
  writeAtomic,
  writeDirectoryAtomic,
  writeTextAtomic,
} from "../../../src/platform/files.ts";

let dir: string;
const at = (name: string) => join(dir, name);
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "valuehead-files-"));
});
afterEach(() => {
  vi.restoreAllMocks();
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

const osError = (code: string) => Object.assign(new Error(`${code}: simulated`), { code, syscall: "write" });

/** Makes every write of a file handle fail as a full disk does, after `count` calls. */
async function fillDisk(count: number) {
  const handle = await open(at("probe"), "w");
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  rmSync(at("probe"));
  const original = prototype.write;
  let calls = 0;
  vi.spyOn(prototype, "write").mockImplementation(function (this: unknown, ...args: unknown[]) {
    if (calls++ >= count) return Promise.reject(osError("ENOSPC"));
    return original.apply(this, args);
  });
}

const lines = async (path: string) => {
  const all: string[] = [];
  for await (const line of readLines(path)) all.push(line);
  return all;
};

describe("reading", () => {
  test("random access", async () => {
    writeFileSync(at("a"), "0123456789");
    const source = await openFile(at("a"));
    expect(source).toMatchObject({ name: at("a"), size: 10 });
    expect(Buffer.from(await source.read(3, 4)).toString()).toBe("3456");
    const target = Buffer.from("..........");
    await source.readInto(8, target.subarray(1, 3));
    expect(target.toString()).toBe(".89.......");
    for (const promise of [source.read(8, 4), source.readInto(8, new Uint8Array(4))]) {
      expect((await errorOf(promise)).message).toBe(
        `${at("a")}: found 10 bytes, expected at least 12 bytes (2 are missing). Fix: the file is cut off: copy or download it again`,
      );
    }
    await source.close();
  });

  test("what is not there, or not a file", async () => {
    expect((await errorOf(openFile(at("no")))).message).toBe(
      `${at("no")}: found nothing at this path, expected a readable file. Fix: check the path`,
    );
    expect((await errorOf(openFile(dir))).problem.found).toBe("a directory");
    expect((await errorOf(readText(dir))).problem.found).toBe("a directory");
    expect((await errorOf(readText(at("no"), "data"))).kind).toBe("data");
    expect((await errorOf(lines(at("no")))).problem.found).toBe("nothing at this path");
    expect((await errorOf(lines(at("no.gz")))).problem.found).toBe("nothing at this path");
    expect((await errorOf(listDirectory(at("no")))).problem.expected).toBe("a readable directory");
    expect(await exists(at("no"))).toBe(false);
    expect(await isDirectory(dir)).toBe(true);
  });

  test("JSON errors name line and column", async () => {
    writeFileSync(at("good.json"), '\ufeff{"a": [1]}');
    expect(await readJson(at("good.json"))).toEqual({ a: [1] });
    writeFileSync(at("bad.json"), '{\n  "a": 1,\n  b: 2\n}');
    expect((await errorOf(readJson(at("bad.json")))).problem.where).toBe(`${at("bad.json")}, line 3, column 3`);
    writeFileSync(at("cut.json"), '{\n"a": [1');
    expect((await errorOf(readJson(at("cut.json")))).problem.where).toBe(`${at("cut.json")}, line 2, column 8`);
    writeFileSync(at("empty.json"), "\n");
    expect((await errorOf(readJson(at("empty.json")))).problem.found).toBe("an empty file");
  });

  test("lines: plain, gzip, CRLF, long, split characters", async () => {
    const long = "é".repeat(300_001); // longer than any chunk of the stream
    const text = `one\r\n\n${long}\nlast`;
    writeFileSync(at("t.txt"), text);
    writeFileSync(at("t.txt.gz"), gzipSync(text));
    const expected = ["one", "", long, "last"];
    expect(await lines(at("t.txt"))).toEqual(expected);
    expect(await lines(at("t.txt.gz"))).toEqual(expected);
    writeFileSync(at("end.txt"), "\ufeffa\nb\n");
    expect(await lines(at("end.txt"))).toEqual(["a", "b"]);
    writeFileSync(at("empty.txt"), "");
    expect(await lines(at("empty.txt"))).toEqual([]);
    for await (const line of readLines(at("t.txt.gz"))) {
      expect(line).toBe("one");
      break;
    }
  });

  test("lines that are not UTF-8, gzip that is broken", async () => {
    writeFileSync(at("l1.txt"), Buffer.from("ok\nna\xefve\n", "latin1"));
    expect((await errorOf(lines(at("l1.txt")))).problem).toMatchObject({
      where: `${at("l1.txt")}, after line 0`,
      found: "bytes that are not UTF-8",
    });
    writeFileSync(at("plain.gz"), "not gzip");
    expect((await errorOf(lines(at("plain.gz")))).problem.found).toMatch(/^broken gzip data/);
    writeFileSync(at("cut.gz"), gzipSync("many words ".repeat(1000)).subarray(0, 40));
    expect((await errorOf(lines(at("cut.gz")))).problem.found).toMatch(/^broken gzip data/);
  });

  test("environment", () => {
    process.env.VALUEHEAD_TEST = "";
    expect(env("VALUEHEAD_TEST")).toBeUndefined();
    process.env.VALUEHEAD_TEST = "x";
    expect(env("VALUEHEAD_TEST")).toBe("x");
    delete process.env.VALUEHEAD_TEST;
  });
});

describe("a file written atomically", () => {
  test("appears whole and replaces the old one", async () => {
    writeFileSync(at("f"), "old");
    const big = new Uint8Array(40_000_000).map((_, i) => i % 251);
    await writeAtomic(at("f"), async (sink) => {
      await sink.write(big);
      expect(readFileSync(at("f"), "utf8")).toBe("old");
      await sink.write(Uint8Array.of(1, 2));
    });
    expect(statSync(at("f")).size).toBe(40_000_002);
    expect(Buffer.from(readFileSync(at("f")).subarray(0, 40_000_000)).equals(Buffer.from(big.buffer))).toBe(true);
    await writeTextAtomic(at("f"), "nëw");
    expect(readFileSync(at("f"), "utf8")).toBe("nëw");
    expect(readdirSync(dir)).toEqual(["f"]);
  });

  test("a failure of the writer keeps the old file and passes the error on", async () => {
    writeFileSync(at("f"), "old");
    const mine = new Error("mine");
    await expect(
      writeAtomic(at("f"), async (sink) => {
        await sink.write(new Uint8Array(100));
        throw mine;
      }),
    ).rejects.toBe(mine);
    expect(readFileSync(at("f"), "utf8")).toBe("old");
    expect(readdirSync(dir)).toEqual(["f"]);
  });

  test("a full disk", async () => {
    writeFileSync(at("f"), "old");
    await fillDisk(1);
    const error = await errorOf(
      writeAtomic(at("f"), async (sink) => {
        await sink.write(new Uint8Array(100));
        await sink.write(new Uint8Array(100));
      }),
    );
    expect(error.kind).toBe("checkpoint");
    expect(error.message).toBe(
      `${at("f")}: found a full disk (ENOSPC), expected room to write it. ` +
        "Fix: free some space or choose another place (what was there before is intact)",
    );
    expect(readFileSync(at("f"), "utf8")).toBe("old");
    expect(readdirSync(dir)).toEqual(["f"]);
  });

  test("a quota, and a file larger than is allowed", async () => {
    const failing = (code: string) =>
      errorOf(
        writeAtomic(at("f"), async () => {
          throw osError(code);
        }),
      );
    expect((await failing("EDQUOT")).problem.found).toBe("an exhausted disk quota (EDQUOT)");
    expect((await failing("EFBIG")).message).toBe(
      `${at("f")}: found a file larger than the system lets this process write (EFBIG), expected room to write it. ` +
        "Fix: raise the limit (ulimit -f) or choose another place (what was there before is intact)",
    );
  });

  test("a place that cannot be written", async () => {
    expect((await errorOf(writeTextAtomic(at("no/f"), "x"))).problem).toMatchObject({
      where: at("no/f"),
      found: "no such folder",
    });
    mkdirSync(at("d"));
    expect((await errorOf(writeTextAtomic(at("d"), "x"))).problem.found).toBe("a directory");
    writeFileSync(at("file"), "");
    expect((await errorOf(makeDirectory(at("file/sub")))).problem.found).toBe("a file where a directory is needed");
    expect(readdirSync(dir)).toEqual(["d", "file"]);
  });
});

describe("a directory written atomically", () => {
  const fill = async (tmp: string) => {
    await writeTextAtomic(join(tmp, "a"), "A");
    await makeDirectory(join(tmp, "sub"));
    await writeTextAtomic(join(tmp, "sub/b"), "B");
    expect(existsSync(join(tmp, "../checkpoint-1/sub"))).toBe(false);
  };

  test("appears whole", async () => {
    await writeDirectoryAtomic(at("checkpoint-1/"), fill);
    expect(readFileSync(at("checkpoint-1/sub/b"), "utf8")).toBe("B");
    expect(readdirSync(dir)).toEqual(["checkpoint-1"]);
    const error = await errorOf(writeDirectoryAtomic(at("checkpoint-1"), fill));
    expect(error.problem.found).toBe("a directory with 2 entries (a, sub)");
  });

  test.skipIf(process.platform !== "linux")(
    "every file and directory is flushed before it, its name after it",
    async () => {
      const handle = await open(dir);
      const prototype = Object.getPrototypeOf(handle);
      await handle.close();
      const { sync } = prototype;
      const flushed: string[] = [];
      vi.spyOn(prototype, "sync").mockImplementation(function (this: unknown) {
        const path = readlinkSync(`/proc/self/fd/${(this as { fd: number }).fd}`).slice(dir.length + 1);
        flushed.push(
          `${existsSync(at("checkpoint-1")) ? "after" : "before"} ${path.replace(/\.tmp-\d+(-\d+)?/g, "~")}`,
        );
        return sync.call(this);
      });
      await writeDirectoryAtomic(at("checkpoint-1"), fill);
      for (const path of ["checkpoint-1~", "checkpoint-1~/a", "checkpoint-1~/sub", "checkpoint-1~/sub/b"])
        expect(flushed).toContain(`before ${path}`);
      expect(flushed.filter((entry) => entry.startsWith("after"))).toEqual(["after "]);
    },
  );

  test("replace: the old one stays until the new one is whole", async () => {
    mkdirSync(at("best"));
    writeFileSync(at("best/old"), "old");
    const write = (content: (tmp: string) => Promise<void>) =>
      writeDirectoryAtomic(at("best"), content, { replace: true });
    await errorOf(
      write(async (tmp) => {
        await writeTextAtomic(join(tmp, "a"), "A");
        fail("numbers", { where: "w", found: "f", expected: "e", fix: "x" });
      }),
    );
    expect(readdirSync(at("best"))).toEqual(["old"]);
    await write(async (tmp) => writeTextAtomic(join(tmp, "new"), "new"));
    expect(readdirSync(at("best"))).toEqual(["new"]);
    expect(readdirSync(dir)).toEqual(["best"]);
  });

  test("a full disk is told under the final name and leaves nothing", async () => {
    await fillDisk(1);
    const error = await errorOf(writeDirectoryAtomic(at("checkpoint-1"), fill));
    expect(error.problem.where).toBe(at("checkpoint-1/sub/b"));
    expect(error.problem.found).toMatch(/^a full disk \(ENOSPC\): \d+\.\d MB free$/);
    expect(readdirSync(dir)).toEqual([]);
  });
});

describe("removing", () => {
  test("a directory, a file, what is not there", async () => {
    mkdirSync(at("d/sub"), { recursive: true });
    writeFileSync(at("d/sub/x"), "");
    writeFileSync(at("f"), "");
    for (const name of ["d", "f", "no"]) await remove(at(name));
    expect(readdirSync(dir)).toEqual([]);
  });

  test("leftovers of killed processes; one that was about to be replaced gets its name back", async () => {
    for (const name of ["c-1.tmp-7", "c-2.old-7", "c-3.old-7", "c-3", "e.tmp-x", "log.tmp"]) mkdirSync(at(name));
    writeFileSync(at("m.json.tmp-7-0"), "");
    expect(["c-1.tmp-7", "m.json.tmp-7-0", "c-2.old-7", "c-3", "e.tmp-x", "log.tmp"].map(isLeftover)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    await removeLeftovers(dir);
    expect(readdirSync(dir).sort()).toEqual(["c-2", "c-3", "e.tmp-x", "log.tmp"]);
    await removeLeftovers(at("no"));
  });
});

describe("output directory", () => {
  test.runIf(process.platform === "linux")(
    "where none can be made: said at once, and not as a missing folder",
    async () => {
      for (const path of ["/proc/none", "/proc/none/deeper"]) {
        const { problem } = await errorOf(makeDirectory(path));
        expect(problem).toMatchObject({ where: path, found: "a folder in which nothing can be made" });
      }
      const { problem } = await errorOf(writeTextAtomic("/proc/none", "x"));
      expect(problem.found).not.toBe("no such folder");
      expect((await errorOf(writeTextAtomic(at("gone/x"), "x"))).problem.found).toBe("no such folder");
    },
  );

  test("new, empty, taken", async () => {
    await refuseFilledDirectory(at("a/b"));
    expect(existsSync(at("a"))).toBe(false);
    expect(await makeDirectory(at("a/b"))).toBe(at("a"));
    expect(await makeDirectory(at("a/b"))).toBeUndefined();
    await refuseFilledDirectory(at("a/b"));
    writeFileSync(at("a/b/x"), "");
    await refuseFilledDirectory(at("a/b"), (name) => name === "x");
    const error = await errorOf(refuseFilledDirectory(at("a/b")));
    expect(error.kind).toBe("usage");
    expect(error.message).toBe(
      `${at("a/b")}: found a directory with 1 entries (x), expected a new or empty directory. ` +
        "Fix: choose another output directory, empty this one, or continue the run in it with --resume",
    );
    expect((await errorOf(refuseFilledDirectory(at("a/b/x")))).problem.found).toBe("a file");
  });
});

describe("append-only files", () => {
  test("lines in the order of the calls, across openings, after a cut-off line", async () => {
    writeFileSync(at("m.jsonl"), '{"step":1}\n{"st');
    const file = await AppendFile.open(at("m.jsonl"));
    void file.appendLine("a");
    void file.appendLines(["b", "c"]);
    await file.flush();
    expect(readFileSync(at("m.jsonl"), "utf8")).toBe('{"step":1}\n{"st\na\nb\nc\n');
    await file.close();
    const again = await AppendFile.open(at("m.jsonl"));
    await again.appendLine("d");
    await again.close();
    expect(readFileSync(at("m.jsonl"), "utf8")).toMatch(/c\nd\n$/);
  });

  test.skipIf(!existsSync("/dev/full"))("a full disk is an error, and the next line is tried again", async () => {
    const file = await AppendFile.open("/dev/full");
    expect((await errorOf(file.appendLine("x"))).problem.found).toBe("a full disk (ENOSPC)");
    expect((await errorOf(file.appendLine("y"))).kind).toBe("checkpoint");
    await file.close();
  });

  test("no permission or no folder", async () => {
    expect((await errorOf(AppendFile.open(at("no/m.jsonl")))).problem.found).toBe("no such folder");
    if (process.getuid?.() !== 0) {
      chmodSync(dir, 0o500);
      expect((await errorOf(AppendFile.open(at("m")))).problem.found).toBe("no permission (EACCES)");
      chmodSync(dir, 0o700);
    }
  });
});

test("a link is another name and replaces one that is there", async () => {
  mkdirSync(at("blobs"));
  mkdirSync(at("snap"));
  writeFileSync(at("blobs/1"), "1");
  writeFileSync(at("blobs/2"), "2");
  await linkFile(at("blobs/1"), at("snap/x"));
  await linkFile(at("blobs/2"), at("snap/x"));
  expect(readFileSync(at("snap/x"), "utf8")).toBe("2");
  expect(readFileSync(at("blobs/1"), "utf8")).toBe("1");
});

test("a text file of any size is not read whole", async () => {
  await expect(readText("/dev/zero")).rejects.toThrow(
    /^\/dev\/zero: found more than 256 MiB of text, expected a smaller file/,
  );
});
