/** @file AdamW and gradient clipping against torch. */
import { describe, expect, test } from "vitest";
import { AdamW, type AdamWOptions, clipFactor, globalNorm, type TrainedRow } from "../../../src/nn/adamw.ts";
import { zeros } from "../../../src/nn/adamw-kernel.ts";
import { maxDifference } from "../../support/golden.ts";
import { golden } from "./golden.ts";

const { initial, decayed, grads } = golden;
type Range = Omit<TrainedRow, "name">;
const named = (ranges: readonly Range[]): TrainedRow[] => ranges.map((r) => ({ ...r, name: `${r.start} ${r.end}` }));
const ranges: Range[] = [
  { start: 0, end: decayed, decay: true },
  { start: decayed, end: initial.length, decay: false },
];
const rows = named(ranges);
/** Parameters that lie where their gradients do. */
const views = (params: Float32Array) => ({
  view: (name: string) => params.subarray(...(name.split(" ").map(Number) as [number, number])),
});
const name = ({ options: o }: { options: AdamWOptions }) =>
  `lr ${o.learningRate}, betas ${o.beta1} ${o.beta2}, eps ${o.epsilon}, weight decay ${o.weightDecay}`;

test.each(golden.adamw.map((c) => [name(c), c] as const))("six steps equal torch.optim.AdamW: %s", (_, c) => {
  const optimizer = new AdamW(rows, c.options);
  const params = Float32Array.from(initial);
  grads.forEach((g, i) => {
    optimizer.options.learningRate = c.rates[i];
    const change = optimizer.update(views(params), Float32Array.from(g));
    expect(optimizer.step).toBe(i + 1);
    const before = i === 0 ? initial : c.after[i - 1];
    expect(Math.abs(change - Math.hypot(...c.after[i].map((p, j) => p - before[j])))).toBeLessThan(3e-6);
    expect(maxDifference(params, c.after[i])).toBeLessThan(1e-6);
  });
  const { m, v } = optimizer.state;
  c.m.forEach((x, i) => {
    // Large gradients may have cancelled: float32 rounds by their size.
    const largest = Math.max(...grads.map((g) => Math.abs(g[i])));
    expect(Math.abs(m![i] - x)).toBeLessThanOrEqual(2e-7 * largest);
  });
  c.v.forEach((x, i) => {
    expect(Math.abs(v![i] - x)).toBeLessThanOrEqual(1e-6 * x);
  });
});

test("long buffers, in chunks with a remainder, equal torch at every place", () => {
  const { options, after, rates } = golden.adamw[1];
  const copies = Math.ceil(40_000 / initial.length);
  const tile = (x: ArrayLike<number>) =>
    Float32Array.from({ length: copies * initial.length }, (_, i) => x[i % initial.length]);
  const start = 3; // nothing is aligned
  const params = new Float32Array(start + copies * initial.length);
  params.set(tile(initial), start);
  const g = new Float32Array(params.length);
  const parts = Array.from({ length: copies }, (_, i) =>
    ranges.map((r) => ({ ...r, start: start + i * initial.length + r.start, end: start + i * initial.length + r.end })),
  ).flat();
  // One decay for all would be one long range; these many short ones and the long one below must agree.
  const short = new AdamW(named(parts), options);
  const plain = golden.adamw.find((c) => c.options.weightDecay === 0) ?? golden.adamw[0];
  const long = new AdamW(named([{ start, end: params.length, decay: false }]), plain.options);
  const other = params.slice();
  grads.forEach((grad, i) => {
    short.options.learningRate = rates[i];
    long.options.learningRate = plain.rates[i];
    g.set(tile(grad), start);
    short.update(views(params), g);
    long.update(views(other), g);
    expect(maxDifference(params.subarray(start), tile(after[i]))).toBeLessThan(1e-6);
    expect(maxDifference(other.subarray(start), tile(plain.after[i]))).toBeLessThan(1e-6);
  });
  expect([...params.subarray(0, start)]).toEqual([0, 0, 0]);
});

test("gradScale equals scaled gradients", () => {
  const options = golden.adamw[1].options;
  const [one, other] = [Float32Array.from(initial), Float32Array.from(initial)];
  const [a, b] = [new AdamW(rows, options), new AdamW(rows, options)];
  for (const g of grads) {
    a.update(views(one), Float32Array.from(g), 0.25); // a power of two: exact
    b.update(
      views(other),
      Float32Array.from(g, (x) => 0.25 * x),
    );
  }
  expect(one).toEqual(other);
});

test("what no range covers stays as it is", () => {
  const optimizer = new AdamW(named([{ start: 2, end: 4, decay: true }]), { learningRate: 0.1, weightDecay: 0.1 });
  const params = Float32Array.from(initial);
  optimizer.update(views(params), Float32Array.from(grads[0]));
  const changed = Array.from(params, (p, i) => p !== Math.fround(initial[i]));
  expect(changed).toEqual(initial.map((_, i) => i === 2 || i === 3));
});

