/** @file Frequencies of rotary positions against transformers' rotary embeddings. `rotate` is in test/grad/ops.test.ts. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { inverseFrequencies, type Rope, rotaryTables } from "../../../src/nn/rotary.ts";

const expected = (name: string): number[] =>
  JSON.parse(readFileSync(new URL(`../../golden/llama/${name}/golden.json`, import.meta.url), "utf8"))
    .inverseFrequencies;
const llama3: Rope = {
  ropeType: "llama3",
  ropeTheta: 100,
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 32,
};

describe("inverse frequencies", () => {
  test.each<[string, number, Rope]>([
    ["llama-tiny", 8, { ropeType: "default", ropeTheta: 1e4 }],
    ["qwen2-tiny", 4, { ropeType: "default", ropeTheta: 1e4 }],
    ["qwen3-tiny", 8, { ropeType: "default", ropeTheta: 1e6 }],
    ["llama-bias", 10, { ropeType: "default", ropeTheta: 1e4 }],
    ["llama-linear-rope", 6, { ropeType: "linear", ropeTheta: 50, factor: 2 }],
    ["llama3-rope", 8, llama3],
  ])("of %s", (name, D, rope) => {
    const got = inverseFrequencies(D, rope);
    const want = expected(name);
    expect(got.length).toBe(want.length);
    // One unit in the last place: torch's power is not rounded correctly everywhere.
    want.forEach((w, i) => {
      expect(Math.abs(got[i] - w)).toBeLessThanOrEqual(2 ** -23 * w);
    });
  });

  test("of Llama 3 are of three kinds here: kept, in between, divided", () => {
    const plain = inverseFrequencies(8, { ropeType: "default", ropeTheta: 100 });
    const ratios = inverseFrequencies(8, llama3).map((w, i) => plain[i] / w);
    expect(ratios[0]).toBe(1);
    expect(ratios[1]).toBeGreaterThan(1);
    expect(ratios[1]).toBeLessThan(8);
    expect(ratios[3]).toBeCloseTo(8);
  });
});

test("cosine and sine of each position", () => {
  const { cos, sin } = rotaryTables(Float32Array.of(1, 0.5), [0, 3, 1]);
  const angles = [0, 0, 3, 1.5, 1, 0.5];
  expect(Array.from(cos)).toEqual(angles.map((a) => Math.fround(Math.cos(a))));
  expect(Array.from(sin)).toEqual(angles.map((a) => Math.fround(Math.sin(a))));
  expect(rotaryTables(Float32Array.of(1, 0.5), [])).toEqual({ cos: new Float32Array(), sin: new Float32Array() });
});
