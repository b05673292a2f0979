/** @file One run: an algorithm and a seed on review openings, with the judge as its reward and a lexicon that looks on. */
import {
  builtInRewards,
  compareModels,
  GRPOTrainer,
  generate,
  type Interval,
  loadModel,
  loadTokenizer,
  type ModelReward,
  modelReward,
  PPOTrainer,
  pairedDifference,
  type RewardSample,
  RLOOTrainer,
} from "valuehead";

export const ALGORITHMS = ["ppo", "grpo", "rloo"] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** What all three have, and what each needs of its own. */
const SHARED = {
  batchSize: 64,
  miniBatchSize: 32,
  rolloutBatchSize: 64,
  maxNewTokens: 20,
  minNewTokens: 20,
  audit: "stop",
  saveEvery: 0,
} as const;
export const OWN = {
  // Penalties in the reward, so in units of the judge's logit.
  ppo: { learningRate: 3e-4, ppoEpochs: 2, klController: "fixed", klCoef: 0.1 },
  rloo: { learningRate: 3e-4, epochs: 2, numGenerations: 4, klCoef: 0.1 },
  // In the loss, beside advantages that are divided by their spread.
  grpo: { learningRate: 3e-4, epochs: 2, numGenerations: 4, klCoef: 0.25 },
} as const;

/** Means over the responses of a step. */
export interface Point {
  step: number;
  /** The judge's logit. */
  judge: number;
  /** What the lexicon says. */
  lexicon: number;
  /** KL from the model at the start, nats per response. */
  kl: number;
}

/** The judge and the lexicon on held-out openings, before and after, paired by opening. */
export interface Gain {
  before: number;
  after: number;
  difference: { mean: number; standardError: number };
}

export interface RunResult {
  algorithm: Algorithm;
  seed: number;
  points: Point[];
  /** On held-out openings. */
  judge: Gain;
  lexicon: Gain;
  kl: Interval;
  distinct2: { before: number; after: number };
  samples: number;
  cpuSeconds: number;
  texts: { prompt: string; before: string; after: string }[];
}

const mean = (x: readonly number[]) => x.reduce((sum, y) => sum + y, 0) / x.length;

export interface RunSettings {
  judge: string;
  openings: { train: string[]; heldOut: string[] };
  steps: number;
  threads: number;
  /** Options in place of those above. */
  config?: Readonly<Record<string, unknown>>;
}

/** The score is the logit of "positive". */
export const openJudge = (directory: string, threads: number): Promise<ModelReward> =>
  modelReward(directory, { label: "positive", threads, batchSize: 64 });

export async function runOne(algorithm: Algorithm, seed: number, settings: RunSettings): Promise<RunResult> {
  const { openings, steps, threads } = settings;
  const judge = await openJudge(settings.judge, threads);
  const model = await loadModel("tiny", { threads, seed, makeValueHead: algorithm === "ppo" });
  const tokenizer = await loadTokenizer(model.directory as string);
  const start = model.frozenCopy();
  let looked: number[] = [];
  /** The lexicon looks on: what it says is written down, and not learned from. */
  const reward = async (batch: RewardSample[]) => {
    looked.push(...builtInRewards.positive(batch));
    return judge(batch);
  };
  const cpu = process.cpuUsage();
  const config = { steps, seed, ...SHARED, ...OWN[algorithm], ...settings.config };
  const options = { model, tokenizer, reward, rewardName: "judge", config } as never;
  const trainer = { ppo: PPOTrainer, grpo: GRPOTrainer, rloo: RLOOTrainer }[algorithm];
  const points: Point[] = [];
  for await (const event of new trainer(options).train(openings.train)) {
    if (event.type !== "step") continue;
    const { "env/reward_mean": score = 0, "objective/kl": kl = 0 } = event.metrics;
    points.push({ step: event.step, judge: score, lexicon: mean(looked), kl });
    looked = [];
    if (event.step % 5 === 0)
      console.log(`${algorithm}, seed ${seed}, step ${event.step}: judge ${score.toFixed(2)}, KL ${kl.toFixed(2)}`);
  }
  const { user, system } = process.cpuUsage(cpu);
  const sampling = { maxNewTokens: 20, minNewTokens: 20, seed: 1000, batchSize: 64 };
  const [a, b] = [
    { model: start, tokenizer },
    { model, tokenizer },
  ];
  const compared = await compareModels(a, b, { ...sampling, prompts: openings.heldOut, reward: judge });
  const said = (side: "a" | "b") =>
    builtInRewards.positive(compared.samples.map((sample) => ({ response: sample[side][0].text })));
  const gain = (before: number[], after: number[]): Gain => ({
    before: mean(before),
    after: mean(after),
    difference: pairedDifference(before, after),
  });
  const judged = (side: "a" | "b") => compared.samples.map((sample) => sample[side][0].reward);
  const result: RunResult = {
    algorithm,
    seed,
    points,
    judge: gain(judged("a"), judged("b")),
    lexicon: gain(said("a"), said("b")),
    kl: compared.kl as Interval,
    distinct2: { before: compared.a.distinct2.mean, after: compared.b.distinct2.mean },
    samples: steps * SHARED.batchSize,
    cpuSeconds: (user + system) / 1e6,
    texts: compared.samples
      .slice(0, 8)
      .map((sample) => ({ prompt: sample.prompt, before: sample.a[0].text, after: sample.b[0].text })),
  };
  judge.dispose();
  model.dispose();
  return result;
}

/** The best of n responses of the model as it is, by the judge. */
export interface BestOf {
  n: number;
  /** log n - (n - 1) / n, nats per response. */
  kl: number;
  judge: number;
  lexicon: number;
}

/** The yardstick: no weight is changed, n responses are sampled and the judge chooses. */
export async function bestOfN(settings: Pick<RunSettings, "judge" | "openings" | "threads">): Promise<BestOf[]> {
  const { openings, threads } = settings;
  const judge = await openJudge(settings.judge, threads);
  const model = await loadModel("tiny", { threads, makeValueHead: false });
  const tokenizer = await loadTokenizer(model.directory as string);
  const ns = [1, 2, 4, 8, 16];
  const most = Math.max(...ns);
  const chosen = ns.map(() => ({ judge: [] as number[], lexicon: [] as number[] }));
  for (let from = 0; from < openings.heldOut.length; from += 16) {
    const prompts = openings.heldOut.slice(from, from + 16);
    const queries = prompts.flatMap((prompt) => new Array<Int32Array>(most).fill(tokenizer.encode(prompt)));
    const streams = queries.map((_, i) => from * most + i);
    const { responses } = await generate(model, queries, { maxNewTokens: 20, minNewTokens: 20, seed: 2000, streams });
    const samples = responses.map(({ tokens }, i) => {
      const prompt = prompts[Math.floor(i / most)];
      const response = tokenizer.decode(tokens, { skipSpecialTokens: true });
      return { prompt, response, text: prompt + response, row: {} } as unknown as RewardSample;
    });
    const scores = Array.from((await judge(samples)) as number[]);
    const words = builtInRewards.positive(samples);
    prompts.forEach((_, p) => {
      ns.forEach((n, k) => {
        const mine = scores.slice(p * most, p * most + n);
        const best = p * most + mine.indexOf(Math.max(...mine));
        chosen[k].judge.push(scores[best]);
        chosen[k].lexicon.push(words[best]);
      });
    });
  }
  judge.dispose();
  model.dispose();
  return ns.map((n, k) => ({
    n,
    kl: Math.log(n) - (n - 1) / n,
    judge: mean(chosen[k].judge),
    lexicon: mean(chosen[k].lexicon),
  }));
}
