/** @file TRL's control experiment: a word at the start of the prompt decides which sentiment is rewarded. See README.md. */
import { parseArgs } from "node:util";
import { builtInRewards, type PPOConfig, type RewardFunction, type RunEvent, readPrompts, run } from "valuehead";

const TASKS = ["negative", "neutral", "positive"] as const;

/** In (-1, 1). Judges the response alone: the word in the prompt does not count. */
const sentiment = builtInRewards.positive as (...args: Parameters<RewardFunction>) => number[];

const reward: RewardFunction = (batch) => {
  const positive = sentiment(batch);
  const negative = builtInRewards.negative(batch) as number[];
  const scores = { positive, negative, neutral: positive.map((s) => 1 - 2 * Math.abs(s)) };
  return batch.map(({ row }, i) => scores[row.task as keyof typeof scores][i]);
};

const withTasks = async (file: string) =>
  (await readPrompts(file)).flatMap(({ prompt }) =>
    TASKS.map((task) => ({ prompt: `[${task}] ${prompt}`, row: { task } })),
  );

/** Mean sentiment of the responses to each task's prompts, with its standard error. */
function means({ samples }: Extract<RunEvent, { type: "evaluation" }>) {
  return TASKS.map((task) => {
    const values = sentiment(samples.filter(({ row }) => row.task === task));
    const mean = values.reduce((a, b) => a + b) / values.length;
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1);
    return { task, mean, standardError: Math.sqrt(variance / values.length) };
  });
}

/** Train and evaluate; gives the means before and after. */
export async function control(out: string, options: Partial<PPOConfig>, threads?: number) {
  const sizes = { batchSize: 96, miniBatchSize: 32, rolloutBatchSize: 96, maxNewTokens: 20, minNewTokens: 20 };
  const learning = { learningRate: 3e-4, temperature: 0.7, klController: "fixed", klCoef: 0.03 } as const;
  const prompts = await withTasks("models/tiny/prompts.txt");
  const evaluation = { prompts: await withTasks("models/tiny/prompts-heldout.txt") };
  const config = { steps: 60, ...sizes, ...learning, ...options };
  const spec = { model: "tiny", prompts, evaluation, out, rewardName: "control", config, threads };
  const results: Partial<Record<"before" | "after", ReturnType<typeof means>>> = {};
  for await (const event of run(spec, reward)) {
    if (event.type === "step") console.log(event.step, event.metrics["env/reward_mean"], event.metrics["objective/kl"]);
    if (event.type !== "evaluation") continue;
    results[event.when] = means(event);
    console.table(results[event.when]);
  }
  return results;
}

const { values } = parseArgs({ options: { seed: { type: "string" }, threads: { type: "string" } }, strict: false });
if (values.seed)
  await control(`runs/control-${values.seed}`, { seed: Number(values.seed) }, Number(values.threads ?? 2));
