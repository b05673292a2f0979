import { describe, expect, it } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { KeptSet } from "../../../src/model/kept-set.ts";

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
