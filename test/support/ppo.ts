/** @file A small PPO run, for tests of what holds whatever the options. */

import type { Metrics } from "../../src/algorithms/events.ts";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { builtInRewards, type RewardFunction } from "../../src/experience/reward-functions.ts";
import type { CausalLMWithValueHead } from "../../src/model/model.ts";
import { packagePath } from "../../src/platform/files.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";

export const tokenizer = await loadTokenizer(packagePath("models", "tiny"));

export const small: Partial<PPOConfig> = {
  steps: 2,
  batchSize: 8,
  miniBatchSize: 4,
  rolloutBatchSize: 4,
  maxNewTokens: 10,
  learningRate: 1e-3,
  rewardRetries: 0,
  seed: 3,
};

/** Train and dispose of the model; gives each step's metrics and the weights at the end. */
export async function trainSmall(
  model: CausalLMWithValueHead,
  prompts: readonly string[],
  config: Partial<PPOConfig>,
  reward: RewardFunction = builtInRewards.length,
): Promise<{ metrics: Metrics[]; weights: Float32Array }> {
  const trainer = new PPOTrainer({ model, tokenizer, reward, config: { ...small, ...config } });
  const metrics: Metrics[] = [];
  for await (const event of trainer.train(prompts)) if (event.type === "step") metrics.push(event.metrics);
  await model.parameters.refresh();
  model.dispose();
  return { metrics, weights: model.parameters.data };
}
