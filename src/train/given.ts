/** @file Responses that were sampled elsewhere, as experience. Nobody wrote down how they were drawn, so that is tested. */
import { fail } from "../base/errors.ts";
import type { KeptSet } from "../gpt2/kept-set.ts";
import type { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import type { Response } from "../sample/generate.ts";
import type { Adjustments } from "../sample/transforms.ts";
import { askInParts, type Experience, put } from "./batch.ts";

/**
 * Whether tokens can be draws from the distributions they are scored under. Sums over tokens.
 *
 * Where x ~ p, the surprise -log p(x) is on average the entropy of p, and the end of text comes as often as p says. Both
 * differences are sums of terms with mean zero given what came before.
 */
export interface DrawStatistics {
  /** Σ (-log p(x) - H(p)), nats. */
  excessSurprise: number;
  /** Σ (-log p(x) - H(p))²: its variance. */
  variance: number;
  /** Tokens that end a response. */
  ends: number;
  /** Σ p(end of text). */
  expectedEnds: number;
  tokens: number;
}

export const NO_DRAWS: DrawStatistics = { excessSurprise: 0, variance: 0, ends: 0, expectedEnds: 0, tokens: 0 };

/**
 * Token ids as experience: log-probs and values from one forward pass of the policy as it is now, over all tokens.
 * @param partSize responses per forward pass
 * @returns the experience, and `before` with the statistics of these tokens added
 */
export async function givenExperience(
  model: GPT2HeadWithValueModel,
  queries: readonly Int32Array[],
  responses: readonly Int32Array[],
  adjustments: Adjustments,
  partSize: number,
  before: DrawStatistics,
): Promise<{ data: Experience; draws: DrawStatistics }> {
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
  const draws = { ...before };
  const { nPositions } = model.config;
  const { eosTokenIds } = model;
  for (const { asked, index } of askInParts(data, partSize, nPositions)) {
    const { logprobs, values, entropies } = await model.score(asked);
    put(logprobs, data.logprobs, index);
    put(values, data.values, index);
    logprobs.forEach((logprob, i) => {
      const excess = -logprob - entropies[i];
      draws.excessSurprise += excess;
      draws.variance += excess ** 2;
      if (eosTokenIds.includes(asked.ids[i])) draws.ends++;
    });
    draws.tokens += index.length;
    for (const id of eosTokenIds) {
      const ends = await model.score({ ...asked, ids: new Int32Array(index.length).fill(id) }, ["logprobs"]);
      for (const logprob of ends.logprobs) draws.expectedEnds += Math.exp(logprob);
    }
  }
  return { data, draws };
}

/** @throws usage - not as many queries, responses and scores; a response without tokens; a score that is not finite */
export function checkGiven(
  queries: readonly Int32Array[],
  responses: readonly (Int32Array | Response)[],
  scores: readonly number[],
): void {
  if (queries.length === 0 || queries.length !== responses.length || queries.length !== scores.length)
    fail("usage", {
      where: "step",
      found: `${queries.length} queries, ${responses.length} responses and ${scores.length} scores`,
      expected: "as many of each, at least one",
      fix: "give a response and a score for each query",
    });
  responses.forEach((response, b) => {
    if ((response instanceof Int32Array ? response : response.tokens).length === 0)
      fail("usage", {
        where: `step, response ${b}`,
        found: "no tokens",
        expected: "at least one: an end-of-text token is one",
        fix: "leave the pair out",
      });
  });
  scores.forEach((score, b) => {
    if (!Number.isFinite(score))
      fail("usage", {
        where: `step, score ${b}`,
        found: String(score),
        expected: "a finite number",
        fix: "correct the reward",
      });
  });
}

/** @throws input - a token that nobody can have drawn, for no text is made of it */
export function checkDrawn(responses: readonly (Int32Array | Response)[], drawable: KeptSet | undefined): void {
  responses.forEach((response, b) => {
    const tokens = response instanceof Int32Array ? response : response.tokens;
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

/** Whether responses carry how they were drawn. */
export function areRecorded(responses: readonly Int32Array[] | readonly Response[]): responses is readonly Response[] {
  return !(responses[0] instanceof Int32Array);
}
