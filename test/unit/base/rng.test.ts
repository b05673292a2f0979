/** @file Random numbers: the generator against its definition, the distributions, independent streams, state. */
import { describe, expect, test } from "vitest";
import { RNG } from "../../../src/base/rng.ts";

const draw = (n: number, next: () => number) => Array.from({ length: n }, next);

// From the definition of xoshiro128** 1.1, written separately in Python with integers of any size.
const vectors: [words: [number, number, number, number], outputs: number[], after: number[]][] = [
  [
    [1, 2, 3, 4],
    [11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804],
    [939045227, 1864939416, 1451579149, 2199351389],
  ],
  [
    [0xdeadbeef, 0x80000000, 0xffffffff, 0x12345678],
    [576, 3132614827, 2263960055, 3306064138, 3071822689, 1879777386, 3209721910, 347382396],
    [2883733972, 1785297511, 788111688, 3435666533],
  ],
];

test.each(vectors)("xoshiro128** from state %j", (words, outputs, after) => {
  const rng = RNG.fromState({ words, spare: null });
  expect(draw(outputs.length, () => rng.uint32())).toEqual(outputs);
  expect(rng.getState()).toEqual({ words: after, spare: null });
});

test("a uniform number is 53 bits of two outputs", () => {
  const rng = RNG.fromState({ words: [0xdeadbeef, 0x80000000, 0xffffffff, 0x12345678], spare: null });
  // (576 >> 5) * 2^26 + (3132614827 >> 6), over 2^53
  expect(rng.uniform()).toBe((18 * 2 ** 26 + 48947106) / 2 ** 53);
});

describe("streams", () => {
  const first = (...key: [number, ...number[]]) => draw(4, RNG.prototype.uint32.bind(new RNG(...key))).join();

  test("the same name gives the same numbers", () => {
    expect(first(7, 1, 2)).toBe(first(7, 1, 2));
  });

  test("every other name gives others", () => {
    const names: [number, ...number[]][] = [
      [0],
      [1],
      [-1],
      [0, 0],
      [0, 1],
      [1, 0],
      [0, 0, 0],
      [1, 2, 3],
      [3, 2, 1],
      [2 ** 32],
      [2 ** 32 + 1],
      [Number.MAX_SAFE_INTEGER],
      [-(2 ** 32)],
    ];
    for (let i = 2; i < 500; i++) names.push([i], [0, i], [i, 0]);
    expect(new Set(names.map((n) => first(...n))).size).toBe(names.length);
  });

  test("neighbouring streams are not correlated", () => {
    // The first uniform of streams 0 .. n-1 behaves like one stream: mean 1/2, and no correlation with the next.
    const n = 20_000;
    const u = Array.from({ length: n }, (_, i) => new RNG(42, i).uniform() - 0.5);
    const mean = u.reduce((s, x) => s + x, 0) / n;
    const lag = u.slice(1).reduce((s, x, i) => s + x * u[i], 0) / n;
    expect(Math.abs(mean)).toBeLessThan(4 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(lag)).toBeLessThan(4 * (1 / 12 / Math.sqrt(n)));
  });
});

/** Four standard errors: a right generator fails one such check in 16 000, and the seed is fixed. */
describe("distributions", () => {
  const n = 100_000;

  test("uniform: range, mean 1/2, variance 1/12, chi-squared over 64 cells", () => {
    const rng = new RNG(1);
    const x = draw(n, () => rng.uniform());
    expect(x.every((u) => u >= 0 && u < 1)).toBe(true);
    const mean = x.reduce((s, u) => s + u, 0) / n;
    const variance = x.reduce((s, u) => s + (u - mean) ** 2, 0) / n;
    expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(4 * Math.sqrt(1 / 180 / n)); // Var((u - 1/2)^2) = 1/180
    const cells = new Array(64).fill(0);
    for (const u of x) cells[Math.floor(u * 64)]++;
    const chi = cells.reduce((s, c) => s + (c - n / 64) ** 2 / (n / 64), 0);
    expect(Math.abs(chi - 63)).toBeLessThan(4 * Math.sqrt(2 * 63)); // mean and variance of chi-squared with 63 degrees
  });

  test("integers below 7 are equally likely", () => {
    const rng = new RNG(2);
    const cells = new Array(7).fill(0);
    for (let i = 0; i < n; i++) cells[rng.int(7)]++;
    const chi = cells.reduce((s, c) => s + (c - n / 7) ** 2 / (n / 7), 0);
    expect(chi).toBeLessThan(6 + 4 * Math.sqrt(12));
    expect(chi).toBeGreaterThan(0.2);
  });

  test("normal: moments 0, 1, 0, 3, and the share within one standard deviation", () => {
    const rng = new RNG(3);
    const x = draw(n, () => rng.normal());
    const moment = (k: number) => x.reduce((s, v) => s + v ** k, 0) / n;
    // Var(x^k) = E x^2k - (E x^k)^2: 1, 2, 15, 96
    expect(Math.abs(moment(1))).toBeLessThan(4 * Math.sqrt(1 / n));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
    expect(Math.abs(moment(3))).toBeLessThan(4 * Math.sqrt(15 / n));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(4 * Math.sqrt(96 / n));
    const inside = x.filter((v) => Math.abs(v) < 1).length / n;
    expect(Math.abs(inside - 0.682689)).toBeLessThan(4 * Math.sqrt((0.6827 * 0.3173) / n));
    // Both deviates of a pair are used, and they are independent.
    const pairs = x.reduce((s, v, i) => s + (i % 2 === 0 ? v * x[i + 1] : 0), 0) / (n / 2);
    expect(Math.abs(pairs)).toBeLessThan(4 * Math.sqrt(2 / n));
  });

  test("a permutation has each number once, and every order of four is equally likely", () => {
    const rng = new RNG(4);
    expect([...rng.permutation(1000)].sort((a, b) => a - b)).toEqual(draw1000);
    expect([...rng.permutation(0)]).toEqual([]);
    expect([...rng.permutation(1)]).toEqual([0]);
    const counts = new Map<string, number>();
    const trials = 24_000;
    for (let i = 0; i < trials; i++) {
      const order = rng.permutation(4).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    const chi = [...counts.values()].reduce((s, c) => s + (c - 1000) ** 2 / 1000, 0);
    expect(Math.abs(chi - 23)).toBeLessThan(4 * Math.sqrt(2 * 23));
  });
});

const draw1000 = Array.from({ length: 1000 }, (_, i) => i);

test("a state taken in the middle of a pair of normals, written as JSON, continues the stream", () => {
  const rng = new RNG(5, 6);
  rng.normal();
  const state = JSON.parse(JSON.stringify(rng.getState()));
  expect(state.spare).not.toBe(null);
  const next = () => [rng.normal(), rng.normal(), rng.uniform(), rng.int(100), ...rng.permutation(5)];
  const want = next();
  const restored = RNG.fromState(state);
  expect([
    restored.normal(),
    restored.normal(),
    restored.uniform(),
    restored.int(100),
    ...restored.permutation(5),
  ]).toEqual(want);
  const other = new RNG(99);
  other.setState(state);
  expect(other.normal()).toBe(want[0]);
});

test("a state is a copy: drawing on does not change it", () => {
  const rng = new RNG(8);
  const state = rng.getState();
  const before = JSON.stringify(state);
  rng.uint32();
  expect(JSON.stringify(state)).toBe(before);
});
