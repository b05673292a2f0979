/** @file Checkpoints that are damaged, the best one, and what stays in a run directory. */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { PPOConfig } from "../../../src/algorithms/options/ppo-options.ts";
import type { RewardFunction } from "../../../src/experience/reward-functions.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { AppendFile, packagePath } from "../../../src/platform/files.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import { run } from "../../../src/run/run.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-checkpoint-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);

/** Mean reward of the step by its number; the rewards of a batch do not differ, so it is all their mean. */
const means = [0, 0.5, 0.9, 0.1, 0.3, 0.2];

async function train(out: string, config: Partial<PPOConfig> = {}, resume = false): Promise<RunEvent[]> {
  let step = 0;
  const reward: RewardFunction = (batch) => batch.map(() => means[step]);
  const events: RunEvent[] = [];
  const small: Partial<PPOConfig> = { batchSize: 4, miniBatchSize: 4, ppoEpochs: 1, maxNewTokens: 4, saveEvery: 1 };
  const spec = { model: at("model"), prompts: ["This", "Two movies"], out: at(out), rewardName: "step", threads: 1 };
  const going = run({ ...spec, config: { ...small, steps: 3, ...config }, resume }, reward);
  for await (const event of going) {
    if (event.type === "loaded") step = event.resumedAt + 1;
    if (event.type === "step") step = event.step + 1;
    events.push(event);
  }
  return events;
}
const checkpoints = (out: string) =>
  readdirSync(at(out))
    .filter((name) => name.startsWith("checkpoint"))
    .sort();
const best = (out: string) => JSON.parse(readFileSync(at(out, "best.json"), "utf8"));
const warnings = (events: RunEvent[]) => events.flatMap((e) => (e.type === "warning" ? [e.message] : []));

beforeAll(async () => {
  const shape = { vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 16, bosTokenId: 8191, eosTokenId: 8191 };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { threads: 1, seed: 5 });
  await model.savePretrained(at("model"));
  await (await loadTokenizer(packagePath("models", "tiny"))).save(at("model"));
  model.dispose();
  await train("whole");
});

describe("the best", () => {
  test("is kept beside the newest, named in best.json and in the event", async () => {
    const events = await train("best", { steps: 5 });
    expect(checkpoints("best")).toEqual(["checkpoint-2", "checkpoint-4", "checkpoint-5"]);
    expect(best("best")).toEqual({ checkpoint: "checkpoint-2", step: 2, rewardMean: 0.9, overSteps: 1 });
    const saved = events.filter((e) => e.type === "checkpoint");
    expect(saved.at(-1)?.best).toEqual({ step: 2, path: at("best", "checkpoint-2"), rewardMean: 0.9, overSteps: 1 });
  });

  test("goes by the mean over as many steps as lie between checkpoints", async () => {
    await train("mean", { steps: 5, saveEvery: 2, keepCheckpoints: 1 });
    // after 2: (0.5 + 0.9) / 2; after 4: (0.1 + 0.3) / 2; after 5: (0.3 + 0.2) / 2
    expect(checkpoints("mean")).toEqual(["checkpoint-2", "checkpoint-5"]);
    expect(best("mean")).toMatchObject({ step: 2, overSteps: 2 });
    expect(best("mean").rewardMean).toBeCloseTo(0.7, 12);
  });

  test("is not kept with keepBest false, and best.json goes when that is said later", async () => {
    await train("newest", { keepCheckpoints: 1 });
    expect(checkpoints("newest")).toEqual(["checkpoint-2", "checkpoint-3"]);
    await train("newest", { steps: 4, keepCheckpoints: 1, keepBest: false }, true);
    expect(checkpoints("newest")).toEqual(["checkpoint-4"]);
    expect(existsSync(at("newest", "best.json"))).toBe(false);
  });

  test("is the same one for a run that is cut in parts", async () => {
    await train("parts", { steps: 3, saveEvery: 2 });
    await train("parts", { steps: 5, saveEvery: 2 }, true);
    await train("one", { steps: 5, saveEvery: 2 });
    expect(best("parts")).toEqual(best("one"));
    const state = (out: string) => readFileSync(at(out, "checkpoint-5", "trainer.json"), "utf8");
    expect(state("parts")).toBe(state("one"));
  });
});

