import { describe, expect, it } from "vitest";
import { CorpusSampler, consecutiveWindows } from "../../../src/data/sampler.ts";

const count = (n: number) => Uint16Array.from({ length: n }, (_, i) => i);
const rowsOf = (batch: Int32Array, width: number) =>
  Array.from({ length: batch.length / width }, (_, row) => Array.from(batch.subarray(row * width, (row + 1) * width)));

describe("CorpusSampler", () => {
  const options = { sequenceLength: 4, batchSize: 3, seed: 5 };

  it("gives windows of consecutive tokens", () => {
    const sampler = new CorpusSampler(count(100), options);
    for (let step = 0; step < 50; step++) {
      const rows = rowsOf(sampler.next(), 5);
      expect(rows.length).toBe(3);
      for (const row of rows) expect(row).toEqual([0, 1, 2, 3, 4].map((i) => row[0] + i));
    }
  });

  it("uses every window once per epoch, in another order and at another offset each time", () => {
    // 101 tokens: 25 windows at offset 0, 24 at offsets 1 to 3.
    const sampler = new CorpusSampler(count(101), { ...options, batchSize: 1 });
    const offsets = new Set<number>();
    const orders = new Set<string>();
    for (let epoch = 0; epoch < 40; epoch++) {
      const starts: number[] = [];
      while (Math.floor(sampler.epoch) === epoch || starts.length === 0) {
        starts.push(sampler.next()[0]);
        if (sampler.getState().position >= (starts.some((s) => s % 4 === 0) ? 25 : 24)) break;
      }
      const offset = Math.min(...starts);
      expect(offset).toBeLessThan(4);
      offsets.add(offset);
      orders.add(String(starts));
      const windows = Math.floor((100 - offset) / 4);
      expect([...starts].sort((a, b) => a - b)).toEqual(Array.from({ length: windows }, (_, i) => offset + 4 * i));
    }
    expect([...offsets].sort()).toEqual([0, 1, 2, 3]);
    expect(orders.size).toBe(40);
  });

  it("reaches every token as a target", () => {
    const sampler = new CorpusSampler(count(23), options);
    const seen = new Set<number>();
    for (let step = 0; step < 60; step++)
      for (const row of rowsOf(sampler.next(), 5)) for (const id of row.slice(1)) seen.add(id);
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: 22 }, (_, i) => i + 1));
  });

  it("works with exactly one window, and batches larger than an epoch", () => {
    const sampler = new CorpusSampler(count(5), options);
    expect(rowsOf(sampler.next(), 5)).toEqual(new Array(3).fill([0, 1, 2, 3, 4]));
    expect(sampler.epoch).toBe(3);
  });

  it("continues from its state, also through JSON and with another batch size", () => {
    const sampler = new CorpusSampler(count(100), options);
    for (let step = 0; step < 13; step++) sampler.next();
    const state = JSON.parse(JSON.stringify(sampler.getState()));
    const resumed = new CorpusSampler(count(100), { ...options, batchSize: 6 });
    resumed.setState(state);
    for (let step = 0; step < 20; step++) {
      expect(Array.from(resumed.next())).toEqual([...sampler.next(), ...sampler.next()]);
    }
    expect(resumed.getState()).toEqual(sampler.getState());
  });

  it("depends on the seed alone", () => {
    const first = (seed: number) => Array.from(new CorpusSampler(count(1000), { ...options, seed }).next());
    expect(first(5)).toEqual(first(5));
    expect(first(6)).not.toEqual(first(5));
  });

  it("refuses the state of another corpus, length or seed", () => {
    const state = new CorpusSampler(count(100), options).getState();
    expect(() => new CorpusSampler(count(99), options).setState(state)).toThrow(
      "state of the corpus sampler, tokens: found 100, expected 99. Fix: resume with the data files",
    );
    expect(() => new CorpusSampler(count(100), { ...options, seed: 6 }).setState(state)).toThrow(
      "sampler, seed: found 5",
    );
    expect(() => new CorpusSampler(count(100), { ...options, sequenceLength: 5 }).setState(state)).toThrow(
      "sampler, sequenceLength: found 4, expected 5",
    );
  });

  it("refuses a corpus shorter than a window, and sizes that are none", () => {
    expect(() => new CorpusSampler(count(4), options)).toThrow(
      "corpus: found 4 tokens, expected at least 5, one window of sequenceLength + 1. Fix: add text or shorten sequenceLength",
    );
    expect(() => new CorpusSampler(count(9), { ...options, sequenceLength: 0 })).toThrow("sequenceLength: found 0");
    expect(() => new CorpusSampler(count(9), { ...options, batchSize: 1.5 })).toThrow("batchSize: found 1.5");
  });
});

describe("consecutiveWindows", () => {
  it("goes through the corpus in order", () => {
    const batches = [...consecutiveWindows(count(12), { sequenceLength: 3, batchSize: 2 })];
    expect(batches).toEqual([
      { ids: Int32Array.of(0, 1, 2, 3, 3, 4, 5, 6), rows: 2, starts: Int32Array.of(0, 3) },
      { ids: Int32Array.of(6, 7, 8, 9), rows: 1, starts: Int32Array.of(6) },
    ]);
  });

  it("refuses a corpus shorter than a window", () => {
    expect(() => [...consecutiveWindows(count(3), { sequenceLength: 3, batchSize: 2 })]).toThrow(
      "corpus: found 3 tokens",
    );
  });
});
