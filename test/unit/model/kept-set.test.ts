import { describe, expect, it } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { KeptSet, keptAt, packKept } from "../../../src/model/kept-set.ts";

describe.each([1, 31, 32, 33, 101, 8192, 50257])("a vocabulary of %i", (V) => {
  const rng = new RNG(V);
  it.each([0, 0.01, 0.1, 0.5, 0.999, 1])("with a share of %d kept", (share) => {
    const ids = Int32Array.from({ length: V }, (_, v) => v).filter(() => rng.uniform() < share);
    const set = KeptSet.of(ids, V);
    const flags = new Uint8Array(V);
    for (const id of ids) flags[id] = 1;
    expect(set.size).toBe(ids.length);
    expect(set.ids()).toEqual(ids);
    expect(set.data.length).toBeLessThanOrEqual(Math.ceil(V / 32)); // 4 bytes each: V / 8 bytes at most
    const row = new Float32Array(V).fill(9);
    set.fill(row, 1, 0);
    expect(row).toEqual(Float32Array.from(flags));
    for (let v = 0; v < V; v += V > 1000 ? 97 : 1) expect(set.has(v)).toBe(flags[v] === 1);
  });
});

it("packed sets are the same sets, and one that many tokens share is packed once", () => {
  const V = 100;
  const of = (share: number, seed: number) => {
    const rng = new RNG(seed);
    return KeptSet.of(
      Int32Array.from({ length: V }, (_, v) => v).filter(() => rng.uniform() < share),
      V,
    );
  };
  const [few, many, others] = [of(0.02, 1), of(0.9, 2), of(0.97, 3)];
  expect([few, many].map(({ data }) => data.constructor)).toEqual([Int32Array, Uint32Array]);
  const kept = [few, undefined, many, many, undefined, others, few, KeptSet.of(new Int32Array(0), V)];
  const packed = packKept(kept);
  expect(packed.index).toEqual(Int32Array.of(0, -1, 1, 1, -1, 2, 0, 3));
  expect(packed.words.length).toBe(few.data.length + many.data.length + others.data.length);
  expect(kept.map((_, i) => keptAt(packed, i))).toEqual(kept);
  expect(kept.map((_, i) => keptAt(packed, i)?.data.constructor)).toEqual(kept.map((set) => set?.data.constructor));
});
