/**
 * @file Learning curves on the embedded model with rollouts in fp32, in int8 with importance weights, and in int8 without;
 * and how the weights are distributed. The settings are those of the demo.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { Metrics } from "../src/algorithms/events.ts";
import type { PPOConfig } from "../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../src/algorithms/ppo.ts";
import { type BuiltInReward, builtInRewards } from "../src/experience/reward-functions.ts";
import { GPT2HeadWithValueModel } from "../src/families/index.ts";
import { loadTokenizer } from "../src/tokenizer/load.ts";
import { engineVersions, machine } from "./report.ts";

const ARMS: Readonly<Record<string, Partial<PPOConfig>>> = {
  fp32: {},
  "int8, weights up to 2": { rolloutPrecision: "int8" },
  "int8, no correction": { rolloutPrecision: "int8", importanceWeightCap: 0 },
};

const { values: flags } = parseArgs({
  options: {
    steps: { type: "string", default: "40" },
    seeds: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    reward: { type: "string", default: "positive" },
  },
});
const steps = Number(flags.steps);
const seeds = Number(flags.seeds);
const threads = Number(flags.threads);
const reward = builtInRewards[flags.reward as BuiltInReward];
if (!(steps >= 1 && seeds >= 1 && threads >= 1 && reward))
  throw new Error(`--steps, --seeds, --threads: whole numbers from 1; --reward: ${Object.keys(builtInRewards)}`);

const tiny = "models/tiny";
const tokenizer = await loadTokenizer(tiny);
const prompts = readFileSync(`${tiny}/prompts.txt`, "utf8").trim().split("\n");
const demo: Partial<PPOConfig> = JSON.parse(readFileSync(`${tiny}/demo.json`, "utf8")).options;

async function curve(arm: Partial<PPOConfig>, seed: number): Promise<Metrics[]> {
  const model = await GPT2HeadWithValueModel.fromPretrained(tiny, { threads });
  const config = { ...demo, ...arm, steps, seed };
  const trainer = new PPOTrainer({ model, tokenizer, reward, rewardName: flags.reward, config });
  const curve: Metrics[] = [];
  for await (const event of trainer.train(prompts)) {
    if (event.type === "warning") console.error(`seed ${seed}, step ${event.step}: ${event.message}`);
    if (event.type === "step") curve.push(event.metrics);
  }
  model.dispose();
  return curve;
}

const curves: Record<string, Metrics[][]> = Object.fromEntries(Object.keys(ARMS).map((name) => [name, []]));
for (let seed = 0; seed < seeds; seed++)
  for (const [name, arm] of Object.entries(ARMS)) {
    curves[name].push(await curve(arm, seed));
    console.error(`seed ${seed}, ${name}: done`);
  }

/** Mean and standard deviation over seeds of a metric, averaged over some steps. */
function overSeeds(runs: readonly Metrics[][], metric: keyof Metrics, from: number, to: number): string {
  const means = runs.map((run) => {
    const part = run.slice(from, to).map((m) => m[metric] ?? Number.NaN);
    return part.reduce((a, b) => a + b, 0) / part.length;
  });
  const mean = means.reduce((a, b) => a + b, 0) / means.length;
  const std = Math.sqrt(means.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, means.length - 1));
  return Number.isNaN(mean) ? "" : `${mean.toFixed(4)} ± ${std.toFixed(4)}`;
}

const parts = Math.min(4, steps);
const bounds = Array.from({ length: parts + 1 }, (_, i) => Math.round((i * steps) / parts));
const shown: (keyof Metrics)[] = [
  "env/reward_mean",
  "objective/kl",
  "rollout/kl",
  "rollout/importance_weight_mean",
  "rollout/importance_weight_std",
  "rollout/importance_weight_min",
  "rollout/importance_weight_max",
  "rollout/importance_weight_clipped",
  "time/get_response",
  "time/ppo/forward_pass",
  "time/total",
];
for (const metric of shown) {
  console.log(`\n${metric}: mean over steps, ± standard deviation over ${seeds} seeds`);
  console.log(["", ...bounds.slice(1).map((to, i) => `steps ${bounds[i] + 1}-${to}`)].join(" | "));
  for (const [name, runs] of Object.entries(curves))
    console.log([name, ...bounds.slice(1).map((to, i) => overSeeds(runs, metric, bounds[i], to))].join(" | "));
}

const date = new Date().toISOString();
const result = { date, machine: machine(), versions: engineVersions(), settings: { ...demo, ...flags }, curves };
const path = `bench/results/int8-curve-${date.slice(0, 10)}.json`;
mkdirSync("bench/results", { recursive: true });
writeFileSync(path, `${JSON.stringify(result)}\n`);
console.log(`\nwritten to ${path}`);
