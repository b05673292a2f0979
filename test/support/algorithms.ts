/** @file The algorithms that learn from responses of their own, for what must hold of all of them. */
import type { Metrics, TrainEvent } from "../../src/algorithms/events.ts";
import { GRPOTrainer } from "../../src/algorithms/grpo.ts";
import type { RolloutTrainerConfig, RolloutTrainerOptions } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { RLOOTrainer } from "../../src/algorithms/rloo.ts";
import type { RolloutTrainer } from "../../src/algorithms/rollout.ts";
import type { AdamW } from "../../src/nn/adamw.ts";
import type { MetricName } from "../../src/rl/metrics.ts";
import { small, tokenizer } from "./ppo.ts";

/** Options that all have; `epochs` is PPO's ppoEpochs. */
export type AnyConfig = Partial<Omit<RolloutTrainerConfig, "klLog">> & {
  epochs?: number;
  klLog?: "k1" | "k2" | "k3" | "none";
};
type Options = Omit<RolloutTrainerOptions<RolloutTrainerConfig>, "config" | "tokenizer"> & { config?: AnyConfig };
type AnyTrainer = RolloutTrainer<RolloutTrainerConfig>;

interface Algorithm {
  name: "ppo" | "grpo" | "rloo";
  make(options: Options): AnyTrainer;
  ratio: MetricName;
  loss: MetricName;
}

const shared = small as AnyConfig;
/** Four responses to each prompt. */
export const copies = 4;

export const algorithms: readonly Algorithm[] = [
  {
    name: "ppo",
    make: ({ config: { epochs, numGenerations: _, ...config } = {}, ...options }) => {
      const own = { ...small, ...config, ...(epochs !== undefined && { ppoEpochs: epochs }) };
      return new PPOTrainer({ ...options, tokenizer, config: own }) as unknown as AnyTrainer;
    },
    ratio: "ppo/policy/first_ratio_deviation",
    loss: "ppo/loss/policy",
  },
  {
    name: "grpo",
    make: ({ config, ...options }) => {
      const own = { ...shared, numGenerations: copies, ...config };
      return new GRPOTrainer({ ...options, tokenizer, config: own }) as unknown as AnyTrainer;
    },
    ratio: "policy/first_ratio_deviation",
    loss: "policy/loss",
  },
  {
    name: "rloo",
    make: ({ config, ...options }) => {
      const own = { ...shared, numGenerations: copies, ...config };
      return new RLOOTrainer({ ...options, tokenizer, config: own }) as unknown as AnyTrainer;
    },
    ratio: "policy/first_ratio_deviation",
    loss: "policy/loss",
  },
];

/** Train to the end; gives the events, each step's metrics and the weights at the end. */
export async function follow(
  trainer: AnyTrainer,
  prompts: readonly string[],
): Promise<{ events: TrainEvent[]; metrics: Metrics[]; weights: Float32Array }> {
  const events: TrainEvent[] = [];
  for await (const event of trainer.train(prompts)) events.push(event);
  const metrics = events.flatMap((event) => (event.type === "step" ? [event.metrics] : []));
  return { events, metrics, weights: trainer.model.parameters.data.slice() };
}

/** An optimizer's state as it can be kept while it goes on. */
export const stateOf = ({ state: { step, m, v } }: AdamW) => ({ step, m: m?.slice(), v: v?.slice() });
