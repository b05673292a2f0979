/** @file Checkpoints as transformers and TRL 0.11.4 save them: loaded here they compute what they computed there. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/gpt2/model.ts";
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
