/** @file `rolloutPrecision: "auto"`: decided once, by the clock, before a run begins. What is decided is the run's from then on. */
import { passSizes } from "../../algorithms/asking.ts";
import { addAskedAdapter } from "../../algorithms/options/lora.ts";
import type { RolloutTrainerConfig } from "../../algorithms/options/ppo-options.ts";
import { ANY_TOKEN, askInParts } from "../../experience/ask.ts";
import { experience } from "../../experience/experience.ts";
import { partSize } from "../../experience/parts/parts.ts";
import type { CausalLMWithValueHead } from "../../model/model.ts";
import {
  type ChosenPrecision,
  choosePrecision,
  promptsTogether,
  quickest,
  type SamplingWork,
  samplingCosts,
} from "../../sample/timing.ts";
import { SAMPLING_DEFAULTS } from "../../sample/token-sampler.ts";
import { Adjustments } from "../../sample/transforms.ts";

/**
 * Which precision takes less time for the responses of a step, if each has all the tokens it may have.
 * @param model   gets the adapter that the options ask for, as a trainer gives it
 * @param queries the prompts of the run, as token ids
 */
export async function decidePrecision(
  model: CausalLMWithValueHead,
  config: RolloutTrainerConfig,
  queries: readonly Int32Array[],
): Promise<ChosenPrecision> {
  addAskedAdapter(model, config); // responses are drawn with it, and one copy of the base serves them all
  const { batchSize, numGenerations, maxNewTokens, steps, async } = config;
  const work: SamplingWork = {
    ...{ prompts: queries, responses: batchSize, together: partSize(config, numGenerations), copies: numGenerations },
    ...{ tokens: maxNewTokens, times: steps },
  };
  const costs = await samplingCosts(model, work);
  // Responses drawn ahead (async) go through the model in fp32 whatever they are drawn in.
  const second = costs && async === 0 ? await secondPass(model, config, promptsTogether(work)) : 0;
  return choosePrecision(costs, work, second);
}

/** Seconds in which the policy scores the responses of a step. One part of them is scored. */
async function secondPass(
  model: CausalLMWithValueHead,
  config: RolloutTrainerConfig,
  queries: readonly Int32Array[],
): Promise<number> {
  const { batchSize, maxNewTokens: n } = config;
  const responses = queries.map((ids) => ({
    tokens: new Int32Array(n).fill(ids[ids.length - 1]),
    ...{ logprobs: new Float32Array(n), rawLogprobs: new Float32Array(n), values: new Float32Array(n) },
    ...{ kept: [], keptMass: new Float64Array(n), finished: false },
  }));
  const adjustments = new Adjustments(SAMPLING_DEFAULTS, model.sizes.vocabSize);
  const passes = { ...passSizes(config), adjustments };
  const [{ asked }] = askInParts(experience([{ queries, responses }]), passes, model.sizes.context);
  const seconds = await quickest(() => model.score({ ...asked, distribution: ANY_TOKEN }));
  return (seconds * batchSize * n) / asked.ids.length;
}
