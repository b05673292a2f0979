/**
 * @file Does a long run grow? 200 PPO steps on the embedded model: resident memory after step 200 must not be more
 * than 5 % above that after step 20. `npm run memory-test`, or with the number of steps: `npm run memory-test -- 400`.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builtInRewards } from "../src/experience/reward-functions.ts";
import { run } from "../src/run/run.ts";

const LIMIT = 0.05;
const FIRST = 20;
const steps = Number(process.argv[2] ?? 200);
const models = "models";
const MB = 1e6;

const out = mkdtempSync(join(tmpdir(), "valuehead-memory-"));
const prompts = readFileSync(join(models, "tiny", "prompts.txt"), "utf8")
  .split("\n")
  .filter(Boolean)
  .slice(0, 500);
const spec = {
  model: join(models, "tiny"),
  prompts,
  out: join(out, "run"),
  rewardName: "positive",
  config: { steps, batchSize: 16, miniBatchSize: 8, rolloutBatchSize: 16, maxNewTokens: 8, saveEvery: 50, seed: 1 },
  threads: 1,
};
let first = 0;
let last = 0;
try {
  console.log(["step", "rss", "heapUsed", "external", "arrayBuffers"].map((s) => s.padStart(13)).join(""));
  for await (const event of run(spec, builtInRewards.positive)) {
    if (event.type !== "step") continue;
    const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
    if (event.step === FIRST) first = rss;
    last = rss;
    if (event.step % 20 === 0 || event.step === 1)
      console.log(
        [event.step, ...[rss, heapUsed, external, arrayBuffers].map((n) => `${(n / MB).toFixed(1)} MB`)]
          .map((s) => String(s).padStart(13))
          .join(""),
      );
  }
} finally {
  rmSync(out, { recursive: true, force: true });
}
const growth = last / first - 1;
console.log(
  `step ${FIRST}: ${(first / MB).toFixed(1)} MB, step ${steps}: ${(last / MB).toFixed(1)} MB, ${(100 * growth).toFixed(1)} %`,
);
if (growth > LIMIT) {
  console.log(`more than ${100 * LIMIT} % more`);
  process.exitCode = 1;
}