test("a state that was written out and read back continues exactly as without a break", () => {
  const { options, after } = golden.adamw[1];
  const params = Float32Array.from(initial);
  const first = new AdamW(rows, options);
  for (const g of grads.slice(0, 3)) first.update(views(params), Float32Array.from(g));
  const { step, m, v } = first.state;
  const second = new AdamW(rows, { ...options, learningRate: options.learningRate / 2 });
  second.setState({ step, m: m!.slice(), v: v!.slice() });
  const copy = params.slice();
  first.options.learningRate /= 2;
  for (const g of grads.slice(3)) {
    first.update(views(params), Float32Array.from(g));
    second.update(views(copy), Float32Array.from(g));
  }
  expect(copy).toEqual(params);
  expect(maxDifference(copy, after[5])).toBeLessThan(1e-6);
  expect(second.state.step).toBe(6);
});

test("an optimizer that has not stepped has no moments, and a state without them can be loaded", () => {
  const optimizer = new AdamW(rows);
  expect(optimizer.state).toEqual({ step: 0, m: undefined, v: undefined });
  const other = new AdamW(rows);
  other.setState(optimizer.state);
  const params = Float32Array.from(initial);
  other.update(views(params), Float32Array.from(grads[0]));
  expect(maxDifference(params, golden.adamw[0].after[0])).toBeLessThan(1e-6);
});

describe("arrays that lie in one WebAssembly memory", () => {
  // One row of whole chunks, some that end within four numbers or begin there, one of a single number.
  const lengths = [2 ** 20, 70_001, 16_384, 2, 1, 40_003];
  const size = lengths.reduce((a, b) => a + b);
  const placed = named(
    lengths.map((n, i) => {
      const start = lengths.slice(0, i).reduce((a, b) => a + b, 0);
      return { start, end: start + n, decay: i % 2 === 0 };
    }),
  );
  const wave = (by: number) => Float32Array.from({ length: size }, (_, i) => Math.sin(by * i) * 2 ** (i % 9));
  const initially = wave(0.3);
  const gradients = [0.7, 1.1, 1.9].map(wave);
  const bits = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);

  /** Three steps: parameters, moments and what was reported. */
  function steps(optimizer: AdamW, params: Float32Array, grads: Float32Array) {
    params.set(initially);
    const reported = gradients.map((g, i) => {
      grads.set(g);
      return [optimizer.update(views(params), grads, 1 / (i + 1)), globalNorm(grads)];
    });
    const { m, v } = optimizer.state as { m: Float32Array; v: Float32Array };
    return { reported, arrays: [params, m, v] };
  }

  const options = { learningRate: 0.1, weightDecay: 0.1 };
  const copied = new AdamW(placed, options);
  copied.setState({ step: 0, m: new Float32Array(size), v: new Float32Array(size) });
  const plain = steps(copied, new Float32Array(size), new Float32Array(size));
  const room = () => zeros(size, 3) as Float32Array;
  const near = ({ buffer }: Float32Array) => zeros(size, 2, buffer) as Float32Array;
  const all = room();

  test.each<[string, Float32Array, Float32Array, number]>([
    ["none but the moments", new Float32Array(size), new Float32Array(size), 2],
    ["none but the parameters", room(), new Float32Array(size), 2],
    ["moments and gradients", new Float32Array(size), room(), 3],
    ["these, and the parameters in another", room(), room(), 3],
    ["all", all, near(all), 4],
  ])("get the same bits as copied ones: %s", (_, params, grads, together) => {
    const optimizer = new AdamW(placed, options);
    optimizer.near = grads.buffer;
    const { reported, arrays } = steps(optimizer, params, grads);
    const [, m, v] = arrays;
    expect([params, grads, m, v].filter(({ buffer }) => buffer === v.buffer)).toHaveLength(together);
    expect(reported).toEqual(plain.reported);
    arrays.forEach((x, i) => {
      expect(bits(x).equals(bits(plain.arrays[i])), ["p", "m", "v"][i]).toBe(true);
    });
  });

  test("lie together if there is room for all that will be wanted, up to 4 GB", () => {
    const first = zeros(2e6, 2) as Float32Array;
    const wanted = [1, 0, 0].map((more) => zeros(2e6, more, first.buffer) as Float32Array);
    expect([first, ...wanted].map(({ byteOffset }) => byteOffset - first.byteOffset)).toEqual([0, 8e6, 16e6, 0]);
    expect(wanted.map(({ buffer }) => buffer === first.buffer)).toEqual([true, true, false]);
    expect(zeros(400e6, 1)?.length).toBe(400e6);
    expect(zeros(400e6, 2)).toBe(undefined);
  });

  test("are plain arrays where they are so few that copying costs nothing", () => {
    expect(zeros(1000, 3)).toBe(undefined);
    expect(zeros(20_000, 0, all.buffer)).toBe(undefined); // that room is full
  });
});

test.each(golden.clip)("clipping to $maxNorm equals clip_grad_norm_", ({ maxNorm, norm, clipped }) => {
  const g = Float32Array.from(grads[0]);
  expect(Math.abs(globalNorm(g) - norm) / norm).toBeLessThan(1e-12);
  const factor = clipFactor(globalNorm(g), maxNorm);
  // torch adds 1e-6 to the norm it divides by.
  const scaled = g.map((x) => x * factor);
  clipped.forEach((x, i) => {
    expect(Math.abs(scaled[i] - x)).toBeLessThanOrEqual(3e-6 * Math.abs(x));
  });
  expect(factor).toBeLessThanOrEqual(1);
});

test("a norm of the limit, below it, or no limit leaves gradients alone", () => {
  expect([clipFactor(1, 1), clipFactor(0.5, 1), clipFactor(100, 0), clipFactor(0, 1)]).toEqual([1, 1, 1, 1]);
});
