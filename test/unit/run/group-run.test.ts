/** @file Runs of GRPO and RLOO: the run directory is the one that PPO has, and a run that is cut up is the one that was not. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RewardFunction } from "../../../src/experience/reward-functions.ts";
import { packagePath } from "../../../src/platform/files.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import { run } from "../../../src/run/run.ts";
import type { GRPOSpec, RewardedSpec, RLOOSpec } from "../../../src/run/spec.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { differences } from "../../../tools/small-run.ts";
import { smallModel } from "../../support/families.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-groups-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);
const reward: RewardFunction = (batch) => batch.map(({ response }) => response.length / 10);

beforeAll(async () => {
  const model = smallModel("gpt2", { vocabSize: 8192, context: 32, eosTokenId: 8191 }, { threads: 1, seed: 5 });
  await model.savePretrained(at("model"));
  await (await loadTokenizer(packagePath("models", "tiny"))).save(at("model"));
  model.dispose();
});

const config = {
  steps: 4,
  batchSize: 8,
  numGenerations: 4,
  miniBatchSize: 4,
  epochs: 2,
  maxNewTokens: 6,
  learningRate: 1e-3,
  saveEvery: 2,
};
const spec = (algorithm: "grpo" | "rloo", out: string, rest: object = {}): GRPOSpec | RLOOSpec => ({
  algorithm,
  model: at("model"),
  prompts: ["This", "Two movies", "I"],
  evaluation: { prompts: ["Well"] },
  out: at(out),
  rewardName: "length",
  threads: 1,
  config,
  ...rest,
});

async function follow(given: RewardedSpec, until = Number.POSITIVE_INFINITY) {
  const events: RunEvent[] = [];
  const controller = new AbortController();
  for await (const event of run(given, reward, { signal: controller.signal })) {
    events.push(event);
    if (event.type === "step" && event.step >= until) controller.abort();
  }
  return events;
}

describe.each(["grpo", "rloo"] as const)("%s", (name) => {
  test("a run that is interrupted and resumed ends as the one that was not", async () => {
    await follow(spec(name, `${name}-whole`));
    await follow(spec(name, `${name}-cut`), 1);
    expect(readdirSync(at(`${name}-cut`))).toContain("checkpoint-1");
    const events = await follow(spec(name, `${name}-cut`, { resume: true, config: {} }));
    expect(events.at(-1)).toMatchObject({ type: "done", step: 4, interrupted: false });
    expect(events.filter((event) => event.type === "warning")).toEqual([]);
    expect(differences(at(`${name}-whole`), at(`${name}-cut`))).toEqual([]);
    const record = JSON.parse(readFileSync(at(`${name}-cut`, "config.json"), "utf8"));
    expect([record.algorithm, record.options.numGenerations, record.options.epochs]).toEqual([name, 4, 2]);
  });

  test("without a reference it goes on as it was, and may be measured against where it began later on", async () => {
    const free = { ...config, klCoef: 0, klLog: "none", keepBest: false };
    await follow(spec(name, `${name}-free`, { config: free }));
    await follow(spec(name, `${name}-free-cut`, { config: free }), 1);
    await follow(spec(name, `${name}-free-cut`, { resume: true, config: {} }));
    expect(differences(at(`${name}-free`), at(`${name}-free-cut`))).toEqual([]);
    const on = { resume: true, config: { steps: 5, klLog: "k1" } };
    const events = await follow(spec(name, `${name}-free`, on));
    expect(events.flatMap((event) => (event.type === "warning" ? [event.message] : []))).toEqual([
      expect.stringContaining("other options than before: klLog k1 (was none)"),
    ]);
    await follow(spec(name, `${name}-measured`, { config: { ...free, klLog: "k1", steps: 5 } }));
    const last = (out: string) =>
      JSON.parse(readFileSync(at(out, "metrics.jsonl"), "utf8").trimEnd().split("\n").at(-1) as string);
    expect(last(`${name}-free`)["objective/kl"]).toBe(last(`${name}-measured`)["objective/kl"]);
    await expect(follow(spec(name, `${name}-free`, { ...on, model: "tiny" }))).rejects.toThrow("found another model");
  });

  test("other groups than before are refused, another algorithm too", async () => {
    const resumed = (rest: object) => follow(spec(name, `${name}-whole`, { resume: true, ...rest }));
    await expect(resumed({ config: { ...config, numGenerations: 2 } })).rejects.toThrow(
      "found numGenerations 2 (was 4), expected what the run was started with",
    );
    await expect(resumed({ algorithm: "ppo", config: {} })).rejects.toThrow(`found a run of the algorithm ${name}`);
  });
});

test.each([
  [{ numGenerations: 1 }, "options, numGenerations: found 1, expected a whole number from 2 to 1000000000"],
  [
    { numGenerations: 3, batchSize: 8 },
    "options, numGenerations: found 3, expected a divisor of batchSize (8), for whole groups",
  ],
  [{ batchSize: 1 }, "options, batchSize"],
  [{ klControler: "fixed" }, "options, klControler: found an unknown option"],
])("a run with %o is refused before anything is written", async (wrong, message) => {
  await expect(follow(spec("grpo", "wrong", { config: wrong }))).rejects.toThrow(message);
  expect(readdirSync(directory)).not.toContain("wrong");
});
