/** @file The control example runs, in small: two steps, few tokens. examples/control/README.md has what whole runs give. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { control } from "../../examples/control/control.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-control-"));
afterAll(() => rmSync(directory, { recursive: true }));

it("trains on prompts with a task each, scores them by it, and gives a mean and standard error for each task", async () => {
  const quiet = ["log", "table"] as const;
  const spies = quiet.map((name) => vi.spyOn(console, name).mockImplementation(() => {}));
  const sizes = { steps: 2, batchSize: 12, miniBatchSize: 6, maxNewTokens: 4, minNewTokens: 4, logSamples: 12 };
  const out = join(directory, "run");
  const { before, after } = await control(out, sizes, 2);
  for (const spy of spies) spy.mockRestore();
  for (const results of [before, after]) {
    expect(results?.map(({ task }) => task)).toEqual(["negative", "neutral", "positive"]);
    for (const { mean, standardError } of results ?? []) {
      expect(Math.abs(mean)).toBeLessThan(1);
      expect(standardError).toBeGreaterThan(0);
      expect(standardError).toBeLessThan(0.1);
    }
  }
  expect(existsSync(join(out, "checkpoint-2", "model.safetensors"))).toBe(true);
  const lines = readFileSync(join(out, "samples.jsonl"), "utf8").trim().split("\n");
  const samples = lines.map((line) => JSON.parse(line) as { prompt: string; score: number });
  expect(samples).toHaveLength(24);
  // Four tokens seldom hold a rated word: then the score is 0, and 1 where neutral is what is asked for.
  const neutral = samples.filter(({ prompt }) => prompt.startsWith("[neutral] "));
  expect(neutral.filter(({ score }) => score === 1).length).toBeGreaterThan(neutral.length / 3);
  for (const { prompt, score } of samples) if (!neutral.some((n) => n.prompt === prompt)) expect(score).not.toBe(1);
});
