/**
 * @file exp of a row of numbers that are at most 0, two at a time in WebAssembly: the operations of fdlibm's e_exp.c (Sun, 1993), one by one and
 * in float64, so that the bits are those of V8's Math.exp, and the same in every engine. Math.exp itself is a call for each number.
 */
import {
  advance,
  type Code,
  F32,
  F64,
  f64,
  get,
  I32,
  instantiate,
  leb,
  loop,
  loopWhile,
  set,
  V128,
  vector,
  whether,
} from "./wasm.ts";

const add = (a: Code, b: Code) => vector(0xf0, a, b);
const sub = (a: Code, b: Code) => vector(0xf1, a, b);
const mul = (a: Code, b: Code) => vector(0xf2, a, b);
const div = (a: Code, b: Code) => vector(0xf3, a, b);
const less = (a: Code, b: Code) => vector(0x49, a, b);
const atMost = (a: Code, b: Code) => vector(0x4b, a, b);
const where = (mask: Code, x: Code) => vector(0x4e, mask, x); // and
const unless = (mask: Code, x: Code) => vector(0x4f, x, mask); // andnot
const choose = (mask: Code, x: Code, y: Code) => vector(0x52, x, y, mask); // bitselect
const trunc = (a: Code) => vector(0x7a, a);
const powerOfTwo = (a: Code) => [...a, 0x41, 52, 0xfd, ...leb(0xcb)]; // i64x2.shl by 52

/** A float64 by its high word. */
const highWord = (word: number) => new Float64Array(Uint32Array.of(0, word).buffer)[0];

/** The numbers of e_exp.c, in both lanes. */
const NUMBERS = {
  one: 1,
  two: 2,
  half: 0.5,
  log2e: Math.LOG2E,
  ln2Hi: 0.6931471803691238,
  ln2Lo: 1.9082149292705877e-10,
  p1: 0.16666666666666602,
  p2: -0.0027777777777015593,
  p3: 6.613756321437934e-5,
  p4: -1.6533902205465252e-6,
  p5: 4.1381367970572385e-8,
  /** Below it exp is 0. */
  least: -745.1332191019411,
  /** From here down x is more than ln 2 / 2 away from 0, as far as its high word says. */
  reduced: -highWord(0x3fd62e43),
  /** From here on exp(x) is no denormal. */
  normal: -707,
  /** Above it exp(x) is 1 + x. */
  tiny: -(2 ** -28),
  /** A power of 2 below this is made in two steps. */
  leastPower: -1021,
  step: 1000,
  smallStep: 2 ** -1000,
  /** Added to k its last bits are those of the exponent of 2^k. */
  exponent: 2 ** 52 + 1023,
};

// Locals: parameters, then the place in the row and in the weights, the sum, parameters and numbers in both lanes, and the steps.
const [END, TO, MAX, TEMPERATURE, AT, PLACE, TOTAL, MAX2, TEMPERATURE2] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const NAMES = Object.keys(NUMBERS) as (keyof typeof NUMBERS)[];
const FIRST = TEMPERATURE2 + 1;
const n = (name: keyof typeof NUMBERS) => get(FIRST + NAMES.indexOf(name));
const STEPS = FIRST + NAMES.length;
const [x, k, hi, lo, r, s, c, y, deep] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => STEPS + i);
const ALIGNMENT = 3; // 2^3 bytes
const polynomial = (["p4", "p3", "p2", "p1"] as const).reduce(
  (inner, name) => add(n(name), mul(get(s), inner)),
  n("p5"),
);
const lane = (i: number): Code => [...get(y), 0xfd, 0x21, i];

/** exp(x) of two numbers into y: 2^k exp(r), x = k ln 2 + r. `scale` multiplies y with 2^k. */
const exponential = (scale: Code): Code => [
  ...set(k, where(atMost(get(x), n("reduced")), trunc(sub(mul(n("log2e"), get(x)), n("half"))))),
  ...set(hi, sub(get(x), mul(get(k), n("ln2Hi")))),
  ...set(lo, mul(get(k), n("ln2Lo"))),
  ...set(r, sub(get(hi), get(lo))),
  ...set(s, mul(get(r), get(r))),
  ...set(c, sub(get(r), mul(get(s), polynomial))),
  ...set(y, sub(n("one"), sub(sub(get(lo), div(mul(get(r), get(c)), sub(n("two"), get(c)))), get(hi)))),
  ...scale,
];

/** exp((z - max) / temperature) of two numbers, into y. */
const exponentials = (divides: boolean): Code => [
  ...set(x, vector(0x5f, [...vector(0x5d, get(AT)), ALIGNMENT, 0])), // two float32 -> float64
  ...set(x, sub(get(x), get(MAX2))),
  ...(divides ? set(x, div(get(x), get(TEMPERATURE2))) : []),
  ...whether(
    vector(0xc3, where(atMost(n("normal"), get(x)), atMost(get(x), n("tiny")))), // i64x2.all_true
    exponential(set(y, mul(get(y), powerOfTwo(add(get(k), n("exponent")))))),
    [
      ...exponential([
        ...set(deep, less(get(k), n("leastPower"))),
        ...set(y, mul(get(y), powerOfTwo(add(add(get(k), where(get(deep), n("step"))), n("exponent"))))),
        ...set(y, mul(get(y), choose(get(deep), n("smallStep"), n("one")))),
      ]),
      ...set(y, choose(less(n("tiny"), get(x)), add(n("one"), get(x)), get(y))),
      ...set(y, unless(less(get(x), n("least")), get(y))),
    ],
  ),
];

