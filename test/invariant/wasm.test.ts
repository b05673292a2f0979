/** @file What a run on WebAssembly has in common with one on the CPU, in Node: the demo at its own settings, and a step of every algorithm. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test, vi } from "vitest";
import { Learner } from "../../src/algorithms/learner.ts";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import type { Device } from "../../src/backend/devices.ts";
import { readPrompts } from "../../src/data/prompts.ts";
import { resolveReward } from "../../src/experience/reward-functions.ts";
import { loadModel } from "../../src/families/index.ts";
import { ParameterBuffer } from "../../src/model/parameters.ts";
import { run } from "../../src/run/run.ts";
import type { RewardedSpec } from "../../src/run/spec.ts";
import { maxDifference, relativeError } from "../support/golden.ts";
import { type Steps, sameSteps, smallRuns } from "../support/same-steps.ts";

const models = new URL("../../models/tiny/", import.meta.url);
const DEMO = JSON.parse(readFileSync(new URL("demo.json", models), "utf8")).options as Partial<PPOConfig>;
const directory = mkdtempSync(join(tmpdir(), "valuehead-wasm-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const reward = await resolveReward("positive");
async function steps(spec: object, name: string, device: Device): Promise<Steps> {
  const found: Steps = [];
  const given = { ...spec, out: join(directory, `${name}-${device}`), device, threads: 1 } as RewardedSpec;
  for await (const event of run(given, reward)) if (event.type === "step") found.push(event.metrics);
  return found;
}

test.each(Object.entries(smallRuns))("a small step of %s", async (name, spec) =>
  sameSteps(await steps(spec, name, "wasm"), await steps(spec, name, "cpu")),
);

// One epoch of the four: in the third, the ratio of one token lies on the border of the clip.
test("the demo's first step, at its own batch and learning rate, and its first gradient", async () => {
  const prompts = await readPrompts(fileURLToPath(new URL("prompts.txt", models)));
  const config = { ...DEMO, steps: 1, seed: 0, ppoEpochs: 1 };
  const accumulate = vi.spyOn(Learner.prototype, "accumulate");
  const spec = { model: "tiny", prompts, rewardName: "positive", config };
  const expected = await steps(spec, "demo", "cpu");
  const [asked, loss, inputs] = accumulate.mock.calls[0];
  accumulate.mockRestore();

  const gradient = async (device: Device) => {
    const model = await loadModel("tiny", { device, threads: 1 });
    const grads = new ParameterBuffer(model.parameters.table);
    const { logprobs } = await model.lossAndGradients(asked, loss, inputs, grads, false, "heavy");
    model.dispose();
    return { logprobs, numbers: grads.data };
  };
  const [there, here] = [await gradient("wasm"), await gradient("cpu")];
  expect(maxDifference(there.logprobs, inputs.oldLogprobs)).toBeLessThan(1e-4); // recorded on the CPU, replayed there
  expect(relativeError(there.numbers, here.numbers)).toBeLessThan(1e-4);
  sameSteps(await steps(spec, "demo", "wasm"), expected);
}, 900_000);
