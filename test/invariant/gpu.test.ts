/** @file The models on a GPU are those on the CPU: in Node, where a GPU or SwiftShader is there. */
import { afterAll, describe, expect, it } from "vitest";
import { ppoLoss } from "../../src/algorithms/losses.ts";
import { Engine } from "../../src/backend/engine.ts";
import type { WebGPU } from "../../src/backend/webgpu.ts";
import { loadModel } from "../../src/families/index.ts";
import { add } from "../../src/graph/ops/index.ts";
import { operations } from "../../src/graph/ops/registry.ts";
import { input } from "../../src/graph/tensor.ts";
import type { CausalLMWithValueHead } from "../../src/model/model.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { generate } from "../../src/sample/generate.ts";
import { goldenPath, tinyDir } from "../support/golden.ts";
import { hasGPU } from "../support/gpu.ts";
import { cases, compileCase } from "../support/operations.ts";

const B = 2;
const T = 6;
const ids = Int32Array.from({ length: B * T }, (_, i) => (37 * i + 5) % 53);
const rows = Int32Array.from({ length: B * (T - 1) }, (_, n) => Math.floor(n / (T - 1)) * T + (n % (T - 1)));
const asked = { tokens: { ids, B, T }, rows, ids: rows.map((n) => ids[n + 1]), distribution: { temperature: 0.8 } };
const inputs = Object.fromEntries(
  ["oldLogprobs", "advantages", "oldValues", "returns", "weight"].map((name, i) => [
    name,
    Float32Array.from(rows, (n) => (name === "weight" ? 1 / rows.length : Math.sin(5 * i + n) - (i === 0 ? 4 : 0))),
  ]),
);
const loss = ppoLoss({ clipRange: 0.2, clipRangeValue: 0.2, vfCoef: 0.5, entropyCoef: 0.01 });

function close(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what: string): void {
  expect(found).toHaveLength(expected.length);
  for (let i = 0; i < expected.length; i++)
    if (!(Math.abs(found[i] - expected[i]) <= tolerance))
      expect.fail(`${what}[${i}]: ${found[i]}, on the CPU ${expected[i]}`);
}

async function gradients(model: CausalLMWithValueHead) {
  const grads = new ParameterBuffer(model.parameters.table);
  grads.data.fill(Number.NaN); // whatever is not written shows
  const { loss: value } = await model.lossAndGradients(asked, loss, inputs, grads);
  const alone = grads.data.slice();
  await model.lossAndGradients(asked, loss, inputs, grads, true);
  return { value, alone, both: grads.data };
}

/** What only exported models compute. */
const EXPORTED = new Set(["quantizedProject", "rotaryAngles"]);

describe.skipIf(!hasGPU)("on a GPU", () => {
  const cpu = new Engine({ threads: 1 });
  const gpu = hasGPU ? new Engine({ device: "webgpu", threads: 1 }) : cpu;
  afterAll(() => {
    for (const engine of [cpu, gpu]) engine.dispose();
  });

  it.each([...operations.keys()].filter((op) => !EXPORTED.has(op)))("%s is what torch computes", async (op) => {
    for (const c of cases.filter((one) => one.op === op)) {
      const { program, feeds, fetches } = compileCase(c);
      const executable = await gpu.backend.compile(program);
      await executable.run(feeds, fetches);
      executable.dispose();
      for (const [i, { data }] of c.outputs.entries())
        close(fetches[`y${i}`], data, 2e-6 * Math.max(1, ...data.map(Math.abs).filter(Number.isFinite)), `output ${i}`);
    }
  });

  it("writes a result where an input lies, and counts its memory", async () => {
    const { backend } = gpu;
    const { traffic } = backend as WebGPU;
    const step = await backend.compile({
      name: "step",
      outputs: { y: add(input("x", { N: 5 }), input("g", { N: 5 })) },
    });
    const [x, back] = [backend.buffer("float32", 5), new Float32Array(5)];
    await backend.write(x, Float32Array.of(1, 2, 3, 4, 5));
    await step.run({ x, g: new Float32Array(5).fill(10) }, { y: x });
    const { buffers } = traffic;
    for (let i = 0; i < 3; i++) await step.run({ x, g: new Float32Array(5).fill(10) }, { y: x });
    expect(traffic.buffers).toBe(buffers);
    await backend.read(x, back);
    expect([...back]).toEqual([41, 42, 43, 44, 45]);
    backend.free(x);
    await backend.read(backend.buffer("float32", 5), back); // its turn comes after
    expect(traffic.buffers).toBe(buffers); // one is gone, one is new
  });

  describe.each([tinyDir, goldenPath("llama/llama-tiny"), goldenPath("llama/qwen3-tiny")])("%s", (directory) => {
    const open = (engine: Engine) => loadModel(directory, { engine });

    it("scores as on the CPU", async () => {
      const [want, got] = [await (await open(cpu)).score(asked), await (await open(gpu)).score(asked)];
      for (const name of ["logprobs", "entropies", "values"] as const) close(got[name], want[name], 1e-4, name);
    });

    it("has the gradients of the CPU, alone and added up", async () => {
      const [want, got] = [await gradients(await open(cpu)), await gradients(await open(gpu))];
      expect(got.value).toBeCloseTo(want.value, 4);
      const largest = want.alone.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      close(got.alone, want.alone, 1e-3 * largest, "alone");
      close(got.both, want.both, 2e-3 * largest, "both");
    });

    it("samples what the CPU samples, and scores it as it was sampled", async () => {
      const prompts = [ids.slice(0, 4), ids.slice(4, 6)];
      const options = { maxNewTokens: 6, seed: 3, temperature: 0.9, minNewTokens: 6 };
      const want = await generate(await open(cpu), prompts, options);
      const model = await open(gpu);
      const got = await generate(model, prompts, options);
      for (const [b, { tokens, logprobs }] of want.responses.entries()) {
        expect([...got.responses[b].tokens]).toEqual([...tokens]);
        close(got.responses[b].logprobs, logprobs, 1e-4, `log-probs of response ${b}`);
      }
    });
  });
});
