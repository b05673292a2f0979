/**
 * @file WebAssembly modules put together from their instructions (binary format: webassembly.github.io/spec/core/binary, vectors included):
 * no build step and no tool.
 */

export type Code = readonly number[];

/** Types of values. */
export const [I32, F32, F64, V128] = [0x7f, 0x7d, 0x7c, 0x7b];
const [FUNCTION, NOTHING] = [0x60, 0x40];

export const PAGE = 1 << 16; // bytes

/** Unsigned LEB128: how the format writes whole numbers. */
export function leb(n: number): number[] {
  const low = n & 0x7f;
  return n < 0x80 ? [low] : [low | 0x80, ...leb(n >>> 7)];
}

export const get = (local: number): Code => [0x20, ...leb(local)];
export const set = (local: number, value: Code): Code => [...value, 0x21, ...leb(local)];
/** An instruction on vectors, after its operands. */
export const vector = (opcode: number, ...operands: Code[]): Code => [...operands.flat(), 0xfd, ...leb(opcode)];
/** A number as float64. */
export const f64 = (x: number): Code => [0x44, ...new Uint8Array(Float64Array.of(x).buffer)];
/** A local moved on by a few bytes (below 64). */
export const advance = (local: number, bytes: number): Code => [...get(local), 0x41, bytes, 0x6a, 0x21, ...leb(local)];

/** Memory from the place in local `at` on, `bytes` (below 64) at a time, until it is not below the place in local `end`: once at least. */
export const loop = (at: number, end: number, bytes: number, body: Code): Code => [
  ...[0x03, NOTHING, ...body],
  ...[...get(at), 0x41, bytes, 0x6a, 0x22, ...leb(at), ...get(end), 0x49, 0x0d, 0],
  0x0b,
];

/** One or the other, by a whole number that is not 0 or is. */
export const whether = (condition: Code, yes: Code, no: Code): Code => [
  ...[...condition, 0x04, NOTHING, ...yes],
  ...[0x05, ...no, 0x0b],
];

/** The same as long as a condition holds, from local `at` on; not even once where that is not below local `end`. */
export const loopWhile = (at: number, end: number, bytes: number, condition: Code): Code => [
  ...[0x02, NOTHING, 0x03, NOTHING], // a block around a loop
  ...[...get(at), ...get(end), 0x4f, 0x0d, 1], // out of both from the end on
  ...[...condition, 0x45, 0x0d, 1],
  ...[...advance(at, bytes), 0x0c, 0, 0x0b, 0x0b],
];

export interface WasmFunction {
  readonly parameters: readonly number[];
  readonly result: number;
  /** How many of which type, after the parameters. */
  readonly locals: readonly (readonly [count: number, type: number])[];
  readonly body: Code;
}

type Calls<Names extends string> = Readonly<Record<Names, (...numbers: number[]) => number>>;

/** The functions, and the memory of so many bytes that they share. */
export function instantiate<Names extends string>(
  functions: Readonly<Record<Names, WasmFunction>>,
  bytes: number,
): { memory: ArrayBuffer; calls: Calls<Names> } {
  const list = Object.entries<WasmFunction>(functions);
  const counted = (items: readonly Code[]): Code => [...leb(items.length), ...items.flat()];
  const sized = (content: Code): Code => [...leb(content.length), ...content];
  const section = (id: number, content: Code): Code => [id, ...sized(content)];
  const name = (text: string): Code => sized(Array.from(text, (c) => c.charCodeAt(0)));
  const types = list.map(([, { parameters, result }]) => [FUNCTION, ...sized(parameters), 1, result]);
  const exported = list.map(([called], i) => [...name(called), 0, i]);
  const bodies = list.map(([, { locals, body }]) =>
    sized([...counted(locals.map(([count, type]) => [...leb(count), type])), ...body, 0x0b]),
  );
  const module = Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, counted(types)),
    ...section(3, counted(list.map((_, i) => [i]))),
    ...section(5, [1, 0, ...leb(Math.ceil(bytes / PAGE))]),
    ...section(7, counted([[...name("memory"), 2, 0], ...exported])),
    ...section(10, counted(bodies)),
  ]);
  const { memory, ...calls } = new WebAssembly.Instance(new WebAssembly.Module(module)).exports;
  return { memory: (memory as WebAssembly.Memory).buffer as ArrayBuffer, calls: calls as Calls<Names> };
}
