/**
 * @file AdamW's inner loop and the sum of squares in WebAssembly, four float32 at a time. It works in a small memory of its own,
 * which stays in the processor's cache. Chunks of the flat buffers are copied in and out, so the buffers need not lie in
 * WebAssembly memory. A plain loop would spend most of its time on one root and one division at a time.
 */
import { type Code, F32, F64, get, I32, instantiate, leb, loop, set, V128, vector } from "./wasm.ts";

/** Elements of a chunk. Four arrays of them are 256 kB. */
const CHUNK = 1 << 14;
const BYTES = 4 * CHUNK;
/** Where each array of the chunk begins, in bytes. */
const P = 0;
const G = BYTES;
const M = 2 * BYTES;
const V = 3 * BYTES;

/** The loop's numbers, in the order of the function's parameters, which follow the end of the chunk. */
export const SCALARS = [
  "gradScale",
  "beta1",
  "oneMinusBeta1",
  "beta2",
  "oneMinusBeta2",
  "eps",
  "rate",
  "decay",
] as const;
type Scalar = (typeof SCALARS)[number];
export type AdamScalars = Readonly<Record<Scalar, number>>;

const add = (a: Code, b: Code) => vector(0xe4, a, b);
const sub = (a: Code, b: Code) => vector(0xe5, a, b);
const mul = (a: Code, b: Code) => vector(0xe6, a, b);
const div = (a: Code, b: Code) => vector(0xe7, a, b);
const sqrt = (a: Code) => vector(0xe3, a);

// Locals of the step: the end of the chunk in bytes, the scalars, the place in bytes, the scalars four times over, g, m and v, what p
// changes by, four sums of its squares.
const AT = SCALARS.length + 1;
const FIRST = AT + 1;
const [g, m, v, change, squares] = [0, 1, 2, 3, 4].map((i) => FIRST + SCALARS.length + i);
const scalar = (name: Scalar) => get(FIRST + SCALARS.indexOf(name));
const ALIGNMENT = 4; // 2^4 bytes
const load = (array: number): Code => [...vector(0x00, get(AT)), ALIGNMENT, ...leb(array)];
const store = (array: number, value: Code): Code => [...vector(0x0b, get(AT), value), ALIGNMENT, ...leb(array)];

const LOOP: Code = [
  ...set(g, mul(load(G), scalar("gradScale"))),
  ...set(m, add(mul(load(M), scalar("beta1")), mul(get(g), scalar("oneMinusBeta1")))),
  ...set(v, add(mul(load(V), scalar("beta2")), mul(mul(get(g), get(g)), scalar("oneMinusBeta2")))),
  ...store(M, get(m)),
  ...store(V, get(v)),
  // p - (decay p + rate m / (sqrt(v) + eps)): the small terms first, so that p is rounded once
  ...set(
    change,
    add(mul(load(P), scalar("decay")), div(mul(get(m), scalar("rate")), add(sqrt(get(v)), scalar("eps")))),
  ),
  ...set(squares, add(get(squares), mul(get(change), get(change)))),
  ...store(P, sub(load(P), get(change))),
];
const lane = (i: number): Code => [...get(squares), 0xfd, 0x1f, i];

/**
 * sum x^2 of the float32 in the memory up to local 0, in bytes, as float64. Two pairs of sums take turns, so that no addition
 * waits for the one before it.
 */
const SQUARES: Code = (() => {
  const [end, at, pair, sums] = [0, 1, 2, [3, 4]];
  const two = (offset: number) => vector(0x5f, [...vector(0x5d, get(at)), 3, offset]); // two float32 -> float64
  const step = sums.flatMap((sum, i) => [
    ...set(pair, two(8 * i)),
    ...set(sum, vector(0xf0, get(sum), vector(0xf2, get(pair), get(pair)))),
  ]);
  const lanes = sums.flatMap((sum) => [0, 1].map((i) => [...get(sum), 0xfd, 0x21, i]));
  const total = [...lanes[0], ...lanes[1], 0xa0, ...lanes[2], 0xa0, ...lanes[3], 0xa0]; // f64.add
  return [...loop(at, end, 16, step), ...total];
})();

const FUNCTIONS = {
  adam: {
    parameters: [I32, ...SCALARS.map(() => F32)],
    result: F32,
    locals: [
      [1, I32],
      [SCALARS.length + 5, V128],
    ],
    body: [
      ...SCALARS.flatMap((_, i) => set(FIRST + i, vector(0x13, get(1 + i)))), // splat
      ...loop(AT, 0, 16, LOOP),
      ...[...lane(0), ...lane(1), 0x92, ...lane(2), 0x92, ...lane(3), 0x92], // f32.add
    ],
  },
  squares: {
    parameters: [I32],
    result: F64,
    locals: [
      [1, I32],
      [3, V128],
    ],
    body: SQUARES,
  },
} as const;

interface Kernel {
  readonly memory: Float32Array;
  readonly adam: (end: number, ...scalars: number[]) => number;
  readonly squares: (end: number) => number;
}

let kernel: Kernel | undefined;

function loadKernel(): Kernel {
  if (kernel) return kernel;
  const { memory, calls } = instantiate(FUNCTIONS, 4 * BYTES);
  kernel = { memory: new Float32Array(memory), ...calls };
  return kernel;
}

/**
 * m, v and p, in place, all of one length; the formula is in {@link AdamW}.
 * @returns sum (change of p)^2, added up in float32 within a chunk
 */
export function adamRange(
  p: Float32Array,
  grads: Float32Array,
  m: Float32Array,
  v: Float32Array,
  scalars: AdamScalars,
): number {
  const { memory, adam } = loadKernel();
  const numbers = SCALARS.map((name) => scalars[name]);
  let squares = 0;
  for (let from = 0; from < p.length; from += CHUNK) {
    const to = Math.min(p.length, from + CHUNK);
    const n = to - from;
    [p, grads, m, v].forEach((array, i) => {
      memory.set(array.subarray(from, to), i * CHUNK);
      memory.fill(0, i * CHUNK + n, i * CHUNK + 4 * Math.ceil(n / 4)); // a zero gradient changes nothing
    });
    squares += adam(4 * n, ...numbers);
    p.set(memory.subarray(0, n), from);
    m.set(memory.subarray(2 * CHUNK, 2 * CHUNK + n), from);
    v.set(memory.subarray(3 * CHUNK, 3 * CHUNK + n), from);
  }
  return squares;
}

/** sum x^2, in float64. */
export function sumOfSquares(x: Float32Array): number {
  const { memory, squares } = loadKernel();
  let sum = 0;
  for (let from = 0; from < x.length; from += memory.length) {
    const n = Math.min(memory.length, x.length - from);
    memory.set(x.subarray(from, from + n));
    memory.fill(0, n, 4 * Math.ceil(n / 4));
    sum += squares(4 * n);
  }
  return sum;
}
