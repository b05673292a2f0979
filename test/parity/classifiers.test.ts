/** @file Sequence classifiers against transformers' AutoModelForSequenceClassification: tools/reference/classifiers.py. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadClassifier } from "../../src/families/classifier.ts";
import type { SequenceClassifier } from "../../src/model/classifier/classifier.ts";
import { goldenPath, maxDifference } from "../support/golden.ts";

const at = (name: string) => goldenPath(`classifiers/${name}`);
interface Golden {
  texts: number[][];
  logits: number[][];
  architectures: string[];
}

describe.each([
  ["gpt2", ["NEGATIVE", "POSITIVE"]],
  ["llama", ["LABEL_0"]],
  ["qwen2", ["negative", "neutral", "positive"]],
  ["qwen3", ["LABEL_0"]],
])("%s", (name, labels) => {
  const golden: Golden = JSON.parse(readFileSync(join(at(name), "golden.json"), "utf8"));
  const texts = golden.texts.map((ids) => Int32Array.from(ids));
  const want = Float32Array.from(golden.logits.flat());
  let model: SequenceClassifier;
  beforeAll(async () => {
    model = await loadClassifier(at(name), { threads: 1 });
  });
  afterAll(() => model.dispose());

  test("its labels, and no notes", () => {
    expect(model.labels).toEqual(labels);
    expect(model.notes).toEqual([]);
    expect(model.headIsNew).toBe(false);
  });

  test("logits of ragged texts, together and in any batches", async () => {
    expect(maxDifference(await model.outputs(texts), want)).toBeLessThan(1e-5);
    expect(maxDifference(await model.outputs(texts, 2), want)).toBeLessThan(1e-5);
    expect(maxDifference(await model.outputs(texts, 1), want)).toBeLessThan(1e-5);
  });

  test("saved, it is the model that it was", async () => {
    const directory = mkdtempSync(join(tmpdir(), "classifier-"));
    try {
      await model.savePretrained(directory);
      const config = JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
      const first = JSON.parse(readFileSync(join(at(name), "config.json"), "utf8"));
      expect(config).toMatchObject({
        architectures: golden.architectures,
        id2label: first.id2label,
        label2id: first.label2id,
        problem_type: first.problem_type ?? null,
        pad_token_id: first.pad_token_id,
        tie_word_embeddings: first.tie_word_embeddings,
        num_labels: labels.length,
      });
      const again = await loadClassifier(directory, { engine: model.engine });
      expect(await again.outputs(texts)).toEqual(await model.outputs(texts));
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
