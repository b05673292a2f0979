/** @file Which checkpoint a run directory means. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, it } from "vitest";
import { resolveModel } from "../../../src/checkpoint/hub.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { writeChecksums } from "../../../src/platform/file-checksums.ts";

const root = mkdtempSync(join(tmpdir(), "valuehead-runs-"));
afterAll(() => rmSync(root, { recursive: true }));

let run = "";
let runs = 0;
beforeEach(() => {
  run = join(root, `run-${runs++}`);
  mkdirSync(run);
  writeFileSync(join(run, "config.json"), JSON.stringify({ model: "tiny", reward: "length", options: {} }));
});

async function checkpoint(step: number): Promise<string> {
  const path = join(run, `checkpoint-${step}`);
  mkdirSync(path);
  writeFileSync(join(path, "model.safetensors"), `weights of step ${step}`);
  await writeChecksums(path);
  return path;
}
const best = (name: unknown) => writeFileSync(join(run, "best.json"), JSON.stringify({ checkpoint: name }));
const resolved = async () => {
  const notes: string[] = [];
  return { path: await resolveModel(run, { onNote: (text) => notes.push(text) }), notes };
};

it("the best, and says so", async () => {
  const [first] = [await checkpoint(2), await checkpoint(10)];
  best("checkpoint-2");
  expect(await resolved()).toEqual({ path: first, notes: [`${run} is a run: its best checkpoint is used, ${first}`] });
});

it("the newest where none is called the best, or one that is not there, by number and not by name", async () => {
  const [, newest] = [await checkpoint(9), await checkpoint(10)];
  mkdirSync(join(run, "checkpoint-11.tmp-1"));
  for (const name of [undefined, "checkpoint-3", "../checkpoint-9", 7]) {
    if (name !== undefined) best(name);
    const { path, notes } = await resolved();
    expect(path).toBe(newest);
    expect(notes[0]).toContain("its newest checkpoint is used");
  }
  writeFileSync(join(run, "best.json"), "{");
  expect((await resolved()).path).toBe(newest);
});

it("none that is damaged", async () => {
  const [first, second] = [await checkpoint(1), await checkpoint(2)];
  best("checkpoint-2");
  writeFileSync(join(second, "model.safetensors"), "other weights of 2");
  const { path, notes } = await resolved();
  expect(path).toBe(first);
  expect(notes[0]).toMatch(/its newest whole checkpoint is used, .*checkpoint-1 \(damaged: checkpoint-2: /);
  writeFileSync(join(first, "model.safetensors"), "other weights of 1");
  await expect(resolved()).rejects.toThrow(/found a run without a whole checkpoint \(checkpoint-2: .*; checkpoint-1: /);
});

it("a run that has saved nothing yet", async () => {
  await expect(resolved()).rejects.toThrow(
    `${run}: found a run without a checkpoint, expected a model directory, or a run that has saved a checkpoint. ` +
      `Fix: go on with the run: valuehead train --resume ${run}`,
  );
});

it("a model stays itself, and the loader notes what it took", async () => {
  const model = GPT2HeadWithValueModel.fromConfig(
    makeConfig({ vocabSize: 16, nPositions: 8, nEmbd: 8, nLayer: 1, nHead: 1, eosTokenId: 15, bosTokenId: 15 }),
    { threads: 1 },
  );
  const saved = join(run, "checkpoint-5");
  await model.savePretrained(saved);
  await writeChecksums(saved);
  expect(await resolveModel(saved)).toBe(saved);
  const loaded = await GPT2HeadWithValueModel.fromPretrained(run, { threads: 1 });
  expect(loaded.directory).toBe(saved);
  expect(loaded.notes[0]).toContain(`its newest checkpoint is used, ${saved}`);
  expect(Array.from(loaded.parameters.data)).toEqual(Array.from(model.parameters.data));
});
