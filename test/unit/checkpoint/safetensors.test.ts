import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { halfBits } from "../../../src/checkpoint/dtypes.ts";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../../../src/checkpoint/safetensors.ts";
import { type ByteSource, openFile } from "../../../src/platform/files.ts";
import { memorySource } from "../../../tools/memory-source.ts";

const golden = (name: string) => new URL(`../../golden/safetensors/${name}`, import.meta.url).pathname;

async function written(entries: TensorToWrite[], metadata?: Record<string, string>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  await writeSafetensors({ write: async (bytes) => void parts.push(bytes.slice()) }, entries, metadata);
  return new Uint8Array(Buffer.concat(parts));
}

/** A file with this header (an object or its text) and this many bytes of data. */
function file(header: unknown, dataBytes: number, headerLength?: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength ?? json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const open = (bytes: Uint8Array) => openSafetensors(memorySource("m.safetensors", bytes));
const tensor = (begin: number, end: number, shape: unknown = [(end - begin) / 4], dtype: unknown = "F32") => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

describe("reading what Python's safetensors wrote", () => {
  const expected = JSON.parse(readFileSync(golden("types.json"), "utf8"));

  test("every type, as float64, fp32 and 32-bit integers", async () => {
    const st = await openSafetensors(await openFile(golden("types.safetensors")));
    expect(st.metadata).toEqual({ format: "pt", note: "café" });
    expect([...st.tensors.keys()].sort()).toEqual(Object.keys(expected).sort());
    for (const [name, { shape, values }] of Object.entries<{ shape: number[]; values: number[] }>(expected)) {
      expect(st.tensors.get(name)?.shape, name).toEqual(shape);
      // Object.is in toEqual would tell 0 from -0; the golden file has no -0.
      expect([...(await st.readFloat64(name))], name).toEqual(values);
      const target = new Float32Array(values.length);
      await st.readFloat32Into(name, target);
      expect([...target], name).toEqual(values.map(Math.fround));
    }
    for (const name of ["i32", "i64_small", "i16", "i8", "u8", "bool"]) {
      expect([...(await st.readInt32(name))], name).toEqual(expected[name].values);
    }
    await expect(st.readInt32("i64")).rejects.toThrow(
      /tensor i64: found the value -1099511627773, expected values that fit/,
    );
    await expect(st.readInt32("f32")).rejects.toThrow(/tensor f32: found dtype F32, expected an integer type/);
    await expect(st.readFloat64("nope")).rejects.toThrow(/tensor nope: found no tensor of this name/);
    await expect(st.readFloat32Into("f32", new Float32Array(5))).rejects.toThrow(
      "tensor f32: found shape [2, 3] with 6 elements, expected 5 elements, the length of the target",
    );
    await st.close();
  });

  test("fp16 both ways, bit for bit as torch", async () => {
    const st = await openSafetensors(await openFile(golden("half.safetensors")));
    const half = await st.readFloat64("f16");
    const same = await st.readFloat64("f16_as_f32");
    expect(half.length).toBe(1599);
    expect([...half]).toEqual([...same]);
    const inputs = await st.readFloat64("inputs");
    const bits = await st.readInt32("rounded_bits");
    const wrong = [...inputs].filter((x, i) => {
      const isNaN16 = (b: number) => (b & 0x7fff) > 0x7c00;
      return Number.isNaN(x) ? !isNaN16(halfBits(x)) || !isNaN16(bits[i]) : halfBits(x) !== (bits[i] & 0xffff);
    });
    expect(inputs.length).toBeGreaterThan(2000);
    expect(wrong).toEqual([]);
    await st.close();
  });

  test("into a part of a larger buffer, reading in pieces", async () => {
    const n = 2_500_000; // more than one 4 MiB piece of F64 and F16
    const f64 = Float64Array.from({ length: n }, (_, i) => i - 7);
    const small = Float32Array.from({ length: n }, (_, i) => i % 2047);
    const bytes = await written([
      { name: "wide", dtype: "F64", shape: [n], data: f64 },
      { name: "half", dtype: "F16", shape: [n], data: small },
    ]);
    const st = await open(bytes);
    const flat = new Float32Array(2 * n + 2).fill(-1);
    await st.readFloat32Into("wide", flat.subarray(1, n + 1));
    await st.readFloat32Into("half", flat.subarray(n + 1, 2 * n + 1));
    expect([flat[0], flat[2 * n + 1]]).toEqual([-1, -1]);
    expect(flat.subarray(1, n + 1).every((x, i) => x === i - 7)).toBe(true);
    expect(flat.subarray(n + 1, 2 * n + 1).every((x, i) => x === i % 2047)).toBe(true);
  });
});

describe("writing", () => {
  const entries: TensorToWrite[] = [
    { name: "a", dtype: "F16", shape: [3], data: Float32Array.of(1, 0.1, -2) },
    { name: "b", dtype: "F32", shape: [2, 1], data: Float32Array.of(0.1, 4) },
    { name: "c", dtype: "I32", shape: [], data: Int32Array.of(-5) },
    { name: "d", dtype: "F64", shape: [1], data: Float64Array.of(0.1) },
    { name: "e", dtype: "F32", shape: [0, 4], data: new Float32Array(0) },
  ];

  test("comes back as it was, with an aligned header and aligned tensors", async () => {
    const bytes = await written(entries, { step: "3" });
    const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(headerBytes % 8).toBe(0);
    const st = await open(bytes);
    expect(st.metadata).toEqual({ format: "pt", step: "3" });
    for (const { start, dtype } of st.tensors.values()) {
      expect(start % ({ F64: 8, F16: 2 }[dtype] ?? 4), dtype).toBe(0);
    }
    expect([...(await st.readFloat64("a"))]).toEqual([1, 0.0999755859375, -2]);
    expect([...(await st.readFloat64("b"))]).toEqual([Math.fround(0.1), 4]);
    expect([...(await st.readInt32("c"))]).toEqual([-5]);
    expect([...(await st.readFloat64("d"))]).toEqual([0.1]);
    expect(st.tensors.get("e")?.shape).toEqual([0, 4]);
  });

  test("refuses a wrong size and a name used twice", async () => {
    await expect(written([{ name: "a", dtype: "F32", shape: [2, 2], data: new Float32Array(3) }])).rejects.toThrow(
      "safetensors writer, tensor a: found 3 elements, expected 4 for shape [2, 2]. Fix: correct the shape or the data",
    );
    const one: TensorToWrite = { name: "a", dtype: "F32", shape: [], data: new Float32Array(1) };
    await expect(written([one, one])).rejects.toThrow(/tensor a: found a second one/);
  });
});

describe("files that lie", () => {
  const cases: [string, Uint8Array, string][] = [
    ["empty", new Uint8Array(0), "m.safetensors: found 0 bytes, expected a safetensors file, which has at least 8"],
    [
      "header longer than the file",
      file({}, 0, 1000),
      "found 10 bytes, expected a header of 1000 bytes (998 bytes are missing)",
    ],
    [
      "header over the cap",
      file({}, 0, 2 ** 52),
      "a header length of 4503599627370496 bytes, expected at most 100000000",
    ],
    ["not JSON", file("{not json", 0), "a header that is not JSON"],
    ["not UTF-8", file("", 4).fill(4, 0, 1).fill(255, 8), "a header that is not JSON"],
    ["array", file([], 0), "a header that is not a JSON object"],
    ["null", file("null", 0), "a header that is not a JSON object"],
    ["metadata", file({ __metadata__: { a: 1 } }, 0), '__metadata__: found {"a":1}, expected an object of strings'],
    ["entry", file({ a: 1 }, 0), "m.safetensors, tensor a: found 1, expected an object with dtype"],
    ["unknown dtype", file({ a: tensor(0, 4, [1], "F31") }, 4), 'tensor a: found dtype "F31", expected one of BOOL'],
    ["inherited dtype", file({ a: tensor(0, 4, [1], "toString") }, 4), 'tensor a: found dtype "toString"'],
    ["no dtype", file({ a: { shape: [1], data_offsets: [0, 4] } }, 4), "tensor a: found dtype undefined"],
    ["negative dim", file({ a: tensor(0, 4, [-1]) }, 4), "tensor a: found shape [-1], expected an array of whole"],
    ["fractional dim", file({ a: tensor(0, 4, [0.5, 2]) }, 4), "tensor a: found shape [0.5,2]"],
    ["text dim", file({ a: tensor(0, 4, ["1"]) }, 4), 'tensor a: found shape ["1"]'],
    ["no shape", file({ a: tensor(0, 4, 1) }, 4), "tensor a: found shape 1"],
    [
      "overflowing shape",
      file({ a: tensor(0, 4, [2 ** 40, 2 ** 40]) }, 4),
      "tensor a: found 4 bytes of data, expected",
    ],
    ["shape whose product is NaN", file({ a: tensor(0, 0, [...Array(30).fill(2 ** 50), 0]) }, 0), "expected NaN bytes"],
    [
      "fractional offset",
      file({ a: { ...tensor(0, 4, [1]), data_offsets: [0, 4.5] } }, 4),
      "tensor a: found data_offsets [0,4.5]",
    ],
    [
      "negative offset",
      file({ a: { ...tensor(0, 4, [1]), data_offsets: [-4, 0] } }, 4),
      "tensor a: found data_offsets [-4,0]",
    ],
    [
      "backward offsets",
      file({ a: { ...tensor(0, 4, [1]), data_offsets: [4, 0] } }, 4),
      "tensor a: found data_offsets [4,0]",
    ],
    ["three offsets", file({ a: { ...tensor(0, 4, [1]), data_offsets: [0, 4, 4] } }, 4), "data_offsets [0,4,4]"],
    [
      "size mismatch",
      file({ a: tensor(0, 8, [3]) }, 8),
      "tensor a: found 8 bytes of data, expected 12 bytes for F32 [3]",
    ],
    [
      "hole",
      file({ a: tensor(0, 4), b: tensor(8, 12) }, 12),
      "tensor b: found data from byte 8, a hole after the tensor before it, expected byte 4",
    ],
    ["hole first", file({ a: tensor(4, 8) }, 8), "tensor a: found data from byte 4, a hole"],
    [
      "overlap",
      file({ a: tensor(0, 8), b: tensor(4, 8) }, 8),
      "tensor b: found data from byte 4, overlap with the tensor before it, expected byte 8",
    ],
    [
      "truncated data",
      file({ a: tensor(0, 8) }, 5),
      "found 5 bytes of tensor data (3 bytes are missing), expected 8 bytes",
    ],
    ["extra data", file({ a: tensor(0, 8) }, 9), "found 9 bytes of tensor data (1 bytes too many), expected 8 bytes"],
    ["huge tensor", file({ a: tensor(0, 2 ** 50) }, 5), "bytes are missing"],
  ];

  test.each(cases)("%s", async (_, bytes, message) => {
    const error = await open(bytes).then(
      () => null,
      (thrown) => thrown,
    );
    expect(error).toBeInstanceOf(ValueheadError);
    expect(error.kind).toBe("checkpoint");
    expect(error.message).toContain(message);
    expect(error.problem.where).toContain("m.safetensors");
  });

  test("a few thousand broken files: a typed error or a consistent answer, and no large allocation", async () => {
    const good = await written([
      { name: "a", dtype: "F32", shape: [2, 3], data: new Float32Array(6) },
      { name: "b", dtype: "F16", shape: [5], data: new Float32Array(5) },
      { name: "c", dtype: "I32", shape: [1], data: new Int32Array(1) },
    ]);
    let accepted = 0;
    const check = async (bytes: Uint8Array) => {
      const inner = memorySource("fuzz", bytes);
      const source: ByteSource = {
        ...inner,
        read: (offset, length) => {
          if (length > bytes.length) throw new Error(`asked for ${length} bytes of ${bytes.length}`);
          return inner.read(offset, length);
        },
      };
      try {
        const st = await openSafetensors(source);
        for (const [name, info] of st.tensors) {
          if (info.start < 8 || info.end > bytes.length) throw new Error(`range of ${name} outside the file`);
          if (!/^(F8|C64)/.test(info.dtype)) await st.readFloat64(name);
        }
        accepted++;
      } catch (error) {
        if (!(error instanceof ValueheadError)) throw error;
      }
    };
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 4 }),
        fc.option(fc.nat(good.length), { freq: 6 }),
        async (edits, cut) => {
          const bytes = good.slice(0, cut ?? good.length);
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          await check(bytes);
        },
      ),
      { numRuns: 3000, seed: 1 },
    );
    const number = fc.oneof(fc.nat(16), fc.integer(), fc.double(), fc.constant(2 ** 53), fc.constant(-1));
    const entry = fc.record(
      {
        dtype: fc.constantFrom("F32", "F16", "I64", "BOOL", "C64", "X", 3, null),
        shape: fc.oneof(fc.array(number, { maxLength: 3 }), fc.string(), fc.constant(null)),
        data_offsets: fc.oneof(fc.tuple(number, number), fc.array(number, { maxLength: 3 }), fc.constant({})),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(
          fc.oneof(fc.string(), fc.constant("__metadata__"), fc.constant("__proto__")),
          fc.oneof(entry, fc.jsonValue()),
        ),
        fc.nat(64),
        (header, dataBytes) => check(file(header, dataBytes)),
      ),
      { numRuns: 2000, seed: 2 },
    );
    expect(accepted).toBeGreaterThan(100);
  });
});
