/** @file The judge: a reward model that the embedded model becomes by reading labelled pieces of reviews. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  encodeJudgements,
  type Judgement,
  loadClassifier,
  loadTokenizer,
  type RewardConfig,
  RewardTrainer,
  resolveModel,
  type SequenceClassifier,
  type Tokenizer,
} from "valuehead";
import type { Reviews } from "./reviews.ts";

const LABELS = ["negative", "positive"];

export interface JudgeFacts {
  /** Pieces of reviews that it learned from, each once. */
  pieces: number;
  /** Share of held-out pieces, and of whole held-out reviews, with the right label. */
  accuracyOnPieces: number;
  accuracyOnReviews: number;
  heldOutPieces: number;
  heldOutReviews: number;
  seconds: number;
}

const CONFIG = {
  batchSize: 64,
  microBatchSize: 32,
  steps: 200,
  learningRate: 3e-4,
  warmupSteps: 20,
  schedule: "cosine",
} as const;

/** Train it into a directory, unless it is there. */
export async function trainJudge(
  directory: string,
  reviews: Reviews,
  threads: number,
  changes: Partial<RewardConfig> = {},
): Promise<JudgeFacts> {
  const cpu = process.cpuUsage();
  const model = await loadClassifier("tiny", {
    threads,
    head: { labels: LABELS, problem: "single_label_classification" },
  });
  const tokenizer = await loadTokenizer(await resolveModel("tiny"));
  const options = { labels: LABELS, longTexts: "truncate", endOfText: false } as const;
  const encode = (rows: Judgement[]) => encodeJudgements(rows, tokenizer, model.sizes, options);
  const train = encode(reviews.train);
  const config = { ...CONFIG, endOfText: false, ...changes };
  const trainer = new RewardTrainer({ model, tokenizer, config });
  for await (const event of trainer.train({ train }))
    if (event.type === "step" && event.step % 20 === 0) {
      const { "reward/loss": loss = 0, "reward/accuracy": accuracy = 0 } = event.metrics;
      console.log(
        `judge, step ${event.step} of ${event.steps}: loss ${loss.toFixed(3)}, accuracy ${accuracy.toFixed(3)}`,
      );
    }
  const { user, system } = process.cpuUsage(cpu);
  const facts: JudgeFacts = {
    pieces: config.steps * config.batchSize,
    accuracyOnPieces: await accuracy(model, tokenizer, reviews.heldOut),
    accuracyOnReviews: await accuracy(model, tokenizer, reviews.whole),
    heldOutPieces: reviews.heldOut.length,
    heldOutReviews: reviews.whole.length,
    seconds: (user + system) / 1e6,
  };
  await model.savePretrained(directory);
  await tokenizer.save(directory);
  writeFileSync(join(directory, "facts.json"), `${JSON.stringify(facts, null, 2)}\n`);
  model.dispose();
  return facts;
}

async function accuracy(model: SequenceClassifier, tokenizer: Tokenizer, rows: Judgement[]): Promise<number> {
  const options = { labels: LABELS, longTexts: "truncate", endOfText: false } as const;
  const { texts, targets } = encodeJudgements(rows, tokenizer, model.sizes, options);
  const outputs = await model.outputs(texts);
  const right = Array.from(targets).filter((label, i) => Number(outputs[2 * i + 1] > outputs[2 * i]) === label);
  return right.length / targets.length;
}

export const isTrained = (directory: string): boolean => existsSync(join(directory, "facts.json"));