describe("a damaged checkpoint", () => {
  beforeEach(() => {
    rmSync(at("copy"), { recursive: true, force: true });
    cpSync(at("whole"), at("copy"), { recursive: true });
  });
  const file = (name: string, checkpoint = "checkpoint-3") => at("copy", checkpoint, name);
  const flip = (path: string, position: number) => {
    const bytes = readFileSync(path);
    bytes[position] ^= 1;
    writeFileSync(path, bytes);
  };

  test.each([
    [
      "model.safetensors cut off",
      () => truncateSync(file("model.safetensors"), 5000),
      /^model.safetensors is not what was written \(5000 bytes/,
    ],
    [
      "a bit of a weight flipped",
      () => flip(file("model.safetensors"), 100_000),
      /^model.safetensors is not what was written/,
    ],
    ["a bit of the moments flipped", () => flip(file("trainer.safetensors"), 9000), /^trainer.safetensors is not what/],
    ["trainer.json no JSON", () => writeFileSync(file("trainer.json"), '{"trainer": '), /^trainer.json is not what/],
    [
      "another step in trainer.json",
      () =>
        writeFileSync(
          file("trainer.json"),
          readFileSync(file("trainer.json"), "utf8").replace('"step": 3', '"step": 2'),
        ),
      /^trainer.json is not what/,
    ],
    ["a file missing", () => rmSync(file("tokenizer.json")), /^tokenizer.json is missing/],
    ["the moments missing", () => rmSync(file("trainer.safetensors")), /^trainer.safetensors is missing/],
    ["no checksums", () => rmSync(file("SHA256SUMS")), /^SHA256SUMS is missing/],
    ["checksums cut off", () => truncateSync(file("SHA256SUMS"), 100), /^SHA256SUMS is cut off/],
    ["checksums empty", () => truncateSync(file("SHA256SUMS"), 0), /^SHA256SUMS is cut off/],
    [
      "checksums of another kind",
      () => writeFileSync(file("SHA256SUMS"), "hello\n"),
      /^SHA256SUMS has the broken line "hello"/,
    ],
    [
      "an empty directory",
      () => {
        rmSync(at("copy", "checkpoint-3"), { recursive: true });
        mkdirSync(at("copy", "checkpoint-3"));
      },
      /^SHA256SUMS is missing/,
    ],
  ])("%s: the run says so and goes on from the one before, bit for bit", async (_, damage, what) => {
    damage();
    const events = await train("copy", {}, true);
    expect(events.find((e) => e.type === "loaded")).toMatchObject({ resumedAt: 2 });
    const [message, ...more] = warnings(events);
    expect(more).toEqual([]);
    const start = "damaged, so the run goes on from an earlier checkpoint: checkpoint-3: ";
    expect(message.startsWith(start)).toBe(true);
    expect(message.slice(start.length)).toMatch(what);
    for (const name of readdirSync(at("whole", "checkpoint-3")))
      expect(readFileSync(file(name)).equals(readFileSync(at("whole", "checkpoint-3", name))), name).toBe(true);
    expect(checkpoints("copy")).toEqual(checkpoints("whole"));
  });

  test("all damaged: each is listed with what is wrong, and nothing is touched", async () => {
    truncateSync(file("model.safetensors"), 5000);
    rmSync(file("config.json", "checkpoint-2"));
    const before = readdirSync(at("copy"), { recursive: true }).sort();
    await expect(train("copy", {}, true)).rejects.toThrow(
      `${at("copy")}: found no whole checkpoint (checkpoint-3: model.safetensors is not what was written (5000 bytes, ` +
        "another SHA-256); checkpoint-2: config.json is missing), expected at least one checkpoint that is as it was " +
        "written. Fix: restore one of them from a copy, or start anew in another directory",
    );
    expect(readdirSync(at("copy"), { recursive: true }).sort()).toEqual(before);
  });

  test("newer than the one the run went on from, it does not push out good ones, and goes when there is a successor", async () => {
    rmSync(file("config.json"));
    cpSync(at("copy", "checkpoint-3"), at("copy", "checkpoint-9"), { recursive: true });
    await train("copy", { steps: 3, keepCheckpoints: 1, keepBest: false }, true);
    expect(checkpoints("copy")).toEqual(["checkpoint-3"]);
    expect(warnings(await train("copy", {}, true))).toEqual([]);
  });

  test("what a killed process left is removed; a checkpoint it was about to replace gets its name back", async () => {
    mkdirSync(at("copy", "checkpoint-4.tmp-123"));
    writeFileSync(at("copy", "metrics.jsonl.tmp-123-0"), "");
    cpSync(at("copy", "checkpoint-3"), at("copy", "checkpoint-3.old-123"), { recursive: true });
    rmSync(at("copy", "checkpoint-3"), { recursive: true });
    const events = await train("copy", {}, true);
    expect(events.find((e) => e.type === "loaded")).toMatchObject({ resumedAt: 3 });
    expect(readdirSync(at("copy")).sort()).toEqual(readdirSync(at("whole")).sort());
  });
});

test("a step that could not be logged is in no checkpoint: the resumed run logs it", async () => {
  const { appendLine } = AppendFile.prototype;
  let lines = 0;
  vi.spyOn(AppendFile.prototype, "appendLine").mockImplementation(function (this: AppendFile, line) {
    return ++lines === 2 ? Promise.reject(new Error("no room")) : appendLine.call(this, line);
  });
  await expect(train("unlogged", { saveEvery: 0 })).rejects.toThrow("no room");
  vi.restoreAllMocks();
  await train("unlogged", { saveEvery: 0 }, true);
  const steps = readFileSync(at("unlogged", "metrics.jsonl"), "utf8").trim().split("\n");
  expect(steps.map((line) => JSON.parse(line).step)).toEqual([1, 2, 3]);
});

const sha256sum = (...args: string[]) =>
  spawnSync("sha256sum", args, { cwd: at("whole", "checkpoint-3"), encoding: "utf8" });

test.skipIf(spawnSync("sha256sum", ["--version"]).status !== 0)("SHA256SUMS is what sha256sum reads", () => {
  const { status, stdout } = sha256sum("-c", "SHA256SUMS");
  expect(status).toBe(0);
  expect(stdout).toContain("model.safetensors: OK");
});
