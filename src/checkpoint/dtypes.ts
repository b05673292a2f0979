/**
 * @file Number formats of weight files: bits to numbers and, for fp16, back.
 */

type Target = Float32Array | Float64Array | Int32Array;

/**
 * Converts `n` elements from the start of `bytes` into `target` from index `at` on. When the target is 32-bit integers
 * and a value does not fit, returns that value and stops.
 */
export type Converter = (bytes: ArrayBuffer, n: number, target: Target, at: number) => number | undefined;

type Numbers = { [index: number]: number };

/** For formats JavaScript has an array type for. */
const direct =
  (viewOf: (bytes: ArrayBuffer) => Numbers, fitsInt32: boolean): Converter =>
  (bytes, n, target, at) => {
    const view = viewOf(bytes);
    const check = target instanceof Int32Array && !fitsInt32;
    for (let i = 0; i < n; i++) {
      if (check && view[i] !== (view[i] | 0)) return view[i];
      target[at + i] = view[i];
    }
    return undefined;
  };

/** 64-bit integers from their two halves: a BigInt per element would take ten times as long. */
const wide =
  (highOf: (bytes: ArrayBuffer) => Numbers): Converter =>
  (bytes, n, target, at) => {
    const low = new Uint32Array(bytes, 0, 2 * n);
    const high = highOf(bytes);
    for (let i = 0; i < n; i++) {
      const value = high[2 * i + 1] * 2 ** 32 + low[2 * i];
      if (target instanceof Int32Array && value !== (value | 0)) return value;
      target[at + i] = value;
    }
    return undefined;
  };

/** For formats of 16 bits, from their bits to those of fp32. */
const widened =
  (widen: (bits: Uint16Array, to: Uint32Array) => void): Converter =>
  (bytes, n, target, at) => {
    const half = new Uint16Array(bytes, 0, n);
    if (target instanceof Float32Array) widen(half, new Uint32Array(target.buffer, target.byteOffset + 4 * at, n));
    else {
      const to = new Uint32Array(n);
      widen(half, to);
      target.set(new Float32Array(to.buffer), at);
    }
    return undefined;
  };

/** fp16 (IEEE 754 binary16): 1 sign, 5 exponent, 10 fraction bits. The biases of the exponents are 15 and 127. */
function fromHalf(bits: Uint16Array, to: Uint32Array): void {
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i];
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00)
      to[i] = sign | 0x7f800000 | (magnitude << 13); // infinity and NaN
    else if (magnitude >= 0x400) to[i] = sign | ((magnitude << 13) + (112 << 23));
    else {
      asFloat[0] = magnitude * 2 ** -24; // 0, or less than fp16's least normal number
      to[i] = sign | asBits[0];
    }
  }
}

/** bf16 is the upper half of fp32. */
function fromBfloat(bits: Uint16Array, to: Uint32Array): void {
  for (let i = 0; i < bits.length; i++) to[i] = bits[i] << 16;
}

/** By safetensors dtype; formats without an entry cannot be read as numbers here. */
export const converters: Record<string, Converter> = {
  BOOL: direct((b) => new Uint8Array(b), true),
  U8: direct((b) => new Uint8Array(b), true),
  I8: direct((b) => new Int8Array(b), true),
  U16: direct((b) => new Uint16Array(b), true),
  I16: direct((b) => new Int16Array(b), true),
  U32: direct((b) => new Uint32Array(b), false),
  I32: direct((b) => new Int32Array(b), true),
  F32: direct((b) => new Float32Array(b), false),
  F64: direct((b) => new Float64Array(b), false),
  U64: wide((b) => new Uint32Array(b)),
  I64: wide((b) => new Int32Array(b)),
  F16: widened(fromHalf),
  BF16: widened(fromBfloat),
};

const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);

/** The fp16 bits nearest to `x`, ties to even. Beyond 65504 + half a step it is infinity. */
export function halfBits(x: number): number {
  asFloat[0] = x;
  const bits = asBits[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00; // NaN
  if (magnitude >= 0x47800000) return sign | 0x7c00; // 65536 and above; from 65520 on the carry below does it
  if (magnitude < 0x38800000) {
    // Below 2^-14 an fp16 step is 2^-24: scaling is exact, so rounding the quotient is the one rounding.
    return sign | roundHalfEven(Math.abs(asFloat[0]) * 2 ** 24);
  }
  // Drop 13 fraction bits, rounding on them; a carry into the exponent is what it should be. 112 = 127 - 15 rebiases.
  return sign | ((magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

function roundHalfEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}
