/**
 * @file Rollouts drawn in int8, or by weights of some steps before (async). Three policies then have names:
 *
 * - the *rollout policy* π_rollout, the quantised copy or the policy of a step before: it drew the tokens, and its log-probs were
 *   recorded with them;
 * - the *old policy* π_old, the model in fp32 before the update: KL, rewards, values, advantages, the audit and the ratio
 *   π / π_old are about it;
 * - the *policy* π, the model while it is updated.
 *
 * Otherwise the first two are one, and what was recorded is what the old policy says.
 */
import type { CausalLMWithValueHead } from "../model/model.ts";
import { type ImportanceWeights, importanceWeights } from "../rl/importance.ts";
import type { Targets } from "../rl/targets.ts";
import { ANY_TOKEN, askInParts, type Passes, put } from "./ask.ts";
import type { Experience } from "./experience.ts";
import type { HonestyConfig, RolloutConfig } from "./options.ts";

/** Whether the rollout policy is another than the old policy. */
export const drawnByAnother = ({
  rolloutPrecision,
  async,
}: Pick<RolloutConfig, "rolloutPrecision" | "async">): boolean => rolloutPrecision !== "fp32" || async > 0;

/**
 * The batch as the old policy sees it: its log-probs, under the kept sets and adjustments the tokens were drawn with, and its
 * values; and the importance weights π_old / π_rollout. One forward pass, in parts; where the two
 * are one the batch as it is and no weights.
 * @param valueModel whose values they are, where they are not the policy's
 */
export async function rescore(
  model: CausalLMWithValueHead,
  data: Experience,
  config: RolloutConfig,
  passes: Passes,
  valueModel?: CausalLMWithValueHead,
): Promise<{ data: Experience; importance?: ImportanceWeights }> {
  let [old, importance]: [Experience, ImportanceWeights | undefined] = [data, undefined];
  if (drawnByAnother(config)) {
    old = { ...data, ...(await scoreAll(model, data, passes)) };
    importance = importanceWeights(old.logprobs, data.logprobs, data.batch, config.importanceWeightCap);
  }
  return { data: valueModel ? { ...old, values: await scoreValues(valueModel, old, passes) } : old, importance };
}

/** Log-probs and values of all tokens by the weights as they are, [B, W]: one forward pass, in parts. */
export async function scoreAll(
  model: CausalLMWithValueHead,
  data: Experience,
  passes: Passes,
): Promise<{ logprobs: Float32Array; values: Float32Array }> {
  const { rows, width } = data.batch;
  const logprobs = new Float32Array(rows * width);
  const values = new Float32Array(rows * width);
  for (const { asked, index } of askInParts(data, passes, model.sizes.context)) {
    const scores = await model.score(asked);
    put(scores.logprobs, logprobs, index);
    put(scores.values, values, index);
  }
  return { logprobs, values };
}

/** The values that a model of its own gives a batch, [B, W], in parts. */
async function scoreValues(model: CausalLMWithValueHead, data: Experience, passes: Passes): Promise<Float32Array> {
  const { rows, width } = data.batch;
  const values = new Float32Array(rows * width);
  for (const { asked, index } of askInParts(data, passes, model.sizes.context))
    put((await model.score({ ...asked, distribution: ANY_TOKEN }, ["values"])).values, values, index);
  return values;
}

/**
 * Advantages times importance weights. The policy loss with them is the weighted policy loss: for w >= 0
 * w max(-A r, -A clip(r)) = max(-(w A) r, -(w A) clip(r)).
 */
export function weightTargets(targets: Targets, importance?: ImportanceWeights): Targets {
  if (!importance) return targets;
  const weighted = ({ advantages, returns }: Targets): Targets => ({
    advantages: advantages.map((a, i) => a * importance.weights[i]),
    returns,
  });
  const { ofRows } = targets;
  return { ...weighted(targets), ofRows: ofRows && ((rows) => weighted(ofRows(rows))) };
}

/** What a run says of its rollouts before it starts. */
export function rolloutRemarks(config: RolloutConfig & HonestyConfig): { type: "note" | "warning"; message: string }[] {
  if (!config.maskReplay) return [{ type: "warning", message: NO_REPLAY }]; // there is nothing else, then
  if (!drawnByAnother(config)) return [];
  const { rolloutPrecision, async, importanceWeightCap } = config;
  const notes = [...(rolloutPrecision === "int8" ? [INT8_NOTE] : []), ...(async > 0 ? [asyncNote(async)] : [])];
  return [
    ...notes.map((message) => ({ type: "note" as const, message })),
    ...(importanceWeightCap > 0 ? [] : [{ type: "warning" as const, message: NO_CORRECTION }]),
  ];
}

const asyncNote = (async: number) =>
  `async is ${async}: responses are drawn by the weights of ${async === 1 ? "one step" : `${async} steps`} before, and importance ` +
  "weights correct the policy loss. It is another run than with async 0, whoever draws them; time is saved where workers do";

const INT8_NOTE =
  "rolloutPrecision is int8: responses are drawn from a quantised copy of the policy. Old log-probs and values come from " +
  "another forward pass in fp32, and importance weights correct the policy loss token by token";

const NO_CORRECTION =
  "importanceWeightCap is 0: tokens drawn by another policy are learned from as if the policy itself had drawn them, and the " +
  "gradient is biased";

const NO_REPLAY =
  "maskReplay is off: tokens drawn from a truncated distribution are scored under the whole one. The policy ratio is then " +
  "about the probability of the kept set instead of 1, and the policy learns to exploit the difference";
