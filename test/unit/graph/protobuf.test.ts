/** @file Messages are those that protobuf's own writer writes. */
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Message } from "../../../src/graph/protobuf.ts";

const field = fc.integer({ min: 1, max: 2 ** 29 - 1 });

test("whole numbers", () => {
  const value = fc.oneof(
    fc.maxSafeInteger(),
    fc.integer({ min: -200, max: 200 }),
    fc.constantFrom(2 ** 31, -(2 ** 31)),
  );
  fc.assert(
    fc.property(field, value, (number, x) => {
      const expected = new BinaryWriter().tag(number, WireType.Varint).int64(BigInt(x)).finish();
      expect(new Message().int(number, x).finish()).toEqual(expected);
    }),
  );
});

test("floats, texts, bytes, messages and packed numbers, one after the other", () => {
  const parts = fc.record({
    float: fc.float(),
    text: fc.string({ unit: "grapheme" }),
    bytes: fc.uint8Array({ maxLength: 300 }),
    ints: fc.array(fc.maxSafeInteger()),
    floats: fc.array(fc.float()),
  });
  fc.assert(
    fc.property(parts, ({ float, text, bytes, ints, floats }) => {
      const inner = new Message().text(1, text).float(2, float);
      const written = new Message()
        .message(3, inner)
        .bytes(4, bytes)
        .ints(5, ints)
        .floats(6, floats)
        .int(7, 1)
        .finish();
      const expected = new BinaryWriter();
      expected.tag(3, WireType.LengthDelimited).fork();
      expected.tag(1, WireType.LengthDelimited).string(text).tag(2, WireType.Bit32).float(float).join();
      expected.tag(4, WireType.LengthDelimited).bytes(bytes);
      if (ints.length > 0) {
        expected.tag(5, WireType.LengthDelimited).fork();
        for (const x of ints) expected.int64(BigInt(x));
        expected.join();
      }
      if (floats.length > 0) {
        expected.tag(6, WireType.LengthDelimited).fork();
        for (const x of floats) expected.float(x);
        expected.join();
      }
      expect(written).toEqual(expected.tag(7, WireType.Varint).int64(1).finish());
    }),
  );
});

test("what is announced has its length before it, also beyond 32 bits", () => {
  const expected = new BinaryWriter().tag(9, WireType.LengthDelimited).int64(5_000_000_000n).finish();
  expect(new Message().announce(9, 5_000_000_000).finish()).toEqual(expected);
});
