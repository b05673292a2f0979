// A user's program: it must compile under strict settings, and misspellings must not.
import {
  type BuiltInReward,
  builtInRewards,
  GPT2HeadWithValueModel,
  loadTokenizer,
  type PPOConfig,
  PPOTrainer,
  ppoConfig,
  type RewardFunction,
  type RewardSample,
  type RunEvent,
  type RunSpec,
  rewardProcess,
  runInWorker,
  type TrainEvent,
} from "valuehead";

const name: BuiltInReward = "positive";
const reward: RewardFunction = builtInRewards[name];
const config: Partial<PPOConfig> = { steps: 1, batchSize: 4, miniBatchSize: 2, maxNewTokens: 4, learningRate: 1e-3 };

/** Never called: what must not compile. */
export const misspelt = [
  // @ts-expect-error a reward that does not exist
  () => builtInRewards.postive,
  // @ts-expect-error an option that does not exist
  () => ppoConfig({ batchsize: 4 }),
  // @ts-expect-error a value of another type
  () => ppoConfig({ steps: "4" }),
  // @ts-expect-error a preset that does not exist
  () => ppoConfig({ preset: "trl" }),
  // @ts-expect-error an internal that is not declared
  (model: GPT2HeadWithValueModel) => model.pool,
];

async function step(): Promise<number> {
  const model = await GPT2HeadWithValueModel.fromPretrained("tiny", { threads: 1 });
  const tokenizer = await loadTokenizer(model.directory ?? "");
  const trainer = new PPOTrainer({ model, tokenizer, reward, config });
  const before = Float32Array.from(model.parameters.data);
  const events: TrainEvent[] = [];
  for await (const event of trainer.train(["This movie was", "The acting is"])) events.push(event);
  const done = events.find((event) => event.type === "step");
  if (!Number.isFinite(done?.metrics["env/reward_mean"])) throw new Error("no step");
  const changed = model.parameters.data.filter((x, i) => x !== before[i]).length;
  model.dispose();
  return changed;
}

async function thread(out: string): Promise<string> {
  const prompts = ["This movie was", { prompt: "The acting is", row: { label: 1 } }];
  const spec: RunSpec = { model: "tiny", prompts, out, rewardName: name, threads: 1, config };
  const types: RunEvent["type"][] = [];
  for await (const event of runInWorker(spec, reward))
    if (event.type !== "progress" && event.type !== "warning") types.push(event.type);
  return types.join(" ");
}

async function ownProcess(path: string): Promise<string> {
  const judge = await rewardProcess(path);
  const sample = (response: string): RewardSample => ({
    prompt: "This",
    response,
    text: `This${response}`,
    responseWithSpecialTokens: response,
    textWithSpecialTokens: `This${response}`,
    promptTokens: [1],
    group: 0,
    copy: 0,
    tokens: [2, 3],
    row: {},
  });
  const scores = await judge([sample(" is good!"), sample(" is")]);
  await judge.close();
  return scores.join(" ");
}

async function main(): Promise<void> {
  console.log("program starts");
  console.log(`${await step()} weights changed`);
  console.log(await thread(process.argv[2] ?? "out"));
  console.log(await ownProcess("reward.mjs"));
}

main().catch((error: unknown) => {
  console.log(String(error));
  process.exitCode = 1;
});
