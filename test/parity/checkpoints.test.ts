/** @file Checkpoints as transformers and TRL 0.11.4 save them: loaded here they compute what they computed there. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { goldenPath, maxDifference } from "../support/golden.ts";
import { goldenSet } from "../support/golden-set.ts";
import { worst } from "../support/worst.ts";

const measured = worst("checkpoints");
const out = mkdtempSync(join(tmpdir(), "valuehead-checkpoints-"));
afterAll(() => {
  measured.print();
  rmSync(out, { recursive: true, force: true });
});

const fromTransformers = ["single", "sharded", "fp16", "bf16", "untied", "no-prefix"];
const fromTrl = ["trl", "trl-bf16", "trl-sharded"];

describe.each([...fromTransformers, ...fromTrl])("%s", (name) => {
  const directory = goldenPath(`checkpoints/${name}`);
  const expected = goldenSet(`checkpoints/${name}/expected.safetensors`);
  const inputIds = { data: expected.ints("inputIds"), shape: expected.shape("inputIds") };

  async function check(from: string): Promise<GPT2HeadWithValueModel> {
    const model = await GPT2HeadWithValueModel.fromPretrained(from, { threads: 1, seed: 1 });
    const { logits, values } = await model.forward({ inputIds });
    expect(logits.shape).toEqual(expected.shape("logits"));
    const gap = maxDifference(logits.data, expected.floats("logits"));
    measured.add(`${name} logits`, gap);
    expect(gap).toBeLessThan(1e-4);
    if (expected.has("values")) {
      const gap = maxDifference(values.data, expected.floats("values"));
      measured.add(`${name} values`, gap);
      expect(gap).toBeLessThan(1e-4);
    }
    return model;
  }

  test("loads with equal logits and values, and again after being saved here", async () => {
    const model = await check(directory);
    expect(model.config.tieWordEmbeddings).toBe(name !== "untied");
    const weights = `${directory}/model.safetensors${name.endsWith("sharded") ? ".index.json" : ""}`;
    const note = `${weights} has no v_head.summary.weight, v_head.summary.bias: a new value head, N(0, 0.3), was made`;
    expect(model.notes).toEqual(expected.has("values") ? [] : [note]);
    const saved = join(out, name);
    await model.savePretrained(saved);
    const again = await check(saved);
    expect(again.notes).toEqual([]);
    expect(again.parameters.data).toEqual(model.parameters.data);
    model.dispose();
    again.dispose();
  });
});

test("a head of width C is saved and read; an activation that is not applied is said", async () => {
  const config = makeConfig({ vocabSize: 9, nEmbd: 8, nHead: 1, nLayer: 1, nPositions: 6, summaryProjToLabels: false });
  const model = GPT2HeadWithValueModel.fromConfig(config, { threads: 1, seed: 2 });
  const saved = join(out, "wide");
  await model.savePretrained(saved);
  const path = join(saved, "config.json");
  const json = JSON.parse(readFileSync(path, "utf8"));
  writeFileSync(path, JSON.stringify({ ...json, summary_activation: "relu" }));
  const again = await GPT2HeadWithValueModel.fromPretrained(saved, { threads: 1 });
  expect(again.notes).toEqual([`${path}: summary_activation "relu" is not applied: a value head knows "tanh" only`]);
  const inputIds = [[1, 2, 3]];
  const { values } = await again.forward({ inputIds });
  expect(values.shape).toEqual([1, 3, 8]);
  expect(values).toEqual((await model.forward({ inputIds })).values);
  // The same weights under a config that makes the head a scalar.
  writeFileSync(path, JSON.stringify({ ...json, summary_proj_to_labels: true }));
  await expect(GPT2HeadWithValueModel.fromPretrained(saved, { threads: 1 })).rejects.toThrow(
    `${join(saved, "model.safetensors")}, tensor v_head.summary.weight: found shape [8, 8], expected shape [1, 8]`,
  );
});
