/**
 * @file AdamW's inner loop and the sum of squares in WebAssembly, four float32 at a time: a plain loop would spend most of its time on
 * one root and one division at a time. Arrays that lie in WebAssembly memory ({@link zeros}) are read and changed where they lie; chunks
 * of others are copied to the beginning of that memory, which stays in the processor's cache, and back. The bits are the same.
 */
import { type Code, F32, F64, get, I32, instantiate, loop, set, V128, vector } from "./wasm.ts";

/** Elements of a chunk. Four arrays of them are 256 kB. */
const CHUNK = 1 << 14;
const BYTES = 4 * CHUNK;
/** The arrays, in the order in which chunks are copied and in which the function is given their places. */
const [P, G, M, V] = [0, 1, 2, 3];
const ARRAYS = 4;

/** The loop's numbers, in the order of the function's parameters, which follow the length of the chunk and the places. */
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

// Locals of the step: the length of the chunk in bytes, where each array begins, the scalars, how far it is, the scalars four times
// over, g, m and v, what p changes by, four sums of its squares.
const GIVEN = 1 + ARRAYS;
const AT = GIVEN + SCALARS.length;
const FIRST = AT + 1;
const [g, m, v, change, squares] = [0, 1, 2, 3, 4].map((i) => FIRST + SCALARS.length + i);
const scalar = (name: Scalar) => get(FIRST + SCALARS.indexOf(name));
const ALIGNMENT = 4; // 2^4 bytes
const place = (array: number): Code => [...get(1 + array), ...get(AT), 0x6a]; // i32.add
const load = (array: number): Code => [...vector(0x00, place(array)), ALIGNMENT, 0];
const store = (array: number, value: Code): Code => [...vector(0x0b, place(array), value), ALIGNMENT, 0];

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
 * sum x^2 of the float32 in the memory from local 1 to local 0, in bytes, as float64. Two pairs of sums take turns, so that no addition
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
    parameters: [...Array(GIVEN).fill(I32), ...SCALARS.map(() => F32)],
    result: F32,
    locals: [
      [1, I32],
      [SCALARS.length + 5, V128],
    ],
    body: [
      ...SCALARS.flatMap((_, i) => set(FIRST + i, vector(0x13, get(GIVEN + i)))), // splat
      ...loop(AT, 0, 16, LOOP),
      ...[...lane(0), ...lane(1), 0x92, ...lane(2), 0x92, ...lane(3), 0x92], // f32.add
    ],
  },
  squares: {
    parameters: [I32, I32],
    result: F64,
    locals: [[3, V128]],
    body: SQUARES,
  },
} as const;

/** A WebAssembly memory, and the kernel that works in it. */
interface Room {
  readonly memory: ArrayBuffer;
  /** The beginning of it, where chunks are copied to. */
  readonly chunks: Float32Array;
  readonly adam: (bytes: number, ...placesAndScalars: number[]) => number;
  readonly squares: (end: number, from: number) => number;
  /** Where what nobody was given begins, in bytes. */
  free: number;
}

/** Rooms by their memory. */
const rooms = new WeakMap<ArrayBufferLike, Room>();
let smallest: Room | undefined;

function newRoom(bytes: number): Room {
  const free = ARRAYS * BYTES;
  const { memory, calls } = instantiate(FUNCTIONS, free + bytes + 4); // the place behind the last number has 32 bits, too
  const room = { memory, chunks: new Float32Array(memory, 0, ARRAYS * CHUNK), ...calls, free };
  rooms.set(memory, room);
  return room;
}

/** The room that an array lies in; for all others one that has room for chunks alone. */
function roomOf(array: Float32Array): Room {
  const room = rooms.get(array.buffer);
  if (room) return room;
  smallest ??= newRoom(0);
  return smallest;
}

/** Less stays in the cache while it is copied, and each memory takes 10 GB of addresses. */
const WORTHWHILE = 1 << 22;

/**
 * Zeros in WebAssembly memory, where the kernels need no copy of them. They take no memory until they are written, and it is free when
 * nobody has an array in it any more.
 * @param more how many others as long will be wanted beside them
 * @param near the memory in which they shall lie, if there is room for all
 * @returns undefined: they are too few for that to matter, with the others too many for 4 GB, or more than there is memory for
 */
export function zeros(length: number, more: number, near?: ArrayBufferLike): Float32Array | undefined {
  const bytes = 4 * length * (1 + more);
  let room = near && rooms.get(near);
  if (!room || room.free + bytes >= room.memory.byteLength) {
    if (bytes < WORTHWHILE) return undefined;
    try {
      room = newRoom(bytes);
    } catch {
      return undefined; // too many pages, or no memory
    }
  }
  const array = new Float32Array(room.memory, room.free, length);
  room.free += 4 * length;
  return array;
}

/** Where a part of an array lies in a room: its own place, or that of the chunk of number i, to which it is copied. */
function placeIn({ memory, chunks }: Room, array: Float32Array, from: number, n: number, i = 0): number {
  // The kernel takes four at a time: the last ones would reach into what lies behind them.
  if (array.buffer === memory && n % 4 === 0) return array.byteOffset + 4 * from;
  chunks.set(array.subarray(from, from + n), i * CHUNK);
  chunks.fill(0, i * CHUNK + n, i * CHUNK + 4 * Math.ceil(n / 4)); // a zero gradient changes nothing
  return i * BYTES;
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
  const room = roomOf(m);
  const numbers = SCALARS.map((name) => scalars[name]);
  let squares = 0;
  for (let from = 0; from < p.length; from += CHUNK) {
    const n = Math.min(CHUNK, p.length - from);
    const places = [p, grads, m, v].map((array, i) => placeIn(room, array, from, n, i));
    squares += room.adam(4 * n, ...places, ...numbers);
    [p, undefined, m, v].forEach((array, i) => {
      if (places[i] === i * BYTES) array?.set(room.chunks.subarray(i * CHUNK, i * CHUNK + n), from);
    });
  }
  return squares;
}

/** sum x^2, in float64. */
export function sumOfSquares(x: Float32Array): number {
  const room = roomOf(x);
  const { length } = room.chunks;
  let sum = 0;
  for (let from = 0; from < x.length; from += length) {
    const n = Math.min(length, x.length - from);
    const place = placeIn(room, x, from, n);
    sum += room.squares(place + 4 * n, place);
  }
  return sum;
}