/** Sum of exp((z - max) / temperature) over the row up to END, in its order; `weighs`: each one is written from TO on. */
const sumOfExp = ({ weighs = false, divides = false }) => ({
  parameters: [I32, I32, F64, F64],
  result: F64,
  locals: [[2, I32] as const, [1, F64] as const, [STEPS + 9 - MAX2, V128] as const],
  body: [
    ...set(PLACE, get(TO)),
    ...set(MAX2, vector(0x14, get(MAX))), // splat
    ...set(TEMPERATURE2, vector(0x14, get(TEMPERATURE))),
    ...NAMES.flatMap((name, i) => set(FIRST + i, vector(0x14, f64(NUMBERS[name])))),
    ...loop(AT, END, 8, [
      ...exponentials(divides),
      ...(weighs ? [...vector(0x0b, get(PLACE), get(y)), ALIGNMENT, 0, ...advance(PLACE, 16)] : []),
      ...set(TOTAL, [...get(TOTAL), ...lane(0), 0xa0, ...lane(1), 0xa0]), // f64.add
    ]),
    ...get(TOTAL),
  ],
});

/** The largest number of the row up to local 0. What is no number counts for nothing. */
const LARGEST = (() => {
  const [end, at, best] = [0, 1, 2];
  const four = [...vector(0x00, get(at)), ALIGNMENT, 0];
  const lanes = [0, 1, 2, 3].map((i) => [...get(best), 0xfd, 0x1f, i]);
  return {
    parameters: [I32],
    result: F32,
    locals: [[1, I32] as const, [1, V128] as const],
    body: [
      ...set(best, vector(0x13, [0x43, 0, 0, 0x80, 0xff])), // f32x4.splat of -Infinity
      ...loop(at, end, 16, set(best, vector(0xeb, get(best), four))), // f32x4.pmax
      ...[...lanes[0], ...lanes[1], 0x97, ...lanes[2], 0x97, ...lanes[3], 0x97], // f32.max
    ],
  };
})();

/** The place from local 0 on, in bytes, of the next four numbers of which one is not below local 2; local 1, the end, where there are none. */
const NEXT = (() => {
  const [at, end, floor, floor4] = [0, 1, 2, 3];
  const four = [...vector(0x00, get(at)), ALIGNMENT, 0];
  const allBelow = vector(0xa3, vector(0x43, four, get(floor4))); // i32x4.all_true of f32x4.lt
  return {
    parameters: [I32, I32, F32],
    result: I32,
    locals: [[1, V128] as const],
    body: [...set(floor4, vector(0x13, get(floor))), ...loopWhile(at, end, 16, allBelow), ...get(at)],
  };
})();

/** The row is read in vectors of so many. */
const MULTIPLE = 4;

type Calls = "largest" | "next" | "sum" | "weigh" | "dividedSum" | "dividedWeigh";

/** A row of numbers, and the exponentials of its distances from the largest. */
class ExpRow {
  readonly #capacity: number;
  /** The numbers themselves. */
  readonly row: Float32Array;
  readonly #kernel: Readonly<Record<Calls, (...numbers: number[]) => number>>;
  /** Where they are written, one after another. */
  readonly weights: Float64Array;
  #length = 0;

  constructor(length: number) {
    this.#capacity = MULTIPLE * Math.ceil(length / MULTIPLE);
    const functions = {
      largest: LARGEST,
      next: NEXT,
      sum: sumOfExp({}),
      weigh: sumOfExp({ weighs: true }),
      dividedSum: sumOfExp({ divides: true }),
      dividedWeigh: sumOfExp({ weighs: true, divides: true }),
    };
    const { memory, calls } = instantiate(functions, this.#capacity * (4 + 8));
    this.#kernel = calls;
    this.row = new Float32Array(memory, 0, this.#capacity);
    this.weights = new Float64Array(memory, 4 * this.#capacity, this.#capacity);
  }

  /** Whether there is room for so many numbers. */
  holds(length: number): boolean {
    return length <= this.#capacity;
  }

  /** Read the row: some of z or all. */
  read(z: Float32Array, ids: Int32Array | undefined): void {
    const row = this.row;
    this.#length = ids?.length ?? z.length;
    if (ids) for (let i = 0; i < ids.length; i++) row[i] = z[ids[i]];
    else row.set(z);
    row.fill(Number.NEGATIVE_INFINITY, this.#length, MULTIPLE * Math.ceil(this.#length / MULTIPLE));
  }

  get #end(): number {
    return 4 * this.#length;
  }

  /** The largest number, NaN left out. */
  largest(): number {
    return this.#length === 0 ? Number.NEGATIVE_INFINITY : this.#kernel.largest(this.#end);
  }

  /**
   * The next place from a multiple of 4 on where a number is not below `floor`, or one of the three before it is not: a multiple of 4. The
   * length or more where there is none.
   */
  next(from: number, floor: number): number {
    return this.#kernel.next(4 * from, this.#end, floor) / 4;
  }

  /** The sum of exp((z - max) / temperature), one added after the other; no z is above max. */
  sum(max: number, temperature: number): number {
    const { sum, dividedSum } = this.#kernel;
    return this.#length === 0 ? 0 : (temperature === 1 ? sum : dividedSum)(this.#end, 0, max, temperature);
  }

  /** The same, and each of them in {@link weights}. */
  weigh(max: number, temperature: number): number {
    const { weigh, dividedWeigh } = this.#kernel;
    const to = 4 * this.#capacity;
    return this.#length === 0 ? 0 : (temperature === 1 ? weigh : dividedWeigh)(this.#end, to, max, temperature);
  }
}

let shared: ExpRow | undefined;

/** The one row of this thread, of at least that length. Its contents last until somebody else reads one. */
export function expRow(length: number): ExpRow {
  if (!shared?.holds(length)) shared = new ExpRow(length);
  return shared;
}
