/** @file A run with an adapter: its checkpoints are adapters, and it goes on bit for bit. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { PPOConfig } from "../../../src/algorithms/options/ppo-options.ts";
import { loadModel } from "../../../src/families/index.ts";
import { run } from "../../../src/run/run.ts";

const root = mkdtempSync(join(tmpdir(), "valuehead-lora-run-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const size = { batchSize: 4, miniBatchSize: 2, ppoEpochs: 1, maxNewTokens: 4, learningRate: 1e-2 };
async function train(out: string, config: Partial<PPOConfig>, resume = false): Promise<void> {
  const prompts = ["This movie", "I saw", "The actors", "A film"];
  const spec = { model: "tiny", prompts, rewardName: "length", out: join(root, out), threads: 1, resume };
  const reward = ({ length }: readonly unknown[]) => Array.from({ length }, (_, i) => i % 3);
  for await (const _ of run({ ...spec, config: { ...size, lora: 2, valueModel: "separate", ...config } }, reward));
}
const file = (out: string, name: string) => readFileSync(join(root, out, "checkpoint-2", name));

test("resumed is undisturbed, bit for bit; another adapter is refused", async () => {
  await train("whole", { steps: 2 });
  await train("parts", { steps: 1 });
  await train("parts", { steps: 2 }, true);
  const names = readdirSync(join(root, "whole", "checkpoint-2"));
  expect(names).toEqual(
    expect.arrayContaining(["adapter_config.json", "adapter_model.safetensors", "v_head.safetensors"]),
  );
  expect(names).not.toContain("model.safetensors");
  for (const name of ["adapter_model.safetensors", "v_head.safetensors", "trainer.safetensors"])
    expect(file("parts", name).equals(file("whole", name)), name).toBe(true);
  for (const name of ["value_model/adapter_model.safetensors", "value_model/optimizer.safetensors"])
    expect(file("parts", name).equals(file("whole", name)), name).toBe(true);
  await expect(train("parts", { steps: 3, lora: 4 }, true)).rejects.toThrow("lora 4 (was 2)");
  const model = await loadModel(join(root, "parts"), { threads: 1 });
  const base = await loadModel("tiny", { engine: model.engine });
  expect(model.adapter?.rank).toBe(2);
  expect(model.baseName).toBe("tiny");
  const moved = model.parameters.table.filter(({ adapts }) => adapts?.part === "B");
  expect(moved.some(({ name }) => model.parameters.view(name).some((x) => x !== 0))).toBe(true);
  for (const { name } of base.parameters.table)
    if (!name.startsWith("v_head.")) expect(model.parameters.view(name), name).toEqual(base.parameters.view(name));
  model.dispose();
});

test("a base held in int8: resumed is undisturbed, and it cannot change on the way", async () => {
  const int8 = { basePrecision: "int8" } as const;
  await train("int8-whole", { steps: 2, ...int8 });
  await train("int8-parts", { steps: 1, ...int8 });
  await train("int8-parts", { steps: 2, ...int8 }, true);
  for (const name of ["adapter_model.safetensors", "v_head.safetensors", "trainer.safetensors"]) {
    expect(file("int8-parts", name).equals(file("int8-whole", name)), name).toBe(true);
  }
  await expect(train("int8-parts", { steps: 3, basePrecision: "fp32" }, true)).rejects.toThrow("basePrecision");
  await expect(train("int8-none", { steps: 1, lora: 0, ...int8 })).rejects.toThrow(
    "basePrecision: found int8, and no adapter, expected an adapter on top: weights in int8 are not trained. Fix: " +
      "add lora (lora 16), or leave basePrecision out",
  );
});
