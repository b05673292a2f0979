/** @file rolloutPrecision auto: what is decided when a run begins is the run's, however it goes on. The decision is given, not measured. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { ppoConfig } from "../../../src/algorithms/options/config.ts";
import type { PPOConfig } from "../../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../../src/algorithms/ppo.ts";
import { builtInRewards } from "../../../src/experience/reward-functions.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import * as precision from "../../../src/run/kinds/precision.ts";
import { run } from "../../../src/run/run.ts";
import { differences } from "../../../tools/small-run.ts";
import { smallModel } from "../../support/families.ts";
import { tokenizer } from "../../support/ppo.ts";

vi.mock("../../../src/run/kinds/precision.ts", async (original) => {
  const actual = await original<typeof precision>();
  return { decidePrecision: vi.fn(actual.decidePrecision) };
});
const decide = vi.mocked(precision.decidePrecision);

const root = mkdtempSync(join(tmpdir(), "valuehead-precision-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
  decide.mockClear();
});
const shape = { vocabSize: 8192, context: 32, eosTokenId: 8191 };
beforeAll(async () => {
  const model = smallModel("gpt2", shape, { threads: 1, seed: 5 });
  await model.savePretrained(join(root, "model"));
  model.dispose();
  await tokenizer.save(join(root, "model"));
});

const size = { batchSize: 4, miniBatchSize: 2, ppoEpochs: 1, maxNewTokens: 4, learningRate: 1e-2, saveEvery: 1 };
async function train(out: string, config: Partial<PPOConfig>, rest: object = {}): Promise<RunEvent[]> {
  const spec = { model: join(root, "model"), prompts: ["This", "Two movies", "I"], rewardName: "length" };
  const events: RunEvent[] = [];
  const all = { ...spec, out: join(root, out), threads: 1, config: { ...size, ...config }, ...rest };
  for await (const event of run(all, (batch) => batch.map(({ response }) => response.length / 10))) events.push(event);
  return events;
}
const record = (out: string) => JSON.parse(readFileSync(join(root, out, "config.json"), "utf8"));
const notes = (events: readonly RunEvent[]) => events.flatMap((event) => (event.type === "loaded" ? event.notes : []));
const auto = { rolloutPrecision: "auto" } as const;
const seconds = { fp32: 3, int8: 2 };

test("a run that decides for int8 is the run of int8, cut up too, and measures once", async () => {
  decide.mockResolvedValue({ precision: "int8", why: "int8, for it is quicker", seconds });
  await train("asked", { steps: 3, rolloutPrecision: "int8" });
  expect(decide).not.toHaveBeenCalled();
  const events = await train("cut", { ...auto, steps: 1 });
  expect(notes(events)).toContain("rolloutPrecision auto: int8, for it is quicker. The run keeps to it");
  expect(record("cut")).toMatchObject({ options: { rolloutPrecision: "int8" }, rolloutSeconds: seconds });
  decide.mockResolvedValue({ precision: "fp32", why: "fp32, on another machine", seconds });
  await train("cut", { steps: 2 }, { resume: true });
  const last = await train("cut", { ...auto, steps: 3 }, { resume: true });
  expect(decide).toHaveBeenCalledTimes(1);
  expect(last.filter(({ type }) => type === "warning")).toEqual([]);
  expect(record("cut")).toMatchObject({ options: { rolloutPrecision: "int8" }, rolloutSeconds: seconds });
  expect(differences(join(root, "asked"), join(root, "cut"))).toEqual(["config.json"]); // which has the seconds
});

test("one that was killed before its first checkpoint begins again with what it had decided", async () => {
  decide.mockResolvedValue({ precision: "int8", why: "int8", seconds });
  await train("killed", { ...auto, steps: 1 });
  for (const name of readdirSync(join(root, "killed")))
    if (name.startsWith("checkpoint-")) rmSync(join(root, "killed", name), { recursive: true });
  await train("killed", { ...auto, steps: 3 }, { resume: true });
  expect(decide).toHaveBeenCalledTimes(1);
  expect(differences(join(root, "asked"), join(root, "killed"))).toEqual(["config.json"]); // which has the seconds
});

test("measured for real the run goes on in either, with the bits that it would have had", async () => {
  const { decidePrecision } = await vi.importActual<typeof precision>("../../../src/run/kinds/precision.ts");
  decide.mockImplementation(decidePrecision);
  for (const [name, config] of Object.entries({ weights: {}, lora: { lora: 2 } })) {
    const said = notes(await train(`${name}-auto`, { ...auto, ...config, steps: 2 })).join();
    expect(said).toMatch(/rolloutPrecision auto: (fp32|int8), as measured now: 4 x 4 tokens take \S+ s in fp32/);
    const { rolloutPrecision } = record(`${name}-auto`).options;
    await train(`${name}-asked`, { ...config, rolloutPrecision, steps: 2 });
    expect(differences(join(root, `${name}-asked`), join(root, `${name}-auto`))).toEqual(["config.json"]); // which has the seconds
  }
});

test("a trainer by itself measures nothing, and says who does", () => {
  const model = smallModel("gpt2", shape, { threads: 1, seed: 5 });
  expect(
    () => new PPOTrainer({ model, tokenizer, reward: builtInRewards.length, config: { ...size, ...auto } }),
  ).toThrow("rolloutPrecision: found auto, expected fp32 or int8: only a run measures which is quicker");
  expect(() => ppoConfig({ ...auto, maskReplay: false })).toThrow("true with rolloutPrecision (auto)");
  model.dispose();
});
