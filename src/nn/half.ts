/**
 * @file fp16 (IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits) and bf16 (the upper half of fp32) as fp32, in WebAssembly, eight
 * numbers at a time: a loop in JavaScript takes several times as long, for it begins in the interpreter. No step has a denormal
 * operand or result in fp32, so that it does not matter whether the thread takes these for 0.
 */
import { advance, type Code, get, I32, instantiate, leb, loop, set, V128, vector } from "./wasm.ts";

/** Numbers of a chunk: 32 kB of them and 64 kB of fp32, which stay in the processor's cache. */
const CHUNK = 1 << 14;
/** Where the fp32 begin, in bytes. */
const OUT = 2 * CHUNK;

const both = (a: Code, b: Code) => vector(0x4e, a, b); // and
const either = (a: Code, b: Code) => vector(0x50, a, b);
const choose = (mask: Code, x: Code, y: Code) => vector(0x52, x, y, mask); // bitselect
const add = (a: Code, b: Code) => vector(0xae, a, b); // i32x4
const below = (a: Code, b: Code) => vector(0x39, a, b);
const shifted = (a: Code, bits: number): Code => [...a, 0x41, bits, 0xfd, ...leb(0xab)]; // i32x4.shl
const subtract = (a: Code, b: Code) => vector(0xe5, a, b); // f32x4
const ALIGNMENT = 2; // 2^2 bytes

// Locals: the end of the chunk in bytes, the places read and written, eight numbers, then four of them without sign, and constants.
const [END, AT, TO, EIGHT, X] = [0, 1, 2, 3, 4];
/** In all four lanes: bits of fp32 that stand for the biases of the exponents, and masks. */
const CONSTANTS = {
  sign: 0x80000000,
  magnitude: 0x0fffe000,
  /** Exponents are 112 larger in fp32: their biases are 15 and 127. */
  bias: 112 << 23,
  /** Infinity and NaN have 31 there and 255 here. */
  largeBias: 224 << 23,
  large: 31 << 23,
  /** Below it the number is a denormal of fp16: fraction / 1024 of its least normal number, 2^-14. */
  normal: 1 << 23,
  least: 113 << 23,
};
const NAMES = Object.keys(CONSTANTS) as (keyof typeof CONSTANTS)[];
const constant = (name: keyof typeof CONSTANTS) => get(X + 1 + NAMES.indexOf(name));
/** A whole number of 32 bits, signed LEB128 as the format has it. */
function i32(n: number): Code {
  const bytes: number[] = [];
  let rest = n | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    const isLast = (rest === 0 && low < 0x40) || (rest === -1 && low >= 0x40);
    bytes.push(isLast ? low : low | 0x80);
    if (isLast) return [0x41, ...bytes];
  }
}

/** Four of fp16, each sign-extended to 32 bits, as fp32. */
const fromHalf = (four: Code): Code => [
  ...set(X, both(shifted(four, 13), constant("magnitude"))),
  ...either(
    both(four, constant("sign")),
    choose(
      below(get(X), constant("normal")),
      subtract(add(get(X), constant("least")), constant("least")),
      add(get(X), choose(below(get(X), constant("large")), constant("bias"), constant("largeBias"))),
    ),
  ),
];

/** @param convert code for four numbers that are each sign-extended to 32 bits */
const converter = (convert: (four: Code) => Code) => ({
  parameters: [I32],
  result: I32,
  locals: [[2, I32] as const, [2 + NAMES.length, V128] as const],
  body: [
    ...NAMES.flatMap((name, i) => set(X + 1 + i, vector(0x11, i32(CONSTANTS[name])))), // splat
    ...loop(AT, END, 16, [
      ...set(EIGHT, [...vector(0x00, get(AT)), ALIGNMENT, 0]),
      ...[0xa7, 0xa8].flatMap((extend, i) => [
        ...[...vector(0x0b, get(TO), convert(vector(extend, get(EIGHT)))), ALIGNMENT, ...leb(OUT + 16 * i)],
      ]),
      ...advance(TO, 32),
    ]),
    ...get(TO),
  ],
});

const FUNCTIONS = { fp16: converter(fromHalf), bf16: converter((four) => shifted(four, 16)) };

let kernel:
  | ({ input: Uint16Array; output: Float32Array } & ReturnType<typeof instantiate<"fp16" | "bf16">>["calls"])
  | undefined;

function loadKernel() {
  if (kernel) return kernel;
  const { memory, calls } = instantiate(FUNCTIONS, OUT + 4 * CHUNK);
  kernel = { input: new Uint16Array(memory, 0, CHUNK), output: new Float32Array(memory, OUT, CHUNK), ...calls };
  return kernel;
}

/** Numbers in their 16 bits as fp32: into `target` from index `at` on. */
export function widen(
  format: "fp16" | "bf16",
  bits: Uint16Array,
  target: Float32Array | Float64Array | Int32Array,
  at: number,
): void {
  const { input, output, [format]: convert } = loadKernel();
  for (let from = 0; from < bits.length; from += CHUNK) {
    const part = bits.subarray(from, from + CHUNK);
    input.set(part);
    convert(2 * part.length);
    target.set(output.subarray(0, part.length), at + from);
  }
}
