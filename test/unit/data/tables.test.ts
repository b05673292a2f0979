import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { RNG } from "../../../src/base/rng.ts";
import { openTable } from "../../../src/data/tables.ts";
import { packagePath } from "../../../src/platform/files.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-tables-"));
afterAll(() => rmSync(directory, { recursive: true }));
const write = (name: string, content: string | Uint8Array) => {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
};
async function* readRows(path: string) {
  const table = await openTable(path);
  if (table.kind !== "txt") yield* table.rows;
}
const read = async (path: string) => {
  const values: unknown[] = [];
  for await (const { value } of readRows(path)) values.push(value);
  return values;
};
const places = async (path: string) => {
  const where: string[] = [];
  for await (const row of readRows(path)) where.push(row.where.slice(path.length + 2));
  return where;
};
const rejects = (path: string, message: string) => expect(read(path)).rejects.toThrow(`${path}${message}`);

describe("CSV and TSV", () => {
  it("a table that does not fit in memory, from a small file", async () => {
    const piece = gzipSync(`${"x".repeat(1 << 20)}\n`.repeat(16)); // a gzip file may have many parts, one after another
    const path = write("bomb.csv.gz", Buffer.concat(new Array(17).fill(piece)));
    await rejects(path, ", line 256: found more than 256 MiB of text, expected a table that fits in memory");
  }, 60_000);

  const content = 'text,label\r\n"one, ""two""\r\nthree",1\r\n\r\n  four ,\r\n" ",""\r\n\u00e9,0';
  const rows = [
    { text: 'one, "two"\nthree', label: "1" },
    { text: "  four ", label: "" },
    { text: "é", label: "0" },
  ];

  it("quotes, commas and line ends in fields, blank rows left out, cells as written", async () => {
    expect(await read(write("a.csv", `\uFEFF${content}`))).toEqual(rows);
    expect(await read(write("a.csv.gz", gzipSync(content)))).toEqual(rows);
    expect(await places(join(directory, "a.csv"))).toEqual(["row 2", "row 4", "row 6"]);
  });

  it("tabs, semicolons, and a single column that has either in its text", async () => {
    expect(await read(write("a.tsv", 'text\tlabel\na, b; "c"\t1\n'))).toEqual([{ text: 'a, b; "c"', label: "1" }]);
    expect(await read(write("b.csv", "text;label\na, b;1\n"))).toEqual([{ text: "a, b", label: "1" }]);
    expect(await read(write("c.csv", "text\na; b\tc|d\n"))).toEqual([{ text: "a; b\tc|d" }]);
  });

  it("a header alone or nothing at all has no rows", async () => {
    expect(await read(write("d.csv", "text,label\n"))).toEqual([]);
    expect(await read(write("e.csv", ""))).toEqual([]);
  });

  it("names the row of what is wrong", async () => {
    await rejects(
      write("f.csv", "text,label\na,1\nI like it, a lot,1\n"),
      ', row 3: found 3 fields, expected 2: text, label. Fix: put a field that contains "," in double quotes',
    );
    await rejects(write("g.csv", "text,label\na\n"), ", row 2: found 1 fields, expected 2: text, label.");
    await rejects(write("h.csv", 'text,label\na,1\n"b,2\nc,3\n'), ", row 3: found Quoted field unterminated");
    await rejects(write("i.csv", "text,text\na,1\n"), ', row 1: found two columns called "text", expected one name');
    const latin1 = write("j.csv", Buffer.from("text\ncaf\xe9\n", "latin1"));
    await rejects(latin1, ", after line 0: found bytes that are not UTF-8");
  });
});

describe("Parquet files by pyarrow (tools/reference/parquet.py)", () => {
  const golden = (name: string) => packagePath("test", "golden", "parquet", name);
  const rows = JSON.parse(readFileSync(golden("rows.json"), "utf8"));

  const variants = ["none", "snappy", "gzip", "zstd", "brotli", "lz4"].flatMap((codec) => [
    `${codec}-dictionary`,
    `${codec}-plain`,
  ]);
  it.each([...variants, "pages-v2"])(
    "%s: text, numbers, nulls, lists and structs as they were written",
    async (name) => {
      expect(await read(golden(`${name}.parquet`))).toEqual(rows);
    },
  );

  it("delta encodings; rows counted from 1 over row groups; no rows", async () => {
    const delta = rows.map(({ text, label }: { text: string; label: number }) => ({ text, label }));
    expect(await read(golden("delta.parquet"))).toEqual(delta);
    expect(await places(golden("zstd-plain.parquet"))).toEqual([1, 2, 3, 4, 5, 6, 7].map((n) => `row ${n}`));
    expect(await read(golden("empty.parquet"))).toEqual([]);
  });

  it("numbers too large for a number, and dates", async () => {
    const [row] = await read(golden("types.parquet"));
    expect(row).toEqual({ query: "a", large: 2n ** 60n, day: new Date("2021-02-28") });
  });

  it("a file of another kind, cut off, or empty", async () => {
    await rejects(write("a.parquet", "text,label\na,1\n"), ": found damaged or unknown contents (");
    const whole = readFileSync(golden("snappy-plain.parquet"));
    await rejects(write("b.parquet", whole.subarray(0, whole.length - 100)), ": found damaged or unknown contents (");
    await rejects(write("c.parquet", ""), ": found damaged or unknown contents (");
    await rejects(join(directory, "none.parquet"), ": found nothing at this path");
  });

  it("any damage gives rows or a data error, and soon", async () => {
    const rng = new RNG(1);
    let refused = 0;
    for (const name of [
      "zstd-dictionary",
      "snappy-plain",
      "gzip-dictionary",
      "pages-v2",
      "brotli-plain",
      "lz4-plain",
    ]) {
      const whole = readFileSync(golden(`${name}.parquet`));
      for (let i = 0; i < 60; i++) {
        const bytes = Uint8Array.from(whole);
        for (let n = rng.int(4); n >= 0; n--) bytes[rng.int(bytes.length)] = rng.int(256);
        const error = await read(write("damaged.parquet", bytes)).then(
          () => undefined,
          (e: unknown) => e,
        );
        if (error === undefined) continue;
        expect(error).toBeInstanceOf(ValueheadError);
        expect((error as ValueheadError).kind).toBe("data");
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(50);
  });
});
