/**
 * @file Whole runs on a device that keeps weights, gradients and moments in memory of its own, without a GPU: the CPU with its memory
 * hidden stands for it. Whoever reads weights without asking for them first gets an error here, or old numbers.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Device } from "../../src/backend/devices.ts";
import { Engine } from "../../src/backend/engine.ts";
import { resolveReward } from "../../src/experience/reward-functions.ts";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { run } from "../../src/run/run.ts";
import type { RewardedSpec } from "../../src/run/spec.ts";
import { readTensors, relativeError } from "../support/golden.ts";
import { tokenizer } from "../support/ppo.ts";
import { type Steps, sameSteps, smallRuns } from "../support/same-steps.ts";

vi.mock("../../src/backend/webgpu.ts", async () => {
  const { OrtNode } = await import("../../src/backend/ort-node.ts");
  const { hidden } = await import("../support/backends.ts");
  return {
    WebGPU: class {
      constructor({ threads }: { threads: number }) {
        Object.assign(this, hidden(new OrtNode({ threads }), true), { name: "webgpu" });
      }
    },
  };
});

const directory = mkdtempSync(join(tmpdir(), "valuehead-kept-"));
const model = join(directory, "model");
beforeAll(async () => {
  const config = makeConfig({ vocabSize: 8192, nEmbd: 32, nLayer: 2, nHead: 2, nPositions: 32, eosTokenId: 8191 });
  const made = GPT2HeadWithValueModel.fromConfig(config, { engine: new Engine({ threads: 1 }), seed: 5 });
  await made.savePretrained(model);
  await tokenizer.save(model);
  made.dispose();
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const reward = await resolveReward("positive");

const lora = { lora: 4 };
const runs: [string, keyof typeof smallRuns, object][] = [
  ...Object.keys(smallRuns).map((name): [string, string, object] => [name, name, {}]),
  ...["ppo", "grpo", "rloo", "dpo", "sft"].map((name): [string, string, object] => [`${name} with LoRA`, name, lora]),
  ["ppo with a value model of its own", "ppo", { valueModel: "separate", gradientCheckpointing: true }],
  ["ppo with LoRA and a value model of its own", "ppo", { ...lora, valueModel: "separate" }],
  ["ppo that samples in int8", "ppo", { rolloutPrecision: "int8" }],
  ["ppo with LoRA that samples in int8", "ppo", { ...lora, rolloutPrecision: "int8" }],
  ["ppo that draws ahead", "ppo", { async: 1 }],
  ["ppo with LoRA on a base in int8", "ppo", { ...lora, basePrecision: "int8" }],
];

test.each(runs)("%s: as on the CPU, stopped and resumed", async (name, kind, options) => {
  const { config, ...spec } = smallRuns[kind];
  const train = async (device: Device, steps: number, more: object = {}): Promise<Steps> => {
    const found: Steps = [];
    const all = { ...config, learningRate: 1e-3, saveEvery: 1, ...options, steps };
    const given = {
      ...spec,
      model,
      config: all,
      out: join(directory, `${name} ${device}`),
      device,
      threads: 1,
      ...more,
    };
    for await (const event of run(given as RewardedSpec, reward)) if (event.type === "step") found.push(event.metrics);
    return found;
  };
  const expected = await train("cpu", 2);
  sameSteps([...(await train("webgpu", 1)), ...(await train("webgpu", 2, { resume: true }))], expected);

  const folder = (device: Device) => join(directory, `${name} ${device}`, "checkpoint-2");
  const files = readdirSync(folder("cpu"), { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".safetensors"),
  );
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) {
    const [there, here] = (["webgpu", "cpu"] as const).map((device) => readTensors(join(folder(device), file)));
    expect([...there.keys()]).toEqual([...here.keys()]);
    for (const [tensor, { data }] of here)
      expect(relativeError(there.get(tensor)?.data ?? [], data), `${file}: ${tensor}`).toBeLessThan(1e-3);
  }
});
