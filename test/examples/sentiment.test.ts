/** @file The sentiment example runs, in small, and its page has what was measured. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { trainJudge } from "../../examples/sentiment/judge.ts";
import { writePage } from "../../examples/sentiment/page.ts";
import { type Reviews, readReviews } from "../../examples/sentiment/reviews.ts";
import { ALGORITHMS, bestOfN, type RunResult, runOne } from "../../examples/sentiment/runs.ts";
import { loadTokenizer, resolveModel } from "../../src/index.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-sentiment-"));
afterAll(() => rmSync(directory, { recursive: true }));
const judge = join(directory, "judge");
let reviews: Reviews;
beforeAll(async () => {
  const words = { 1: ["wonderful", "great", "moving", "superb"], 0: ["awful", "boring", "bad", "terrible"] } as const;
  for (const half of ["train", "test"]) {
    const rows = Array.from({ length: half === "train" ? 800 : 3010 }, (_, i) => {
      const label = (i % 2) as 0 | 1;
      return { text: `This film is ${words[label][i % 4]}. I think that it is ${words[label][(i + 1) % 4]}.`, label };
    });
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `${half}.jsonl`), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  }
  const all = await readReviews(directory, await loadTokenizer(await resolveModel("tiny")));
  reviews = { ...all, heldOut: all.heldOut.slice(0, 24), whole: all.whole.slice(0, 8) };
});

it("makes a judge, learns from it by each algorithm, and compares them on a page", async () => {
  const facts = await trainJudge(judge, reviews, 2, { steps: 10, batchSize: 16, microBatchSize: 16, warmupSteps: 0 });
  expect(facts.accuracyOnPieces).toBeGreaterThan(0.7);
  const openings = { train: reviews.openings.train.slice(0, 50), heldOut: reviews.openings.heldOut.slice(0, 4) };
  const settings = { judge, openings, steps: 2, threads: 2, config: { batchSize: 8, miniBatchSize: 8 } };
  const runs: RunResult[] = [];
  for (const algorithm of ALGORITHMS) runs.push(await runOne(algorithm, 0, settings));
  for (const { points, judge, lexicon, kl, texts } of runs) {
    expect(points.map(({ step }) => step)).toEqual([1, 2]);
    for (const gain of [judge, lexicon]) expect(gain.after - gain.before).toBeCloseTo(gain.difference.mean, 6);
    expect(kl.mean).toBeGreaterThan(-0.1);
    expect(texts.length).toBe(4);
  }
  // Before anything is learned all are the same model, asked the same.
  for (const run of runs) expect(run.judge.before).toBeCloseTo(runs[0].judge.before, 4);
  const yardstick = await bestOfN(settings);
  expect(yardstick.map(({ n }) => n)).toEqual([1, 2, 4, 8, 16]);
  for (const [i, best] of yardstick.slice(1).entries()) expect(best.judge).toBeGreaterThanOrEqual(yardstick[i].judge);
  expect(yardstick[1].kl).toBeCloseTo(Math.LN2 - 0.5, 10);
  const page = readFileSync(writePage(directory, { facts, runs, yardstick, steps: 2 }), "utf8");
  for (const words of ["<h2>The best of n</h2>", "PPO, seed 0", runs[0].judge.after.toFixed(2)])
    expect(page).toContain(words);
  expect(page).not.toMatch(/NaN|undefined|<script|https?:\/\/(?!www\.w3\.org)/);
  expect(readFileSync(join(directory, "sentiment.svg"), "utf8").match(/<svg /g)).toHaveLength(5);
}, 240_000);

it("says where the reviews are to be had", async () => {
  const tokenizer = await loadTokenizer(await resolveModel("tiny"));
  await expect(readReviews(join(directory, "nothing"), tokenizer)).rejects.toThrow("stanfordnlp/imdb");
});
