/**
 * @file One model on every backend: where the host cannot see the memory, programs stand for its loops; where weights are kept there,
 * for AdamW too; on WebAssembly other kernels compute.
 */
import { afterAll, describe, expect, it } from "vitest";
import type { Backend } from "../../src/backend/backend.ts";
import { Engine } from "../../src/backend/engine.ts";
import { OrtNode } from "../../src/backend/ort-node.ts";
import { OrtWeb } from "../../src/backend/ort-web.ts";
import { Memo } from "../../src/base/memo.ts";
import { loadModel } from "../../src/families/index.ts";
import { LOWERINGS } from "../../src/graph/lower.ts";
import { hidden } from "../support/backends.ts";
import { computations, type Results, sameResults } from "../support/computations.ts";
import { goldenPath, tinyDir } from "../support/golden.ts";

/** On one thread, so that sums are taken in the same order. */
const cpu = new Engine({ threads: 1 });
const over = (backend: Backend) => Engine.over(backend);
const lacks = new Set(LOWERINGS.keys());
const others: [string, Engine, number][] = [
  ["the CPU with its memory hidden", over(hidden(new OrtNode({ threads: 1 }))), 0],
  [
    "the CPU without every operator that has a rule, keeping the weights",
    over(hidden(new OrtNode({ threads: 1, lacks }), true)),
    1e-4,
  ],
  ["WebAssembly", over(new OrtWeb({ threads: 1 })), 1e-4],
];
const models = [tinyDir, goldenPath("llama/llama-tiny"), goldenPath("llama/qwen3-tiny")];

describe.each(models)("%s", (directory) => {
  const open = (engine: Engine) => loadModel(directory, { engine });
  const onCPU = new Map(computations.map(([name, compute]) => [name, async () => compute(await open(cpu))]));
  const wanted = new Memo((name: string) => (onCPU.get(name) as () => Promise<Results>)());

  describe.each(others)("%s", (_, engine, tolerance) => {
    it.each(computations)("%s: as on the CPU", async (name, compute) => {
      sameResults(await compute(await open(engine)), await wanted.get(name), tolerance);
    });
  });
});

afterAll(() => {
  for (const engine of [cpu, ...others.map(([, one]) => one)]) engine.dispose();
});

it("the CPU's memory can be seen, and the others' cannot", () => {
  const isSeen = ({ backend }: Engine) => backend.host(backend.buffer("float32", 1)) !== undefined;
  expect([cpu, ...others.map(([, engine]) => engine)].map(isSeen)).toEqual([true, false, false, false]);
});
