/** @file Every number of 16 bits is what its format says, wherever it stands. */
import { expect, test } from "vitest";
import { converters } from "../../../src/checkpoint/dtypes.ts";

/** IEEE 754 binary16: sign, exponent with a bias of 15, fraction. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The upper half of binary32. */
const bfloat = (bits: number) => new DataView(Uint32Array.of(bits << 16).buffer).getFloat32(0, true);

const ALL = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

test.each([
  ["F16", half],
  ["BF16", bfloat],
] as const)("all 65536 of %s", (format, numberOf) => {
  const [single, double] = [new Float32Array(65536), new Float64Array(65536)];
  for (const target of [single, double]) converters[format](ALL.buffer, 65536, target, 0);
  const expected = Array.from(ALL, numberOf);
  expect(expected.filter((x, i) => !Object.is(single[i], x))).toEqual([]); // Object.is tells -0 from 0
  expect(expected.filter((x, i) => !Object.is(double[i], x))).toEqual([]);
});

test.each([0, 1, 7, 8, 9, 16384, 16385])("%i numbers, and nothing else of the target", (n) => {
  const target = new Float32Array(n + 4).fill(5);
  converters.F16(new Uint16Array(n).fill(0x3c00).buffer, n, target, 3);
  expect(target).toEqual(Float32Array.from([5, 5, 5, ...new Array(n).fill(1), 5]));
});
