/**
 * @file The curve of training the embedded model: `npm run tiny-curve -- RUN` reads metrics.jsonl of the run and writes
 * models/tiny/training.json (the first steps to their last digit, the mean loss of every 100 steps, the held-out loss) and training.svg.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chartSVG } from "../pictures/chart.ts";

const EVERY = 100;
const FIRST = 5;
const MODEL = join("models", "tiny");

const [run] = process.argv.slice(2);
if (run === undefined) {
  console.error("usage: npm run tiny-curve -- RUN");
  process.exit(1);
}
const steps: Record<string, number>[] = readFileSync(join(run, "metrics.jsonl"), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line));
const losses = steps.map((step) => step["sft/loss"]);
const means = Array.from({ length: Math.floor(losses.length / EVERY) }, (_, i) => {
  const part = losses.slice(i * EVERY, (i + 1) * EVERY);
  return Number((part.reduce((a, b) => a + b, 0) / part.length).toFixed(3));
});
const heldOut = steps
  .filter((step) => "eval/loss" in step)
  .map((step) => ({
    step: step.step,
    tokens: step["eval/tokens"],
    loss: Number(step["eval/loss"].toFixed(4)),
    bitsPerByte: Number(step["eval/bits_per_byte"].toFixed(4)),
  }));
const seconds = steps.reduce((sum, step) => sum + step["time/total"], 0);
const first = steps
  .slice(0, FIRST)
  .map((step) => ({ step: step.step, loss: step["sft/loss"], gradNorm: step["sft/grad_norm"] }));
writeFileSync(
  join(MODEL, "training.json"),
  `${JSON.stringify({ steps: steps.length, seconds: Math.round(seconds), first, every: EVERY, meanLoss: means, heldOut })}\n`,
);
writeFileSync(
  join(MODEL, "training.svg"),
  chartSVG({
    title: "Loss in training, nats per token",
    lines: [{ name: `mean of ${EVERY} steps`, kind: "good", values: means }],
    levels: [{ value: heldOut[heldOut.length - 1].loss, name: "held out, at the end" }],
    low: 4,
    every: EVERY,
  }),
);
console.log(`${steps.length} steps, ${(seconds / 60).toFixed(0)} minutes`);
console.table(heldOut);
