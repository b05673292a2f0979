/** @file Every activation a config may name, against transformers.activations.ACT2FN. */
import { expect, test } from "vitest";
import { SUPPORTED_ACTIVATIONS } from "../../../src/checkpoint/config-json.ts";
import { input } from "../../../src/graph/tensor.ts";
import { activations } from "../../../src/nn/activations.ts";
import { maxDifference } from "../../support/golden.ts";
import { run } from "../../support/run.ts";
import { golden } from "./golden.ts";

test("each supported name has a graph and a reference, and no graph has no name", () => {
  expect(Object.keys(activations).sort()).toEqual([...SUPPORTED_ACTIVATIONS].sort());
  expect(Object.keys(golden.activations.values).sort()).toEqual([...SUPPORTED_ACTIVATIONS].sort());
});

test.each(SUPPORTED_ACTIVATIONS)("%s", (name) => {
  const x = Float32Array.from(golden.activations.x);
  const { y } = run({ y: activations[name](input("x", { N: x.length })) }, { x });
  expect(maxDifference(y, golden.activations.values[name])).toBeLessThan(2e-6);
});
