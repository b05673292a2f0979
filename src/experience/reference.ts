/** @file What the reference says of the tokens that the policy drew, and how far apart the two are. */
import type { CausalLMWithValueHead } from "../model/model.ts";
import { type KLEstimates, klEstimates } from "../rl/kl.ts";
import { askInParts, type Passes, put } from "./ask.ts";
import type { Experience } from "./experience.ts";
import type { RolloutConfig } from "./options.ts";

/** What the reference says of every response token, [B, W]. */
export interface ReferenceScores {
  readonly refLogprobs: Float32Array;
  /** KL(policy ‖ reference) over the vocabulary, nats; where it was asked. */
  readonly exactKl?: Float32Array;
}

/** Whether the KL is measured: with klLog none there is no reference. */
export const keepsReference = (config: object): boolean => (config as { klLog?: string }).klLog !== "none";

/** A model without its adapter. */
export const unadapted = (model: CausalLMWithValueHead): CausalLMWithValueHead =>
  model.adapter ? model.withoutAdapter() : model;

/** The model as it is now, to be measured against: without its adapter, or a copy that shares the layers that are not trained. */
export const asReference = (model: CausalLMWithValueHead, frozenLayers: number): CausalLMWithValueHead =>
  model.adapter ? unadapted(model) : model.frozenCopy(frozenLayers);

/** Whether an algorithm needs the exact KL. */
export function wantsExactKl(config: object): boolean {
  const { klPenalty, klLog } = config as { klPenalty?: string; klLog?: string };
  return keepsReference(config) && (klPenalty === "exact" || klLog === "exact");
}

/** Whether whoever draws the tokens computes it, too. Where the policy has moved on by the time they are learned from (async), it does. */
export const wantsExactKlAtOnce = (config: Pick<RolloutConfig, "async">): boolean =>
  wantsExactKl(config) && config.async === 0;

/** The same as {@link scoreReference}, and the KL that follows from it; nothing where there is no reference. */
export async function askReference(
  model: CausalLMWithValueHead,
  reference: CausalLMWithValueHead | undefined,
  data: Experience,
  passes: Passes,
  wantsExact: boolean,
  given?: ReferenceScores,
): Promise<Partial<ReferenceScores> & { readonly kl?: KLEstimates }> {
  if (!reference) return {};
  const said = await scoreReference(model, reference, data, passes, wantsExact, given);
  return { ...said, kl: klEstimates(data.logprobs, said.refLogprobs, data.batch, said.exactKl) };
}

/**
 * The reference's log-probs, and the exact KL if wanted, in parts.
 * @param wantsExact one more forward pass of the policy and two heads instead of one
 * @param given      what it says already, where it was asked; not used where it lacks the exact KL
 */
export async function scoreReference(
  model: CausalLMWithValueHead,
  reference: CausalLMWithValueHead,
  data: Experience,
  passes: Passes,
  wantsExact: boolean,
  given?: ReferenceScores,
): Promise<ReferenceScores> {
  if (given && (!wantsExact || given.exactKl)) return given;
  const { rows, width } = data.batch;
  const refLogprobs = new Float32Array(rows * width);
  const exactKl = wantsExact ? new Float32Array(rows * width) : undefined;
  for (const { asked, index } of askInParts(data, passes, model.sizes.context)) {
    if (exactKl) {
      const scores = await model.exactKl(asked, reference);
      put(scores.refLogprobs, refLogprobs, index);
      put(scores.kl, exactKl, index);
    } else put((await reference.score(asked, ["logprobs"])).logprobs, refLogprobs, index);
  }
  return { refLogprobs, exactKl };
}
