/** @file A DistilBERT in ONNX form as a reward, against transformers: tools/reference/onnx_classifier.py. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { resolveReward } from "../../src/experience/reward-functions.ts";
import { onnxReward } from "../../src/experience/rewards/onnx-reward.ts";
import type { RewardSample } from "../../src/experience/sample.ts";
import { importPackage } from "../../src/platform/modules.ts";
import { goldenPath } from "../support/golden.ts";

const at = goldenPath("onnx-classifier");
const golden: { texts: string[]; logits: number[][] } = JSON.parse(readFileSync(`${at}/golden.json`, "utf8"));
const samples = golden.texts.map((text) => ({ text, response: text }) as RewardSample);

test.each(["POSITIVE", "negative", "1"])("the logit of the label %s, in batches of any size", async (label) => {
  const place = { POSITIVE: 1, negative: 0, "1": 1 }[label] as number;
  const named = await resolveReward(`onnx:${at}#${label}`);
  const small = await onnxReward(at, { label, batchSize: 2 });
  for (const reward of [named, small]) {
    const scores = Array.from((await reward(samples)) as number[]);
    expect(scores).toHaveLength(golden.texts.length);
    for (const [i, score] of scores.entries())
      expect(Math.abs(score - golden.logits[i][place]), golden.texts[i]).toBeLessThan(1e-4);
  }
});

test("what is wrong reads well", async () => {
  await expect(onnxReward(at)).rejects.toThrow("found 2 labels, and none named");
  await expect(onnxReward(at, { label: "good" })).rejects.toThrow(`write onnx:${at}#POSITIVE`);
  await expect(onnxReward(goldenPath("gpt2-tiny"))).rejects.toThrow("export it first: optimum-cli export onnx");
  await expect(importPackage("no-such-package", "reward onnx:x")).rejects.toThrow("Fix: npm install no-such-package");
});
