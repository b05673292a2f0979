/** @file A batch of experience: ragged responses in the padded layout of rl/, and what to ask the model about them. */

import type { KeptSet } from "../gpt2/head.ts";
import type { AskedTokens, GPT2HeadWithValueModel } from "../gpt2/model.ts";
import type { Padded } from "../rl/padded.ts";
import type { Rollout } from "../sample/generate.ts";

/** B responses. Per-token arrays are [B, W] row-major, W the longest response; `batch.mask` is 1 where a token exists. */
export interface Experience {
  readonly queries: readonly Int32Array[];
  readonly responses: readonly Int32Array[];
  readonly batch: Padded;
  /** log p under the distribution each token was drawn from. */
  readonly logprobs: Float32Array;
  readonly values: Float32Array;
  readonly temperature: number;
  /** [B, W]; undefined when every token could have been drawn, everywhere. */
  readonly kept?: readonly KeptSet[];
}

/** Rollouts of one batch, put together. */
export function experience(rollouts: readonly Rollout[]): Experience {
  const queries = rollouts.flatMap((r) => r.queries);
  const responses = rollouts.flatMap((r) => r.responses);
  const rows = responses.length;
  const width = Math.max(...responses.map((r) => r.tokens.length));
  const mask = new Uint8Array(rows * width);
  const logprobs = new Float32Array(rows * width);
  const values = new Float32Array(rows * width);
  const kept: KeptSet[] = new Array(rows * width).fill(undefined);
  responses.forEach((r, b) => {
    mask.fill(1, b * width, b * width + r.tokens.length);
    logprobs.set(r.logprobs, b * width);
    values.set(r.values, b * width);
    r.kept.forEach((set, t) => {
      kept[b * width + t] = set;
    });
  });
  return {
    queries,
    responses: responses.map((r) => r.tokens),
    batch: { rows, width, mask },
    logprobs,
    values,
    temperature: rollouts[0].temperature,
    kept: kept.some((set) => set !== undefined) ? kept : undefined,
  };
}

/** Sequence lengths are rounded up to a multiple of this, so that few programs serve all lengths. */
const LENGTH_MULTIPLE = 8;

/**
 * The response tokens of some rows as a question to the model.
 * @returns what to ask, and for each asked token its index in the [B, W] arrays
 */
export function ask(
  data: Experience,
  rows: ArrayLike<number>,
  nPositions: number,
): { asked: AskedTokens; index: Int32Array } {
  const { width } = data.batch;
  const list = Array.from(rows);
  // The last token is predicted but not read.
  const lengths = list.map((b) => data.queries[b].length + data.responses[b].length - 1);
  const T = Math.min(nPositions, Math.ceil(Math.max(...lengths) / LENGTH_MULTIPLE) * LENGTH_MULTIPLE);
  const count = list.reduce((n, b) => n + data.responses[b].length, 0);
  const ids = new Int32Array(list.length * T);
  const askedRows = new Int32Array(count);
  const askedIds = new Int32Array(count);
  const index = new Int32Array(count);
  let i = 0;
  list.forEach((b, r) => {
    const query = data.queries[b];
    const response = data.responses[b];
    ids.set(query, r * T);
    ids.set(response.subarray(0, response.length - 1), r * T + query.length);
    for (let t = 0; t < response.length; t++, i++) {
      askedRows[i] = r * T + query.length - 1 + t; // the position before the token predicts it
      askedIds[i] = response[t];
      index[i] = b * width + t;
    }
  });
  const kept = data.kept && Array.from(index, (j) => data.kept?.[j]);
  return {
    asked: {
      tokens: { ids, B: list.length, T },
      rows: askedRows,
      ids: askedIds,
      distribution: { temperature: data.temperature, kept },
    },
    index,
  };
}

/** Log-probs and values of every response token under a model's weights, [B, W], in parts of `partSize` rows. */
export async function scoreExperience(
  model: GPT2HeadWithValueModel,
  data: Experience,
  partSize: number,
): Promise<{ logprobs: Float32Array; values: Float32Array }> {
  const { rows, width } = data.batch;
  const logprobs = new Float32Array(rows * width);
  const values = new Float32Array(rows * width);
  for (let start = 0; start < rows; start += partSize) {
    const part = Array.from({ length: Math.min(partSize, rows - start) }, (_, i) => start + i);
    const { asked, index } = ask(data, part, model.config.nPositions);
    const scores = await model.score(asked);
    index.forEach((j, i) => {
      logprobs[j] = scores.logprobs[i];
      values[j] = scores.values[i];
    });
  }
  return { logprobs, values };
}

/** `from` at the given places: [B, W] -> [R]. */
export function pick(from: Float32Array, index: Int32Array): Float32Array {
  return Float32Array.from(index, (j) => from[j]);
}
