import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { crc32c, TensorBoardWriter } from "../../../src/run/sinks/event-file.ts";

// Written by tools/reference/tensorboard.py with PyPI's tensorboard.
const goldenDirectory = new URL("../../golden/tensorboard/", import.meta.url);
const golden = JSON.parse(readFileSync(new URL("golden.json", goldenDirectory), "utf8")) as {
  fileTime: number;
  firstStep: number;
  steps: { now: number; step: number; values: Record<string, number | string> }[];
  crc32c: Record<string, number>;
};

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "valuehead-tensorboard-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** The payload length of each record. */
function recordLengths(bytes: Buffer): number[] {
  const lengths: number[] = [];
  for (let at = 0; at < bytes.length; at += lengths[lengths.length - 1] + 16)
    lengths.push(Number(bytes.readBigUInt64LE(at)));
  return lengths;
}

test("crc32c: RFC 3720, appendix B.4, the check value, and tensorboard's", () => {
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, n) => n))).toBe(0x46dd794e);
  expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  for (const [text, value] of Object.entries(golden.crc32c)) expect(crc32c(new TextEncoder().encode(text))).toBe(value);
});

test("the same bytes as tensorboard's own writer", async () => {
  let time = golden.fileTime;
  const writer = await TensorBoardWriter.open(join(root, "run", "tb"), {
    firstStep: golden.firstStep,
    now: () => time,
  });
  for (const { now, step, values } of golden.steps) {
    time = now;
    const numbers = Object.entries(values).map(([name, value]) => [name, Number(value)]);
    await writer.scalars(step, Object.fromEntries(numbers));
  }
  await writer.close();
  const written = readFileSync(join(root, "run", "tb", "events.out.tfevents.1700000000.valuehead.0"));
  const expected = readFileSync(new URL("events.bin", goldenDirectory));
  expect(recordLengths(expected)).toHaveLength(golden.steps.length + 2);
  expect(recordLengths(written)).toEqual(recordLengths(expected));
  expect(written.toString("hex")).toBe(expected.toString("hex"));
});

test("what is undefined is left out; nothing to say writes nothing", async () => {
  const sizes: number[] = [];
  for (const values of [{ a: 1 }, { a: 1, b: undefined }, { b: undefined }, {}]) {
    const directory = join(root, String(sizes.length));
    const writer = await TensorBoardWriter.open(directory, { now: () => 0 });
    await writer.scalars(1, values);
    await writer.close();
    sizes.push(readFileSync(join(directory, "events.out.tfevents.0.valuehead.0")).length);
  }
  const fileVersion = recordLengths(readFileSync(new URL("events.bin", goldenDirectory)))[0] + 16;
  expect(sizes[0]).toBeGreaterThan(fileVersion);
  expect(sizes).toEqual([sizes[0], sizes[0], fileVersion, fileVersion]);
});

test("calls that are not awaited keep their order", async () => {
  const files: Buffer[] = [];
  for (const awaited of [true, false]) {
    const directory = join(root, String(awaited));
    const writer = await TensorBoardWriter.open(directory, { now: () => 5000 });
    for (let step = 0; step < 20; step++) {
      const written = writer.scalars(step, { [`a${"x".repeat(step)}`]: step });
      if (awaited) await written;
    }
    await writer.close();
    files.push(readFileSync(join(directory, "events.out.tfevents.5.valuehead.0")));
  }
  expect(recordLengths(files[0])).toHaveLength(21);
  expect(files[1].equals(files[0])).toBe(true);
});

test("opening again, even within the same second, adds a file and leaves the others", async () => {
  for (const now of [9000, 9001, 10000]) {
    const writer = await TensorBoardWriter.open(root, { now: () => now });
    await writer.scalars(now, { a: now });
    await writer.close();
  }
  const names = ["9.valuehead.0", "9.valuehead.1", "10.valuehead.0"].map((end) => `events.out.tfevents.${end}`);
  expect(readdirSync(root).sort()).toEqual(names.sort());
  for (const name of names) expect(recordLengths(readFileSync(join(root, name)))).toHaveLength(2);
});

test("a directory that cannot be one", async () => {
  mkdirSync(join(root, "run"));
  writeFileSync(join(root, "run", "tb"), "");
  const path = join(root, "run", "tb");
  await expect(TensorBoardWriter.open(path)).rejects.toThrow(path);
  await expect(TensorBoardWriter.open(path)).rejects.toMatchObject({ kind: "checkpoint" });
});
