/** @file Responses that were sampled elsewhere, as experience. Nobody wrote down how they were drawn, so that is tested. */
import { fail } from "../base/errors.ts";
import type { KeptSet } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { addDraws, type Draws, drawStatistics, drawsOf, NO_DRAWS } from "../rl/draws.ts";
import type { Adjustments } from "../sample/transforms.ts";
import { askInParts, type Experience, put } from "./batch.ts";

/**
 * Token ids as experience: log-probs and values from one forward pass of the policy as it is now, over all tokens.
 * @param partSize responses per forward pass
 * @param tested   whether to ask what {@link Draws} needs, about two more passes of the head
 */
export async function givenExperience(
  model: CausalLMWithValueHead,
  queries: readonly Int32Array[],
  responses: readonly Int32Array[],
  adjustments: Adjustments,
  partSize: number,
  tested: boolean,
): Promise<{ data: Experience; draws?: Draws }> {
  const rows = responses.length;
  const width = Math.max(0, ...responses.map((r) => r.length));
  const mask = new Uint8Array(rows * width);
  responses.forEach((response, b) => {
    mask.fill(1, b * width, b * width + response.length);
  });
  const data: Experience = {
    queries,
    responses,
    batch: { rows, width, mask },
    logprobs: new Float32Array(rows * width),
    values: new Float32Array(rows * width),
    adjustments,
    kept: new Array(rows * width).fill(undefined),
    keptMass: Float64Array.from(mask),
  };
  const { eosTokenIds, sizes } = model;
  const statistics = tested ? drawStatistics(eosTokenIds) : undefined;
  let draws = NO_DRAWS;
  for (const { asked, index } of askInParts(data, partSize, sizes.context)) {
    const scores = await model.score(asked, undefined, statistics);
    put(scores.logprobs, data.logprobs, index);
    put(scores.values, data.values, index);
    if (tested) draws = addDraws(draws, drawsOf(asked.ids, scores, eosTokenIds));
  }
  return { data, draws: tested ? draws : undefined };
}

/** @throws input - a token that nobody can have drawn, for no text is made of it */
export function checkDrawn(responses: readonly Int32Array[], drawable: KeptSet | undefined): void {
  responses.forEach((tokens, b) => {
    const t = drawable ? tokens.findIndex((id) => !drawable.has(id)) : -1;
    if (t >= 0)
      fail("input", {
        where: `step, response ${b}, token ${t}`,
        found: `id ${tokens[t]}, for which the tokenizer has no text`,
        expected: "ids that can be drawn",
        fix: "sample with this trainer's sampling(), which leaves such ids out",
      });
  });
}
